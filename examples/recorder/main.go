// Recorder takes RTMP publishers and records them
// into files that play while they are written:
//
//	go run ./examples/recorder -dir recordings
//	ffmpeg -re -i FILE -c copy -f flv rtmp://localhost:1935/live/cam
//
// What it has recorded is listed at http://localhost:8080/, and each file is below
// that by its name. With -demo it publishes a stream itself. Killed at any moment, it
// completes what it left when it is started again. Every flag can be set by the
// environment too: -segment by RUNNEL_SEGMENT. Only this machine may use it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "recorder:", err)
		}
		os.Exit(1)
	}
}

// run records until ctx ends, completes the files, and returns nil.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	fs := flag.NewFlagSet("recorder", flag.ContinueOnError)
	rtmp := fs.String("rtmp", ":1935", "address for RTMP publishers; empty: off")
	dir := fs.String("dir", "recordings", "where the files go")
	web := fs.String("http", "localhost:8080", "address that serves what is recorded; empty: off")
	name := fs.String("name", record.DefaultName, "template of their names")
	segment := fs.Duration("segment", 0, "begin another file after so much; 0: never")
	demo := fs.Bool("demo", false, "publish a demo stream as live/demo")
	var format record.Format
	fs.TextVar(&format, "format", record.MP4, "mp4, flv or hls")
	if err := config.Parse(fs, args); err != nil {
		return err
	}

	storage := &record.Dir{Path: *dir}
	defer storage.Close()
	if _, err := record.Repair(ctx, storage, nil); err != nil {
		slog.Warn("not everything could be repaired", "err", err)
	}
	hub := &stream.Hub{}
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		report(hub.Events(context.Background()), stdout) // ends with the hub
	}()
	defer func() {
		hub.Close()
		<-reported
	}()
	recorder := &record.Recorder{
		Hub: hub, Storage: storage,
		Match:  func(string) bool { return true },
		Format: format, Name: *name, Segment: *segment,
		Resume: 5 * time.Second,
	}
	recorded := make(chan error, 1)
	go func() { recorded <- recorder.Run(ctx) }()

	if *rtmp != "" {
		l, err := net.Listen("tcp", *rtmp)
		if err != nil {
			return err
		}
		in := &ingest.Server{Hub: hub, Auth: auth.Func(local)}
		defer in.Close()
		go func() { _ = in.ServeRTMP(l, nil) }() // ends with Close
		fmt.Fprintf(stdout, "publish to rtmp://%v/live/NAME\n", l.Addr())
	}
	if *web != "" {
		l, err := net.Listen("tcp", *web)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: &record.Handler{Library: &record.Library{Storage: storage}, Auth: auth.Func(local)}, ReadHeaderTimeout: 10 * time.Second}
		defer server.Close()
		go func() { _ = server.Serve(l) }() // ends with Close
		fmt.Fprintf(stdout, "recordings at http://%v/\n", l.Addr())
	}
	if *demo {
		go func() { _ = (&streamtest.Source{}).Run(ctx, hub, "live/demo") }() // ends with ctx
	}
	if err := <-recorded; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// report prints what is recorded.
func report(events func(func(stream.Event) bool), w io.Writer) {
	for e := range events {
		switch e := e.(type) {
		case stream.RecordingStarted:
			fmt.Fprintf(w, "recording %s to %s\n", e.Stream, e.Name)
		case stream.RecordingEnded:
			fmt.Fprintf(w, "recorded  %s to %s, %v\n", e.Stream, e.Name, e.Duration.Round(time.Millisecond))
		}
	}
}

// local lets this machine do everything, but no page of another site that is open in
// a browser here.
func local(_ context.Context, r *auth.Request) (*auth.Grant, error) {
	if r.Remote.Addr().IsLoopback() && r.Origin == "" {
		return nil, nil
	}
	return nil, auth.ErrDenied
}
