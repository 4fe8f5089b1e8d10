package transcode

import (
	"context"
	"log/slog"

	"github.com/runnel-media/runnel/stream"
)

// A follower watches the streams of a hub. Its functions are called by one goroutine.
type follower struct {
	hub   *stream.Hub
	match func(streamName string) bool // nil: no stream

	seen func(*stream.Stream) // a live stream that matches, once at least and when its tracks change
	gone func(name string)    // a stream of that name has ended; another may be there already
}

// run follows until ctx ends or the hub is closed.
func (f *follower) run(ctx context.Context) {
	events := f.hub.Events(ctx)
	f.scan()
	for e := range events {
		switch e := e.(type) {
		case stream.StreamStarted:
			f.look(e.Stream)
		case stream.TracksChanged:
			f.look(e.Stream)
		case stream.StreamEnded:
			f.gone(e.Stream)
		case stream.EventsLost:
			f.scan()
		}
	}
}

func (f *follower) scan() {
	for s := range f.hub.Streams() {
		f.look(s.Name())
	}
}

func (f *follower) look(name string) {
	if f.match == nil || !f.match(name) {
		return
	}
	if s := f.hub.Stream(name); s != nil {
		f.seen(s)
	}
}

// videoOf returns the first track of video, or nil.
func videoOf(tracks []*stream.Track) *stream.Track { return firstOf(tracks, stream.Video) }

func firstOf(tracks []*stream.Track, kind stream.Kind) *stream.Track {
	for _, t := range tracks {
		if t.Kind() == kind {
			return t
		}
	}
	return nil
}

func logger(l *slog.Logger) *slog.Logger {
	if l != nil {
		return l
	}
	return slog.Default()
}
