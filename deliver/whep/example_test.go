package whep_test

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/deliver/whep"
	"github.com/runnel-media/runnel/stream"
)

// A browser plays http://HOST/whep/live/NAME.
func ExampleHandler() {
	hub := &stream.Hub{}
	out := &deliver.Server{Hub: hub, Auth: auth.AllowAll}

	media, err := net.ListenPacket("udp4", "127.0.0.1:0") // ":8000" on a server
	if err != nil {
		log.Fatal(err)
	}
	transport := &whep.Transport{}
	go transport.ServePacket(media)
	defer transport.Close()

	mux := http.NewServeMux()
	mux.Handle("/whep/", http.StripPrefix("/whep", &whep.Handler{Server: out, Transport: transport}))
	server := httptest.NewServer(mux)
	defer server.Close()

	request, _ := http.NewRequest("OPTIONS", server.URL+"/whep/live/cam", nil)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	answer.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	fmt.Println("it takes", answer.Header.Get("Accept-Post"))
	// Output: it takes application/sdp
}
