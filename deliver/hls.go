package deliver

import (
	"context"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
)

// HLS says how a Server packages streams as HLS, and as DASH, which shares the
// segments. The zero value is low-latency HLS with the defaults below.
//
// A stream is packaged from the first request for it to its end or, if
// Server.Run is called, from its start. The first viewer of a stream that is
// not packaged yet waits for a whole segment.
type HLS struct {
	Disabled bool // there is none: 404

	// Segment is the shortest segment; they begin with key frames. 0: 2 s. A
	// stream that the hub cuts (stream.Hub.Segment), or another server for all who
	// relay it, has segments where those are.
	Segment time.Duration
	Part    time.Duration // of a partial segment. 0: 200 ms, negative: none, and so no low latency
	Window  time.Duration // how far back one can seek. 0: 30 s

	// Audio is the codec of the sound, where a rendition of the stream has it, such as
	// transcode.Audio makes: AAC for players that know no other, Safari and whatever
	// plays MPEG-TS. It is made as long as the stream is packaged. 0: the sound as
	// it is published, if CMAF carries it.
	Audio stream.Codec

	// MaxBytes bounds the media that is held for each stream, whatever Window
	// says. 0: 128 MiB.
	MaxBytes int64

	// OnDemand packages streams from their first viewer on, Server.Run or not,
	// until none has asked for anything for Linger (0: 30 s). So are all
	// streams of a hub that has a Source: it could not let go of what it
	// fetches otherwise.
	OnDemand bool
	Linger   time.Duration

	// Encrypt encrypts segments with AES-128; who may play gets the keys,
	// which change after KeySegments segments (0: 10). DASH has no such
	// encryption, and is refused then.
	Encrypt     bool
	KeySegments int

	// MaxWaiters bounds the requests of a stream that wait for what is yet to
	// come, MaxWaitersPerAddr those of one address, which may be a proxy's. 0:
	// 10,000 and 1,000; negative: no bound.
	MaxWaiters        int
	MaxWaitersPerAddr int

	// NoHijack leaves reloads that wait to net/http, where each takes 20 KB more.
	// Without it, those over plain HTTP/1.1 are taken from the http.Server that
	// they came by, and given back when they are answered: its ConnState sees
	// StateHijacked and then StateNew again, a connection has its
	// ReadHeaderTimeout, not IdleTimeout, from then to the next request, and
	// handlers around this one see no answer. http.Server.Shutdown does not wait for
	// them, Server.Shutdown does.
	NoHijack bool

	// Storage keeps what is packaged, for good: below the stream's name, each
	// presentation in a directory named by its start, that any file server can
	// serve, while it goes on and later; docs/http.md shows it. Without, the
	// window is all there is, in memory. A storage that fails, or is too slow,
	// loses segments, which is logged and a stream.StorageFailed event; the live
	// stream never waits for it. Keys of encrypted segments are stored beside
	// them. Server.Run looks after what is stored: it ends presentations that a
	// server left when it was killed, and removes those to which nothing was
	// added for Keep (0: none; a minute at least).
	Storage stream.Storage
	Keep    time.Duration

	// TokenLife is how long an individual viewer's playlists can be reloaded
	// if the Grant does not say. 0: 12 hours.
	TokenLife time.Duration
}

// packager returns a packager for a stream that follows what was packaged
// before under its name. Both may be nil.
func (c *HLS) packager(before *hlsRun, store *hlsStore) *hls.Packager {
	config := hls.Config{
		Segment:           c.Segment,
		Part:              c.Part,
		Window:            c.Window,
		MaxBytes:          c.MaxBytes,
		MaxWaiters:        c.MaxWaiters,
		MaxWaitersPerAddr: c.MaxWaitersPerAddr,
		MediaPrefix:       "../",
		TS:                func() hls.TSMuxer { return &mpegts.Muxer{} },
		Encrypt:           c.Encrypt,
		KeySegments:       c.KeySegments,
		FollowCuts:        true,
	}
	config.FirstSequence, config.FirstDiscontinuity = before.next()
	if store != nil {
		config.OnSegment = func(s *hls.Segment) {
			if s.Rendition != hls.TS { // that begins with who asks for it
				store.add(s)
			}
		}
	}
	return hls.New(config)
}

// retention is how long a stream that has ended can still be fetched: players
// are to see its end.
func (c *HLS) retention() time.Duration { return orDefault(c.Window, 30*time.Second) + 10*time.Second }

func (c *HLS) linger() time.Duration { return orDefault(c.Linger, 30*time.Second) }

func (c *HLS) tokenLife() time.Duration { return orDefault(c.TokenLife, 12*time.Hour) }

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// Run packages every stream of the Hub as HLS from its start, so that its first
// viewer need not wait, until ctx ends, whose error it returns. It is optional.
// With HLS.Disabled or HLS.OnDemand, or a Hub that has a Source, it packages
// nothing. It looks after HLS.Storage in any case.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var tending sync.WaitGroup
	defer tending.Wait()
	defer cancel()
	tending.Go(func() { s.tend(ctx) })
	if s.HLS.Disabled || s.packagesOnDemand() {
		<-ctx.Done()
		return ctx.Err()
	}
	events := s.Hub.Events(ctx) // from here on, so that none is missed
	start := func(name string) {
		if _, err := s.startHLS(ctx, name, 0); err != nil && ctx.Err() == nil && s.Hub.Stream(name) != nil {
			s.log().Warn("deliver: cannot package", "stream", name, "err", err)
		}
	}
	all := func() {
		for st := range s.Hub.Streams() {
			start(st.Name())
		}
	}
	all()
	for e := range events {
		switch e := e.(type) {
		case stream.StreamStarted:
			start(e.Stream)
		case stream.EventsLost:
			all()
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return stream.ErrClosed // the hub is
}

func (s *Server) packagesOnDemand() bool { return s.HLS.OnDemand || s.Hub.Source != nil }
