package main

import (
	"context"
	"log/slog"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/transcode"
	"github.com/runnel-media/runnel/stream/transcode/goaac"
)

// startAudio gives streams renditions of their sound in the codecs that players may
// need instead. It costs nothing while nobody reads one. This program is linked with
// code under the LGPL because of it; see package goaac.
func startAudio(ctx context.Context, hub *stream.Hub, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		audio := &transcode.Audio{Hub: hub, Log: log, AAC: goaac.Codec{}}
		_ = audio.Run(ctx) // ends with ctx
	}()
	return func() { cancel(); <-done }
}
