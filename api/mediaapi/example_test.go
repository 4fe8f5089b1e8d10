package mediaapi_test

import (
	"fmt"
	"net/http/httptest"

	"github.com/runnel-media/runnel/api/mediaapi"
	"github.com/runnel-media/runnel/stream"
)

func ExampleHandler() {
	hub := &stream.Hub{}
	defer hub.Close()
	h := &mediaapi.Handler{Hub: hub} // without a Gate only this machine may ask

	r := httptest.NewRequest("GET", "http://localhost/api/v2/streams", nil)
	r.RemoteAddr = "127.0.0.1:4000"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Print(w.Code, " ", w.Body)
	// Output: 200 {"streams":[],"total":0}
}
