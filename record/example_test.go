package record_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A Recorder that records every stream, and what it has recorded of one.
func Example() {
	dir, err := os.MkdirTemp("", "recordings")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	hub := &stream.Hub{}
	storage := &record.Dir{Path: dir}
	defer storage.Close()
	recorder := &record.Recorder{
		Hub: hub, Storage: storage,
		Match: func(string) bool { return true },
		Name:  "{app}/{name}",
		Log:   slog.New(slog.DiscardHandler),
	}
	done := make(chan error)
	go func() { done <- recorder.Run(context.Background()) }()

	clip := &streamtest.Source{Duration: time.Second}
	if err := clip.Run(context.Background(), hub, "live/cam"); err != nil {
		panic(err)
	}
	hub.Close() // ends Run, when everything is complete
	<-done

	library := &record.Library{Storage: storage}
	list, err := library.List(context.Background(), record.Query{Stream: "live/cam"})
	if err != nil {
		panic(err)
	}
	for _, info := range list {
		fmt.Println(info.Name, info.Duration.Round(100*time.Millisecond), info.Tracks[0].Codecs)
	}
	// Output: live/cam.mp4 1s avc1.64001f
}

// Serving recordings to those who may play the stream, or have a signed URL.
func ExampleHandler() {
	key := []byte("32 random bytes, kept secret ...")
	handler := &record.Handler{
		Library: &record.Library{Storage: &record.Dir{Path: "recordings"}},
		Auth:    auth.AllowAll, // yours
		Key:     key,
	}
	http.Handle("/recordings/", http.StripPrefix("/recordings", handler))
	query := handler.Sign("live/cam.mp4", time.Now().Add(time.Hour))
	fmt.Println(len(query) > 0)
	// Output: true
}

// Keys for recordings that are encrypted before they leave this process.
func ExampleEncrypt() {
	keys := record.StaticKeys{{ID: "2026", Key: make([]byte, 32)}} // random, from a vault
	storage := record.Encrypt(&record.Dir{Path: "recordings"}, keys)
	_ = &record.Recorder{Hub: &stream.Hub{}, Storage: storage}
}

func ExamplePattern() {
	match, err := record.Pattern("live/*", "events/**")
	fmt.Println(match("live/cam"), match("events/2026/opening"), match("private/cam"), err)
	// Output: true true false <nil>
}
