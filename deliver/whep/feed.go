package whep

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// A feed cuts one stream into packets, from its first viewer to its last: a
// published one, or the pictures of a rendition.
type feed struct {
	hub    *stream.Hub
	stream *stream.Stream
	name   string // of the rendition; sourceLayer: it is the published stream
	source *feed  // of the published stream; itself, if it is that
	out    webrtc.Cutter
	cancel context.CancelFunc

	// guarded by Handler.mu
	users    int
	watchers map[*viewer]struct{} // of a published stream: its viewers, whatever pictures they see
	counted  time.Time            // when count was taken
	count    int                  // viewers of all protocols
}

// feed returns the feed of a published stream, with one more user. It takes sub
// over.
func (h *Handler) feed(sub *stream.Subscriber) *feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &feed{hub: h.Server.Hub, stream: sub.Stream(), name: sourceLayer, watchers: make(map[*viewer]struct{})}
	f.source = f
	return h.use(f, sub)
}

// rendition returns the feed of a rendition, with one more user. Called with h.mu
// held.
func (h *Handler) rendition(source *feed, r *stream.Rendition) (*feed, error) {
	sub, err := r.Subscribe(&stream.SubscribeOptions{Live: true})
	if err != nil {
		return nil, err
	}
	f := &feed{hub: source.hub, stream: sub.Stream(), name: r.Name(), source: source}
	f.out.Clock = &source.out
	return h.use(f, sub), nil
}

// use begins a feed, or returns the one that there is of its stream, with one more
// user. It takes sub over. Called with h.mu held.
func (h *Handler) use(f *feed, sub *stream.Subscriber) *feed {
	if there := h.feeds[f.stream]; there != nil {
		there.users++
		sub.Close()
		return there
	}
	f.users = 1
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(context.Background())
	if h.feeds == nil {
		h.feeds = make(map[*stream.Stream]*feed)
	}
	h.feeds[f.stream] = f
	go func() {
		f.run(ctx, sub, func(now time.Time) { h.adapt(f, now) })
		h.mu.Lock()
		if h.feeds[f.stream] == f {
			delete(h.feeds, f.stream)
		}
		h.mu.Unlock()
		if f.source == f {
			f.out.End()
		} else {
			h.lost(f)
		}
	}()
	return f
}

// drop takes a user off; the feed ends with its last. Called with h.mu held.
func (h *Handler) drop(f *feed) {
	if f.users--; f.users == 0 {
		f.cancel()
		if h.feeds[f.stream] == f {
			delete(h.feeds, f.stream)
		}
	}
}

// young is for how long after its beginning a stream may have tracks that are not
// known yet.
const young = 4 * time.Second

// settled returns the tracks that viewers get, once they are there, within a
// bound. pictures is the rendition that they want, or nil.
func (f *feed) settled(ctx context.Context, bound time.Duration, pictures *stream.Rendition) []*stream.Track {
	until, grown := time.Now().Add(bound), f.stream.Started().Add(young)
	for {
		tracks := f.stream.Tracks()
		kind := func(k stream.Kind) bool {
			return slices.ContainsFunc(tracks, func(t *stream.Track) bool { return t.Kind() == k })
		}
		video, audio := kind(stream.Video), kind(stream.Audio)
		if t, _ := f.sound(); t != nil {
			tracks = append(slices.Clone(tracks), t)
		}
		if pictures != nil { // before the others: one of video is taken
			tracks = append(slices.Clone(pictures.Tracks()), slices.DeleteFunc(slices.Clone(tracks), func(t *stream.Track) bool {
				return t.Kind() == stream.Video
			})...)
		}
		now := time.Now()
		if heard(tracks) != nil && video || !now.Before(until) && (video && audio || !now.Before(grown)) {
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

// sound returns the sound that is not the published stream's own, because WebRTC
// can't carry that, and how to read it. It is nil if there is none, or none is
// needed.
func (f *feed) sound() (*stream.Track, func() (*stream.Subscriber, error)) {
	if heard(f.stream.Tracks()) != nil {
		return nil, nil
	}
	for _, r := range f.stream.Renditions() {
		if t := r.Tracks(); len(t) == 1 && heard(t) != nil { // of sound alone
			return t[0], func() (*stream.Subscriber, error) { return r.Subscribe(&stream.SubscribeOptions{Live: true}) }
		}
	}
	return nil, nil
}

// run cuts what sub reads, until the stream or ctx ends. look is called now and
// then for a published stream.
func (f *feed) run(ctx context.Context, sub *stream.Subscriber, look func(time.Time)) {
	defer f.cancel()
	if f.source != f {
		f.follow(ctx, sub, stream.Video)
		return
	}
	var done sync.WaitGroup
	done.Go(func() { f.hear(ctx) })
	done.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				look(now)
			case <-ctx.Done():
				return
			}
		}
	})
	f.follow(ctx, sub, 0)
	f.cancel()
	done.Wait()
}

// again is how long a feed waits before it looks for a rendition of the sound,
// once more.
const again = 200 * time.Millisecond

// hear cuts the sound that does not come with the pictures, if there is one.
func (f *feed) hear(ctx context.Context) {
	for ctx.Err() == nil {
		if _, read := f.sound(); read != nil {
			if sub, err := read(); err == nil {
				f.follow(ctx, sub, stream.Audio)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// follow cuts what sub reads, if not 0 of one kind only, until its end or that of
// ctx.
func (f *feed) follow(ctx context.Context, sub *stream.Subscriber, only stream.Kind) {
	defer sub.Close()
	var batch [16]*stream.Frame
	for {
		n, err := sub.Read(ctx, batch[:])
		frames := batch[:n]
		if only != 0 {
			frames = slices.DeleteFunc(frames, func(fr *stream.Frame) bool { return fr.Track.Kind() != only })
		}
		f.out.Cut(frames)
		f.observe(frames)
		clear(batch[:n])
		if err != nil {
			return
		}
	}
}

// observe notes how long frames that have been sent were here.
func (f *feed) observe(frames []*stream.Frame) {
	now := time.Now()
	for _, fr := range frames {
		if n := f.out.Viewers(fr.Track.Kind()); n > 0 {
			f.source.stream.Latency.Observe(now.Sub(fr.Arrived()), n)
			f.hub.Latency.Observe(now.Sub(fr.Arrived()), n)
		}
	}
}
