package whep

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// A feed cuts one stream into packets, from its first viewer to its last.
type feed struct {
	stream *stream.Stream
	out    webrtc.Feed
	cancel context.CancelFunc

	// guarded by Handler.mu
	viewers int
	counted time.Time // when count was taken
	count   int       // viewers of all protocols

	mu      sync.Mutex // held while a frame is cut
	tracks  []*stream.Track
	anchor  time.Time // wall clock at the stream's time 0
	shown   time.Duration
	refused bool // the video reorders its pictures in a way that can't be left out
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
	f := &feed{stream: s, cancel: cancel, viewers: 1}
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

// settled returns the tracks that viewers get, once they are there, within a
// bound.
func (f *feed) settled(ctx context.Context, bound time.Duration) []*stream.Track {
	until := time.Now().Add(bound)
	for {
		tracks := f.stream.Tracks()
		if r := f.sound(); r != nil {
			tracks = append(slices.Clone(tracks), r.Tracks()...)
		}
		sound := slices.ContainsFunc(tracks, func(t *stream.Track) bool { return t.Kind() == stream.Audio && carries(t.Codec) })
		video := slices.ContainsFunc(tracks, func(t *stream.Track) bool { return t.Kind() == stream.Video })
		if sound && video || !time.Now().Before(until) {
			return tracks
		}
		select {
		case <-ctx.Done():
			return tracks
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// carries reports whether WebRTC can carry a codec's sound.
func carries(c stream.Codec) bool {
	return c == stream.Opus || c == stream.PCMA || c == stream.PCMU
}

// sound returns the rendition that stands in for a sound that WebRTC can't
// carry, nil if there is none, or none is needed.
func (f *feed) sound() *stream.Rendition {
	if slices.ContainsFunc(f.stream.Tracks(), func(t *stream.Track) bool { return carries(t.Codec) }) {
		return nil
	}
	for _, r := range f.stream.Renditions() {
		// One of sound alone.
		if t := r.Tracks(); len(t) == 1 && carries(t[0].Codec) {
			return r
		}
	}
	return nil
}

// run cuts what sub reads, until the stream or ctx ends.
func (f *feed) run(ctx context.Context, sub *stream.Subscriber) {
	defer f.cancel()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		f.hear(ctx)
	}()
	f.follow(ctx, sub)
	f.cancel()
	<-heard
}

// again is how long a feed waits before it looks for a rendition of the sound,
// once more.
const again = 200 * time.Millisecond

// hear cuts the rendition of the sound, if there is to be one.
func (f *feed) hear(ctx context.Context) {
	for ctx.Err() == nil {
		if r := f.sound(); r != nil {
			if sub, err := r.Subscribe(&stream.SubscribeOptions{Live: true}); err == nil {
				f.follow(ctx, sub)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// follow cuts what sub reads, until its end or that of ctx.
func (f *feed) follow(ctx context.Context, sub *stream.Subscriber) {
	defer sub.Close()
	var batch [16]*stream.Frame
	for {
		n, err := sub.Read(ctx, batch[:])
		f.mu.Lock()
		for _, fr := range batch[:n] {
			f.add(fr)
		}
		f.mu.Unlock()
		clear(batch[:n])
		if err != nil {
			return
		}
	}
}

// add cuts one frame.
func (f *feed) add(fr *stream.Frame) {
	if !slices.Contains(f.tracks, fr.Track) && !f.configure(fr.Track) {
		return
	}
	if fr.Track.Kind() == stream.Video && !f.inOrder(fr) {
		return
	}
	// The clock that sender reports tell of: that of the first frame, unless
	// what comes now is far from it, because time has jumped.
	wall := f.anchor.Add(fr.PTS)
	if off := fr.Arrived().Sub(wall); f.anchor.IsZero() || off > time.Second || off < -time.Second {
		f.anchor = fr.Arrived().Add(-fr.PTS)
		wall = fr.Arrived()
	}
	f.out.Write(fr, wall)
}

// configure takes a track, or another configuration of one. It reports whether
// WebRTC can carry it.
func (f *feed) configure(t *stream.Track) bool {
	p := packer(t)
	if p == nil {
		return false
	}
	f.tracks = slices.DeleteFunc(f.tracks, func(o *stream.Track) bool { return o.Kind() == t.Kind() && o.ID == t.ID })
	if slices.ContainsFunc(f.tracks, func(o *stream.Track) bool { return o.Kind() == t.Kind() }) {
		return false // one of each kind
	}
	f.tracks = append(f.tracks, t)
	f.out.SetTrack(t, p)
	return true
}

// packer returns what cuts a track's frames, nil if WebRTC can't carry it.
func packer(t *stream.Track) rtp.Packer {
	switch t.Codec {
	case stream.H264:
		if c, err := h264.ParseConfig(t.Config); err == nil {
			return &rtp.H264{Sets: append(slices.Clone(c.SPS), c.PPS...)}
		}
	case stream.H265:
		if c, err := h265.ParseConfig(t.Config); err == nil {
			var sets [][]byte
			for _, typ := range []byte{h265.TypeVPS, h265.TypeSPS, h265.TypePPS} {
				sets = append(sets, c.Units(typ)...)
			}
			return &rtp.H265{Sets: sets}
		}
	case stream.VP8:
		return &rtp.VP8{}
	case stream.VP9:
		return &rtp.VP9{}
	case stream.AV1:
		return &rtp.AV1{}
	case stream.Opus, stream.PCMA, stream.PCMU:
		return &rtp.Audio{}
	}
	return nil
}

// inOrder reports whether a picture can be sent: WebRTC shows pictures in the
// order in which they are sent. One that is to be shown before another that has
// been sent is left out, if no picture refers to it; the rest stays whole then.
// If one does, leaving it out would break the pictures that do, and so the video
// stops until the next key frame, from which on it may be in order.
func (f *feed) inOrder(fr *stream.Frame) bool {
	if fr.Key {
		f.refused, f.shown = false, fr.PTS
		return true
	}
	if f.refused {
		return false
	}
	if fr.PTS < f.shown {
		f.refused = !disposable(fr)
		return false
	}
	f.shown = fr.PTS
	return true
}

// disposable reports whether no other picture refers to this one.
func disposable(fr *stream.Frame) bool {
	if fr.Discardable {
		return true
	}
	for u := range nal.Units(fr.Data) {
		switch fr.Track.Codec {
		case stream.H264:
			if t := h264.Type(u); t >= h264.TypeSlice && t <= h264.TypeIDR && u[0]&0x60 != 0 {
				return false
			}
		case stream.H265:
			// Sub-layer non-reference pictures have even types up to 14
			// (ITU-T H.265, Table 7-1).
			if t := h265.Type(u); t < 32 && (t > 14 || t&1 != 0) {
				return false
			}
		}
	}
	return true
}
