package whip_test

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
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/ingest/whip"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
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

// What a stream has is published to a WHIP endpoint, such as another Runnel's.
func ExampleClient() {
	log := slog.New(slog.DiscardHandler)
	there := &stream.Hub{Log: log} // of the server that is published to
	media, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	transport := &whip.Transport{Log: log}
	go transport.ServePacket(media)
	defer transport.Close()
	server := httptest.NewServer(&whip.Handler{Server: &ingest.Server{Hub: there, Auth: auth.AllowAll, Log: log}, Transport: transport})
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	here := &stream.Hub{Log: log}
	defer here.Close()
	go (&streamtest.Source{NoAudio: true}).Run(ctx, here, "live/cam") // WebRTC does not carry its AAC
	camera, err := here.Subscribe(ctx, "live/cam", &stream.SubscribeOptions{Wait: time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &whip.Client{URL: server.URL + "/live/cam", Token: "secret"}
	published := make(chan error, 1)
	go func() { published <- client.Publish(ctx, camera) }()

	viewer, err := there.Subscribe(ctx, "live/cam", &stream.SubscribeOptions{Wait: time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	for frame := range viewer.Frames(ctx) {
		fmt.Println("it came there:", frame.Track.CodecString())
		break
	}
	cancel()
	<-published
	there.Close()
	// Output: it came there: avc1.64001f
}
