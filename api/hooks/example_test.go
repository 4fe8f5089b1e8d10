package hooks_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/runnel-media/runnel/api/hooks"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/stream"
)

// A service that was written for SRS decides who may publish.
func Example() {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"code": 1}`)
	}))
	defer service.Close()

	hub := &stream.Hub{}
	calls := &hooks.Callbacks{Hub: hub, Auth: auth.AllowAll, URLs: hooks.URLs{hooks.OnPublish: {service.URL}}}
	in := &ingest.Server{Hub: hub, Auth: calls}
	_, err := in.Publish(context.Background(), &auth.Request{Stream: "live/cam", App: "live", Name: "cam"}, nil)
	fmt.Println(err)
	// Output: auth: denied: on_publish said code 1
}
