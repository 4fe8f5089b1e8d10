package webrtc

import (
	"context"
	"time"

	"github.com/runnel-media/runnel/internal/vpx"
	"github.com/runnel-media/runnel/stream"
)

// A layer is one picture of a simulcast.
type layer struct {
	of *assembled

	width, height int // of its last key frame
	last          time.Time
	bytes, frames int // since counted
	counted       time.Time
	bandwidth     int64 // bits a second, of the last full interval
	fps           float64

	remove func()            // takes its rendition away; nil: it has none
	out    *stream.Publisher // of its rendition, while somebody reads that
	told   *stream.Track     // what out knows
	newest time.Duration     // DTS of what was written to it last
}

const (
	// layerGone is how long a layer may be silent before another takes its
	// place: senders stop layers for which there is no bandwidth, or no CPU.
	layerGone  = time.Second
	countLayer = time.Second // over how long a layer's rate is counted
)

// observe notes what a frame tells of its layer.
func (l *layer) observe(f *Frame) {
	now := f.Arrived
	if f.Key {
		switch info, _ := l.of.track.Video(); l.of.in.Codec {
		case stream.VP8:
			l.resize(vpx.VP8Key(f.Data))
		case stream.VP9:
			l.resize(vpx.VP9Size(f.Data))
		default:
			l.resize(info.Width, info.Height, info.Width > 0)
		}
	}
	if passed := now.Sub(l.counted); l.counted.IsZero() || passed > 2*countLayer {
		l.counted, l.bytes, l.frames = now, 0, 0
	} else if passed >= countLayer {
		l.bandwidth = int64(float64(l.bytes) * 8 / passed.Seconds())
		l.fps = float64(l.frames) / passed.Seconds()
		l.counted, l.bytes, l.frames = now, 0, 0
	}
	l.bytes += len(f.Data)
	l.frames++
	l.last = now
}

func (l *layer) resize(width, height int, ok bool) {
	if ok {
		l.width, l.height = width, height
	}
}

func (l *layer) alive(now time.Time) bool { return now.Sub(l.last) < layerGone }

// finer reports whether l is the better picture: the larger one, or of the same
// size that of clearly more bits.
func (l *layer) finer(o *layer) bool {
	if a, b := l.width*l.height, o.width*o.height; a != b {
		return a > b
	}
	return float64(l.bandwidth) > 1.25*float64(o.bandwidth)
}

// info says what is known of the layer.
func (l *layer) info(now time.Time) stream.RenditionInfo {
	return stream.RenditionInfo{
		Name: l.of.in.Layer, Tracks: []*stream.Track{l.of.track}, Bandwidth: l.bandwidth, Width: l.width, Height: l.height, FPS: l.fps,
		Idle: !l.alive(now),
	}
}

// elect says whether a frame of a layer is one of the published pictures: those
// of the finest layer that comes. It takes the place of another with a key frame.
// Called with a.mu held.
func (a *Assembler) elect(l *layer, f *Frame) bool {
	switch {
	case a.main == l:
		return true
	case a.main == nil && !f.Key:
		return false
	case a.main == nil || l.finer(a.main) || !a.main.alive(f.Arrived) && a.finest(f.Arrived) == l:
		if !f.Key {
			a.wish(l)
			return false
		}
		before := a.main
		if a.main = l; before != nil && before.alive(f.Arrived) {
			a.derive(before)
		}
		return true
	}
	return false
}

// finest returns the best of the layers that come.
func (a *Assembler) finest(now time.Time) (best *layer) {
	for _, t := range a.tracks {
		if l := t.layer; l != nil && l.alive(now) && (best == nil || l.finer(best)) {
			best = l
		}
	}
	return best
}

// wish asks the peer for a key frame of a layer.
func (a *Assembler) wish(l *layer) {
	if a.RequestKey != nil {
		a.RequestKey(l.of.in)
	}
}

// derive makes a layer a rendition of the stream. Called with a.mu held.
func (a *Assembler) derive(l *layer) {
	if l.remove != nil || a.closed {
		return
	}
	remove, err := a.Publisher.Stream().Derive(&stream.Derivation{
		Renditions: []stream.RenditionInfo{l.info(l.last)},
		Source:     stream.SubscribeOptions{Live: true},
		Linger:     time.Second,
		Info: func(string) stream.RenditionInfo {
			a.mu.Lock()
			defer a.mu.Unlock()
			return l.info(time.Now())
		},
		OnKeyRequest: func(string) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.wish(l)
		},
		// What is written comes from Frame. The stream is read only to know
		// its end.
		Make: func(ctx context.Context, src *stream.Subscriber, outs []*stream.Publisher) error {
			a.mu.Lock()
			l.out, l.told = outs[0], nil
			a.wish(l)
			a.mu.Unlock()
			defer func() {
				a.mu.Lock()
				if l.out == outs[0] {
					l.out = nil
				}
				a.mu.Unlock()
			}()
			for _, err := range src.Frames(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	})
	if err == nil { // else the name is taken still, by a publisher before: it is tried again
		l.remove = remove
	}
}

// write writes a frame to the layer's rendition. Called with a.mu held.
func (l *layer) write(f *stream.Frame) {
	if l.out == nil {
		return
	}
	if l.told != f.Track {
		if l.out.SetTracks(f.Track) != nil {
			return
		}
		l.told, l.newest = f.Track, f.DTS-1
	}
	if f.DTS <= l.newest { // the clocks have been put right
		f.DTS = l.newest + time.Microsecond
		f.PTS = f.DTS
	}
	l.newest = f.DTS
	_ = l.out.Write(f) // an error: nobody reads it any more
}

// Main returns the layer that is published, nil if there are no layers.
func (a *Assembler) Main() *Incoming {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.main == nil {
		return nil
	}
	return a.main.of.in
}

// Close takes the renditions away.
func (a *Assembler) Close() {
	a.mu.Lock()
	a.closed = true
	var removes []func()
	for _, t := range a.tracks {
		if t.layer != nil && t.layer.remove != nil {
			removes = append(removes, t.layer.remove)
			t.layer.remove = nil
		}
	}
	a.mu.Unlock()
	for _, remove := range removes {
		remove()
	}
}
