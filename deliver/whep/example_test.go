package whep_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/deliver/whep"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
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

// What a WHEP endpoint plays, such as another Runnel's, becomes a stream here.
func ExampleClient() {
	log := slog.New(slog.DiscardHandler)
	there := &stream.Hub{Log: log} // of the server that plays
	media, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	transport := &whep.Transport{Log: log}
	go transport.ServePacket(media)
	defer transport.Close()
	server := httptest.NewServer(&whep.Handler{Server: &deliver.Server{Hub: there, Auth: auth.AllowAll, Log: log}, Transport: transport, Wait: time.Minute})
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go (&streamtest.Source{}).Run(ctx, there, "live/cam")

	here := &stream.Hub{Log: log}
	defer here.Close()
	client := &whep.Client{URL: server.URL + "/live/cam", Token: "secret"}
	camera, err := here.Publish(ctx, "live/cam", &stream.PublishOptions{OnKeyRequest: client.RequestKey})
	if err != nil {
		fmt.Println(err)
		return
	}
	viewer, err := here.Subscribe(ctx, "live/cam", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	played := make(chan error, 1)
	go func() { played <- client.Play(ctx, camera) }()
	for frame := range viewer.Frames(ctx) {
		fmt.Println("it came here:", frame.Track.CodecString())
		break
	}
	cancel()
	<-played
	there.Close()
	// Output: it came here: avc1.64001f
}
