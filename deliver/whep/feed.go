package whep

import (
	"context"
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// A feed cuts one stream into packets, from its first viewer to its last.
type feed struct {
	hub    *stream.Hub
	stream *stream.Stream // whose pictures are cut: a rendition, or
	source *stream.Stream // the one that is published, whose sound is
	out    webrtc.Cutter
	cancel context.CancelFunc

	// guarded by Handler.mu
	viewers int
	counted time.Time // when count was taken
	count   int       // viewers of all protocols
}

// feed returns the stream's feed, with one more viewer. It takes sub over.
func (h *Handler) feed(sub *stream.Subscriber) *feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := sub.Stream()
	if f := h.feeds[s]; f != nil {
		f.viewers++
		sub.Close()
		return f
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &feed{hub: h.Server.Hub, stream: s, source: s, cancel: cancel, viewers: 1}
	if published := f.hub.Stream(s.Name()); published != nil {
		f.source = published
	}
	if h.feeds == nil {
		h.feeds = make(map[*stream.Stream]*feed)
	}
	h.feeds[s] = f
	go func() {
		f.run(ctx, sub)
		h.mu.Lock()
		if h.feeds[s] == f {
			delete(h.feeds, s)
		}
		h.mu.Unlock()
		f.out.End()
	}()
	return f
}

// drop takes a viewer off; the feed ends with its last.
func (h *Handler) drop(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.viewers--; f.viewers == 0 {
		f.cancel()
		if h.feeds[f.stream] == f {
			delete(h.feeds, f.stream)
		}
	}
}

// renditionPatience is how long the first viewer of a rendition waits for what
// makes it to begin.
const renditionPatience = 6 * time.Second

// settled returns the tracks that viewers get, once they are there, within a
// bound.
func (f *feed) settled(ctx context.Context, bound time.Duration) []*stream.Track {
	until := time.Now().Add(bound)
	for {
		tracks := f.stream.Tracks()
		if t, _ := f.sound(); t != nil {
			tracks = append(slices.Clone(tracks), t)
		}
		video := slices.ContainsFunc(tracks, func(t *stream.Track) bool { return t.Kind() == stream.Video })
		if heard(tracks) != nil && video || !time.Now().Before(until) {
			return tracks
		}
		select {
		case <-ctx.Done():
			return tracks
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// heard returns the track whose sound WebRTC can carry, nil if there is none.
func heard(tracks []*stream.Track) *stream.Track {
	for _, t := range tracks {
		if t.Codec == stream.Opus || t.Codec == stream.PCMA || t.Codec == stream.PCMU {
			return t
		}
	}
	return nil
}

// sound returns the sound that does not come with the pictures, and how to read
// it: that of the published stream, if the pictures are a rendition's, or a
// rendition of it, if WebRTC can't carry it. It is nil if there is none, or none
// is needed.
func (f *feed) sound() (*stream.Track, func(context.Context) (*stream.Subscriber, error)) {
	if heard(f.stream.Tracks()) != nil {
		return nil, nil
	}
	live := &stream.SubscribeOptions{Live: true}
	if t := heard(f.source.Tracks()); t != nil {
		return t, func(ctx context.Context) (*stream.Subscriber, error) {
			return f.hub.Subscribe(ctx, f.source.Name(), live)
		}
	}
	for _, r := range f.source.Renditions() {
		if t := r.Tracks(); len(t) == 1 && heard(t) != nil { // of sound alone
			return t[0], func(context.Context) (*stream.Subscriber, error) { return r.Subscribe(live) }
		}
	}
	return nil, nil
}

// run cuts what sub reads, until the stream or ctx ends.
func (f *feed) run(ctx context.Context, sub *stream.Subscriber) {
	defer f.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.hear(ctx)
	}()
	f.follow(ctx, sub, false)
	f.cancel()
	<-done
}

// again is how long a feed waits before it looks for a rendition of the sound,
// once more.
const again = 200 * time.Millisecond

// hear cuts the sound that does not come with the pictures, if there is one.
func (f *feed) hear(ctx context.Context) {
	for ctx.Err() == nil {
		if _, read := f.sound(); read != nil {
			if sub, err := read(ctx); err == nil {
				f.follow(ctx, sub, true)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// follow cuts what sub reads, or its sound only, until its end or that of ctx.
func (f *feed) follow(ctx context.Context, sub *stream.Subscriber, onlySound bool) {
	defer sub.Close()
	var batch [16]*stream.Frame
	for {
		n, err := sub.Read(ctx, batch[:])
		frames := batch[:n]
		if onlySound {
			frames = slices.DeleteFunc(frames, func(fr *stream.Frame) bool { return fr.Track.Kind() != stream.Audio })
		}
		f.out.Cut(frames)
		clear(batch[:n])
		if err != nil {
			return
		}
	}
}
