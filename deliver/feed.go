package deliver

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/fanout"
	"github.com/runnel-media/runnel/stream"
)

// feedKey names the bytes that players share: one stream in one container, in
// one dialect of it.
type feedKey struct {
	stream    *stream.Stream
	container container
	websocket bool   // each frame is a WebSocket message
	accept    string // FourCCs that the players take, comma-separated and sorted; "" is any
}

// A muxer turns frames into the bytes of a container. It is used by one
// goroutine.
type muxer interface {
	// supports says why the container cannot carry a track.
	supports(t *stream.Track) error
	// configure is told the tracks from here on.
	configure(tracks []*stream.Track, meta stream.Metadata) error
	// prefix returns what a player needs before the frame that starts at dts:
	// everything, or, with a file header already sent, the configuration only.
	prefix(dst []byte, dts time.Duration, whole bool) []byte
	// size is an upper estimate of what appendFrame adds.
	size(f *stream.Frame) int
	appendFrame(dst []byte, f *stream.Frame) []byte
}

// A feed muxes one stream into one container for all its players of one kind.
// It runs from the first player to the last.
type feed struct {
	server  *Server
	key     feedKey
	log     *fanout.Log
	cancel  context.CancelFunc
	viewers int // guarded by Server.mu

	// owned by run
	mux       muxer
	tracks    []*stream.Track
	meta      stream.Metadata
	version   int
	hasVideo  bool
	lastPoint time.Duration
	pointed   bool
	changed   bool // the configuration has changed since the last frame
	scratch   []byte
}

func newFeed(s *Server, key feedKey) *feed {
	ctx, cancel := context.WithCancel(context.Background())
	f := &feed{server: s, key: key, log: s.newLog(key.stream), cancel: cancel, mux: key.container.muxer()}
	go f.run(ctx)
	return f
}

// stop ends the feed: its players get what has been muxed, then the end.
func (f *feed) stop() { f.cancel() }

// settle is how much media a feed waits for before it takes the tracks that
// have come for all there are.
const settle = 500 * time.Millisecond

func (f *feed) run(ctx context.Context) {
	defer f.cancel()
	sub, err := f.server.Hub.Subscribe(ctx, f.key.stream.Name(), nil)
	if err != nil {
		f.log.End(err)
		return
	}
	defer sub.Close()
	var held []*stream.Frame // until the tracks have settled
	settled := false
	var batch [32]*stream.Frame
	for {
		n, err := sub.Read(ctx, batch[:])
		for _, fr := range batch[:n] {
			if !settled {
				held = append(held, fr)
				if !f.settled(sub, held) {
					continue
				}
				settled = true
				for _, h := range held {
					f.add(sub, h)
				}
				held = nil
				continue
			}
			f.add(sub, fr)
		}
		if err != nil {
			for _, h := range held {
				f.add(sub, h)
			}
			if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
				err = nil
			}
			f.log.End(err)
			return
		}
		if settled {
			f.log.Flush()
		}
	}
}

func (f *feed) settled(sub *stream.Subscriber, held []*stream.Frame) bool {
	var audio, video bool
	for _, t := range sub.Tracks() {
		audio = audio || t.Kind() == stream.Audio
		video = video || t.Kind() == stream.Video
	}
	return audio && video || len(held) > 64 || held[len(held)-1].DTS-held[0].DTS >= settle
}

// add muxes one frame.
func (f *feed) add(sub *stream.Subscriber, fr *stream.Frame) {
	f.follow(sub, fr)
	if !slices.Contains(f.tracks, fr.Track) {
		return // a track that the container, or these players, cannot take
	}
	if f.isPoint(fr) {
		f.log.Mark(fanout.Point{
			Prefix:  f.wrap(f.mux.prefix(nil, fr.DTS, true)),
			Config:  f.wrap(f.mux.prefix(nil, fr.DTS, false)),
			Version: f.version,
		})
		f.lastPoint, f.pointed = fr.DTS, true
	}
	size := f.mux.size(fr) + maxMessageHeader
	if f.changed {
		f.changed = false
		f.scratch = f.mux.prefix(f.scratch[:0], fr.DTS, false)
		size += len(f.scratch) + maxMessageHeader
	} else {
		f.scratch = f.scratch[:0]
	}
	f.log.Append(fr.Arrived(), size, func(dst []byte) []byte {
		if len(f.scratch) > 0 {
			dst = f.message(dst, func(dst []byte) []byte { return append(dst, f.scratch...) })
		}
		return f.message(dst, func(dst []byte) []byte { return f.mux.appendFrame(dst, fr) })
	})
}

// follow keeps the muxer's configuration that of the frame at hand.
func (f *feed) follow(sub *stream.Subscriber, fr *stream.Frame) {
	meta := sub.Metadata()
	known := slices.Contains(f.tracks, fr.Track)
	if known && !fr.Discontinuity {
		return
	}
	var tracks []*stream.Track
	if !fr.Discontinuity {
		tracks = f.tracks
	}
	for _, t := range append(slices.Clone(sub.Tracks()), fr.Track) {
		if f.takes(t) != nil {
			continue
		}
		i := slices.IndexFunc(tracks, func(o *stream.Track) bool { return o.ID == t.ID })
		switch {
		case i < 0:
			tracks = append(slices.Clone(tracks), t)
		case t == fr.Track || !slices.Contains(f.tracks, tracks[i]):
			tracks = slices.Clone(tracks)
			tracks[i] = t
		}
	}
	if slices.Equal(tracks, f.tracks) {
		return
	}
	if err := f.mux.configure(tracks, meta); err != nil {
		f.server.log().Warn("deliver: cannot mux", "stream", f.key.stream.Name(), "container", f.key.container, "err", err)
		tracks = nil
	}
	f.changed = f.pointed // the first players get it as their prefix
	f.tracks, f.meta = tracks, meta
	f.version++
	f.hasVideo = slices.ContainsFunc(tracks, func(t *stream.Track) bool { return t.Kind() == stream.Video })
}

// takes says why players of this feed cannot be sent a track.
func (f *feed) takes(t *stream.Track) error { return f.key.takes(f.mux, t) }

func (k feedKey) takes(m muxer, t *stream.Track) error {
	if err := m.supports(t); err != nil {
		return err
	}
	if cc := fourCC(t.Codec); k.accept != "" && cc != "" && !slices.Contains(strings.Split(k.accept, ","), cc) {
		return stream.ErrUnsupported
	}
	return nil
}

// isPoint reports whether players can start at the frame.
func (f *feed) isPoint(fr *stream.Frame) bool {
	if f.hasVideo {
		return fr.Key && fr.Track.Kind() == stream.Video
	}
	return !f.pointed || fr.DTS-f.lastPoint >= time.Second || fr.DTS < f.lastPoint
}

// fourCC returns the name under which enhanced RTMP players list a codec, "" for
// those that every player is taken to know.
func fourCC(c stream.Codec) string {
	switch c {
	case stream.H265:
		return "hvc1"
	case stream.AV1:
		return "av01"
	case stream.VP9:
		return "vp09"
	case stream.VP8:
		return "vp08"
	case stream.Opus:
		return "Opus"
	case stream.AC3:
		return "ac-3"
	}
	return ""
}
