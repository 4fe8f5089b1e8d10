package deliver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/fanout"
	"github.com/runnel-media/runnel/stream"
)

// A muxer turns frames into the bytes of a container. It is used by one
// goroutine.
type muxer interface {
	// supports says why the container cannot carry a track.
	supports(t *stream.Track) error
	// configure is told the tracks from here on, of which there is one at
	// least.
	configure(tracks []*stream.Track, meta stream.Metadata) error
	// prefix returns what a player needs before the frame that starts at dts:
	// everything, or, with a file header already sent, the configuration only.
	prefix(dst []byte, dts time.Duration, whole bool) []byte
	// size is an upper estimate of what appendFrame adds.
	size(f *stream.Frame) int
	// appendFrame adds nothing if the container cannot hold the frame.
	appendFrame(dst []byte, f *stream.Frame) []byte
}

// A feed muxes one stream into one container for all its players of one kind.
// It runs from the first player to the last.
type feed struct {
	server  *Server
	key     feedKey
	log     *fanout.Log
	cancel  context.CancelFunc // its players get what has been muxed, then the end
	viewers int                // guarded by Server.mu

	// owned by run
	mux       muxer
	dub       dubbing         // of the sound
	silent    bool            // it has been said that there is none
	tracks    []*stream.Track // that are sent
	refused   []*stream.Track // that are not
	seen      []*stream.Track // those of the stream when that was decided
	meta      stream.Metadata
	config    []byte // what the muxer makes of tracks and meta
	version   int    // of config
	changed   bool   // config is not in the log yet
	hasVideo  bool
	lastVideo time.Duration
	pointed   bool
	lastPoint time.Duration
	keys      keyWish
}

// newFeed returns a feed that does not run yet.
func (s *Server) newFeed(key feedKey) *feed {
	f := &feed{
		server: s,
		key:    key,
		mux:    key.container.muxer(),
		log: &fanout.Log{
			MaxLag:   s.MaxLag,
			MaxBytes: s.MaxLagBytes,
			Stall:    s.StallTimeout,
			Live:     s.Hub.Cache.Off,
			Latency: func(d time.Duration, n int) {
				key.stream.Latency.Observe(d, n)
				s.Hub.Latency.Observe(d, n)
			},
		},
	}
	if m, ok := f.mux.(*tsMuxer); ok {
		m.join = min(s.WriteInterval, maxJoint)
	}
	f.keys.stream = key.stream
	f.dub = dubbing{stream: key.stream, wanted: key.sound, carries: func(t *stream.Track) bool { return key.takes(f.mux, t) == nil }}
	return f
}

// run muxes what sub reads, until the stream or ctx ends.
func (f *feed) run(ctx context.Context, sub *stream.Subscriber) {
	defer f.cancel()
	defer sub.Close()
	defer f.dub.close()
	f.keys.every(keyEvery) // there may be none to start at
	held, err := f.gather(ctx, sub)
	f.addAll(sub, held)
	f.log.Flush()
	var batch [32]*stream.Frame
	hold := newHold(f.server.WriteInterval)
	for first := true; err == nil; first = false {
		var n int
		if n, err = sub.Read(ctx, batch[:]); n > 0 && !first { // the first player waits already
			hold.wait(ctx)
		}
		for n > 0 && err == nil {
			f.addAll(sub, batch[:n])
			clear(batch[:n])
			n, err = sub.TryRead(batch[:])
		}
		f.log.Flush()
		f.keys.every(keyEvery)
	}
	if errors.Is(err, io.EOF) {
		f.dub.rest(ctx, func(frames []*stream.Frame) { f.addSound(sub, frames) })
	}
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		err = nil
	}
	if m, ok := f.mux.(*tsMuxer); ok && len(m.sounds) > 0 {
		last := m.sounds[len(m.sounds)-1]
		f.append(last, m.size(last), m.appendRest)
	}
	f.log.End(err)
}

