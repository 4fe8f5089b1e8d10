package whip_test

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/ingest/whip"
	"github.com/runnel-media/runnel/stream"
)

// A browser, or OBS, publishes to http://HOST/whip/live/NAME.
func ExampleHandler() {
	hub := &stream.Hub{}
	in := &ingest.Server{Hub: hub, Auth: auth.AllowAll}

	media, err := net.ListenPacket("udp4", "127.0.0.1:0") // ":8000" on a server
	if err != nil {
		log.Fatal(err)
	}
	transport := &whip.Transport{}
	go transport.ServePacket(media)
	defer transport.Close()

	mux := http.NewServeMux()
	mux.Handle("/whip/", http.StripPrefix("/whip", &whip.Handler{Server: in, Transport: transport}))
	server := httptest.NewServer(mux)
	defer server.Close()

	request, _ := http.NewRequest("OPTIONS", server.URL+"/whip/live/cam", nil)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	answer.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	fmt.Println("it takes", answer.Header.Get("Accept-Post"))
	// Output: it takes application/sdp
}
