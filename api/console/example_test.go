package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/runnel-media/runnel/api"
	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/console"
	"github.com/runnel-media/runnel/api/mediaapi"
	"github.com/runnel-media/runnel/stream"
)

// The console and the API that it asks, on one address.
func Example() {
	hub := &stream.Hub{}
	defer hub.Close()
	gate := &access.Gate{}
	web := httptest.NewServer(&api.Handler{
		Gate: gate, Media: &mediaapi.Handler{Hub: hub, Gate: gate}, Console: console.Handler(),
	})
	defer web.Close()
	r, err := http.Get(web.URL + "/console/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Body.Close()
	fmt.Println(r.Status, r.Header.Get("Content-Type"))
	// Output: 200 OK text/html; charset=utf-8
}