// A hold keeps the first frame of several back, so that more go at once. It is
// kept here, before the muxer, and not where players are written to: what costs
// is to be woken, and a feed that waits for the time to be over is woken once
// for all frames that come meanwhile.
type hold struct {
	time.Duration
	timer *time.Timer // nil if the duration is 0
}

// newHold returns one of a duration and a sixteenth: pictures that come just as
// often as they are sent are taken along then, where each would be a moment late
// for those before and cost a write of its own.
func newHold(d time.Duration) hold {
	if d <= 0 {
		return hold{}
	}
	h := hold{d + d/16, time.NewTimer(d)}
	h.timer.Stop()
	return h
}

// wait waits from the arrival of a frame, now, until it is to be sent, or ctx
// ends.
func (h hold) wait(ctx context.Context) {
	if h.timer == nil {
		return
	}
	h.timer.Reset(h.Duration)
	select {
	case <-h.timer.C:
	case <-ctx.Done():
		h.timer.Stop()
	}
}

// settle is how long a feed waits for a stream's tracks to be complete, of
// media or of time.
const settle = 500 * time.Millisecond

// gather reads until the stream's tracks have come, as far as one can tell. An
// FLV header and an MP4 initialization segment cannot be amended later.
func (f *feed) gather(ctx context.Context, sub *stream.Subscriber) (held []*stream.Frame, err error) {
	var batch [32]*stream.Frame
	for {
		var audio, video bool
		for _, t := range sub.Tracks() {
			audio = audio || t.Kind() == stream.Audio
			video = video || t.Kind() == stream.Video
		}
		if f.dub.look(); audio && video && !f.dub.lacking {
			return held, nil
		}
		wait, cancel := ctx, context.CancelFunc(func() {})
		if n := len(held); n > 0 {
			// There may be no further frame for long, and the cached ones of
			// a stream that has been up for a while are old already.
			until := held[0].Arrived().Add(settle)
			if n > 64 || held[n-1].DTS-held[0].DTS >= settle || !time.Now().Before(until) {
				return held, nil
			}
			wait, cancel = context.WithDeadline(ctx, until)
		}
		n, err := sub.Read(wait, batch[:])
		cancel()
		held = append(held, batch[:n]...)
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			return held, err
		}
	}
}

// addAll muxes frames. Players have them at the next flush.
func (f *feed) addAll(sub *stream.Subscriber, frames []*stream.Frame) {
	if len(frames) == 0 {
		return
	}
	if meta := sub.Metadata(); len(f.tracks) > 0 && reflect.ValueOf(meta).Pointer() != reflect.ValueOf(f.meta).Pointer() {
		f.configure(f.tracks, meta)
	}
	f.dub.follow()
	for _, fr := range frames {
		if !f.dub.replaces(fr) {
			f.add(sub, fr)
		}
	}
	f.dub.read(func(frames []*stream.Frame) { f.addSound(sub, frames) })
}

// addSound muxes frames of the rendition.
func (f *feed) addSound(sub *stream.Subscriber, frames []*stream.Frame) {
	for _, fr := range frames {
		if fr.Track.Kind() == stream.Audio {
			f.add(sub, fr)
		}
	}
}

// add muxes one frame.
func (f *feed) add(sub *stream.Subscriber, fr *stream.Frame) {
	if !f.follow(sub, fr) {
		return
	}
	if f.changed { // before the point that fr may be, where the configuration is sent anyway
		f.changed = false
		config := f.mux.prefix(nil, fr.DTS, false)
		f.append(fr, len(config), func(dst []byte) []byte { return append(dst, config...) })
	}
	f.keys.saw(fr)
	if f.isPoint(fr) {
		f.log.Mark(fanout.Point{
			Prefix:  f.wrap(f.mux.prefix(nil, fr.DTS, true)),
			Config:  f.wrap(f.mux.prefix(nil, fr.DTS, false)),
			Version: f.version,
		})
		f.lastPoint, f.pointed = fr.DTS, true
	}
	f.append(fr, f.mux.size(fr), func(dst []byte) []byte { return f.mux.appendFrame(dst, fr) })
}

