package hls_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/hls"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A stream is fetched from an HLS server while somebody watches.
func ExampleTransport() {
	quiet := slog.New(slog.DiscardHandler)
	hub := &stream.Hub{Log: quiet}
	defer hub.Close()
	out := &deliver.Server{Hub: hub, Auth: auth.AllowAll, Log: quiet, HLS: deliver.HLS{Segment: time.Second}}
	defer out.Close()
	server := httptest.NewServer(out)
	defer server.Close()
	go (&streamtest.Source{}).Run(context.Background(), hub, "live/cam")

	edge := &stream.Hub{Log: quiet}
	defer edge.Close()
	r := &relay.Relay{
		Hub: edge, Log: quiet,
		Origins:    []string{strings.Replace(server.URL, "http", "hls", 1)}, // NAME.m3u8 there
		Transports: map[string]relay.Transport{"hls": &hls.Transport{}},
	}
	defer r.Close()
	edge.Source = r

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	viewer, err := edge.Subscribe(ctx, "live/cam", &stream.SubscribeOptions{Wait: 30 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	defer viewer.Close()
	for f, err := range viewer.Frames(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if f.Key && f.Track.Kind() == stream.Video {
			fmt.Println("a picture in", f.Track.Codec)
			return
		}
	}
	// Output: a picture in h264
}
