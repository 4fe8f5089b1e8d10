package srt_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/srt"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// An edge fetches what its viewers ask for from another server's SRT port.
func ExampleTransport() {
	quiet := slog.New(slog.DiscardHandler)
	hub := &stream.Hub{}
	defer hub.Close()
	in := &ingest.Server{Hub: hub, Auth: auth.AllowAll, Log: quiet}
	defer in.Close()
	port, err := net.ListenPacket("udp4", "127.0.0.1:0") // ":10080" on a server
	if err != nil {
		log.Fatal(err)
	}
	go in.ServeSRT(port, &deliver.Server{Hub: hub, Auth: auth.AllowAll, Log: quiet})
	go (&streamtest.Source{}).Run(context.Background(), hub, "live/cam")

	edge := &stream.Hub{}
	defer edge.Close()
	r := &relay.Relay{
		Hub: edge, Log: quiet,
		Origins:    []string{"srt://" + port.LocalAddr().String() + "?latency=200000"},
		Transports: map[string]relay.Transport{"srt": &srt.Transport{}},
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