func (f *feed) append(fr *stream.Frame, size int, write func([]byte) []byte) {
	f.log.Append(fr.Arrived(), size+maxMessageHeader, func(dst []byte) []byte { return f.message(dst, write) })
}

// follow keeps the muxer's configuration that of the frame at hand, and reports
// whether the frame is to be sent.
func (f *feed) follow(sub *stream.Subscriber, fr *stream.Frame) bool {
	if !fr.Discontinuity {
		switch {
		case slices.Contains(f.tracks, fr.Track):
			return true
		case slices.Contains(f.refused, fr.Track) && slices.Equal(f.seen, sub.Tracks()):
			return false
		}
	}
	f.seen = sub.Tracks()
	all := slices.Clone(withSound(f.seen, f.dub.from))
	if !fr.Discontinuity {
		for i, t := range all { // the stream may be ahead of the frame
			if k := slices.IndexFunc(f.tracks, func(o *stream.Track) bool { return o.ID == t.ID }); k >= 0 {
				all[i] = f.tracks[k]
			}
		}
	}
	if i := slices.IndexFunc(all, func(t *stream.Track) bool { return t.ID == fr.Track.ID }); i >= 0 {
		all[i] = fr.Track
	} else {
		all = append(all, fr.Track)
	}
	tracks := f.key.choose(f.mux, all, f.tracks)
	f.refused = slices.DeleteFunc(all, func(t *stream.Track) bool { return slices.Contains(tracks, t) })
	if !slices.Equal(tracks, f.tracks) {
		f.configure(tracks, sub.Metadata())
	}
	f.sayMissing()
	return slices.Contains(f.tracks, fr.Track)
}

// sayMissing says, once, that players get no sound of a stream that has some.
func (f *feed) sayMissing() {
	isSound := func(t *stream.Track) bool { return t.Kind() == stream.Audio }
	if f.silent || !f.hasVideo || slices.ContainsFunc(f.tracks, isSound) {
		return
	}
	if i := slices.IndexFunc(f.refused, isSound); i >= 0 {
		f.silent = true
		name, codec := f.key.stream.Name(), f.refused[i].Codec
		f.server.log().Warn("deliver: players get no sound", "stream", name, "container", f.key.container, "codec", codec)
		f.server.Hub.ReportSoundMissing(stream.SoundMissing{Stream: name, Codec: codec, Wanted: f.key.container.usualSound(), Err: stream.ErrUnsupported})
	}
}

func (f *feed) configure(tracks []*stream.Track, meta stream.Metadata) {
	f.hasVideo = slices.ContainsFunc(tracks, func(t *stream.Track) bool { return t.Kind() == stream.Video })
	f.tracks, f.meta = tracks, meta
	if len(tracks) == 0 {
		return
	}
	if err := f.mux.configure(tracks, meta); err != nil {
		f.server.log().Warn("deliver: cannot mux", "stream", f.key.stream.Name(), "container", f.key.container, "err", err)
		f.refused = append(f.refused, tracks...)
		f.tracks = nil
		return
	}
	if config := f.mux.prefix(nil, 0, false); !bytes.Equal(config, f.config) {
		f.config = config
		f.version++
		f.changed = f.pointed // the first players get it as their prefix
	}
}

// videoGone is after how much media without a picture players of a stream with
// video can start without one.
const videoGone = 10 * time.Second

// isPoint reports whether players can start at the frame.
func (f *feed) isPoint(fr *stream.Frame) bool {
	switch {
	case fr.Track.Kind() == stream.Video:
		f.lastVideo = fr.DTS
		return fr.Key
	case f.hasVideo && fr.DTS-f.lastVideo < videoGone:
		return false
	}
	return !f.pointed || fr.DTS-f.lastPoint >= time.Second || fr.DTS < f.lastPoint
}
