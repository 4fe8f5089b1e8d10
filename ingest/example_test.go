package ingest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/memnet"
	"github.com/runnel-media/runnel/internal/rtmp"
	"github.com/runnel-media/runnel/stream"
)

// A publisher over RTMP, and a program that reads its frames from the hub.
func Example() {
	ctx := context.Background()
	network := memnet.New() // in a real program: package net
	hub := &stream.Hub{}
	in := &ingest.Server{
		Hub: hub,
		Auth: auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			if r.Token != "secret" {
				return nil, auth.ErrDenied
			}
			return &auth.Grant{User: "camera"}, nil
		}),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	ln, err := network.Listen("media.example:1935")
	if err != nil {
		panic(err)
	}
	go in.ServeRTMP(ln, nil) // nil: nobody plays here
	defer in.Close()

	// What an encoder does.
	dialer := rtmp.Dialer{DialContext: network.Dial}
	client, err := dialer.Dial(ctx, "rtmp://media.example/live/cam?token=secret")
	if err != nil {
		panic(err)
	}
	writer, err := client.Publish(ctx)
	if err != nil {
		panic(err)
	}
	defer writer.Close()
	voice := &stream.Track{ID: 2, Codec: stream.MP3}
	if err := writer.SetTracks(voice); err != nil {
		panic(err)
	}

	reader, err := hub.Subscribe(ctx, "live/cam", nil)
	if err != nil {
		panic(err)
	}
	defer reader.Close()
	frame := []byte("\xff\xfb\x90\x64 the rest of an MP3 frame")
	if err := writer.Write(&stream.Frame{Track: voice, Data: frame}); err != nil {
		panic(err)
	}
	for f, err := range reader.Frames(ctx) {
		if err != nil {
			panic(err)
		}
		fmt.Println(f.Track.Codec, len(f.Data), "bytes")
		break
	}
	// Output: mp3 29 bytes
}
