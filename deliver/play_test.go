package deliver

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A late joiner gets the configuration and the newest group of pictures, then
// every frame, whatever the way.
func TestPlay(t *testing.T) {
	overKinds(t, func(t *testing.T, b *bed) {
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{BFrames: 2})
		src.pub.SetMetadata(stream.Metadata{"encoder": "pattern"})
		src.write(100)
		first := b.must("")
		first.waitFrames(t, 10)
		src.write(100)
		first.waitLast(t, src)
		late := b.must("")
		late.waitFrames(t, 1)
		for range 10 {
			src.write(10)
			time.Sleep(time.Millisecond)
		}
		for i, p := range []*player{first, late} {
			got := p.waitLast(t, src)
			at := checkRun(t, got, src.written)
			if i == 0 {
				require.Less(t, at, 100)
			} else {
				require.Greater(t, at, 100, "the newest group of pictures")
			}
			require.Len(t, p.tracks, 2)
			for k, track := range p.tracks {
				require.Equal(t, src.written[k].Track.Codec, track.Codec)
				require.Equal(t, src.written[k].Track.Config, track.Config)
			}
			if b.kind.container != containerMP4 {
				require.Equal(t, "pattern", p.meta["encoder"])
				require.Equal(t, 320.0, p.meta["width"])
			}
		}
		require.NoError(t, src.pub.Close())
		require.NoError(t, first.end(t))
		require.NoError(t, late.end(t))
		b.idle()
		require.NotZero(t, quantity(b.hub))
	})
}

func quantity(h *stream.Hub) uint64 {
	_, n, _ := h.Latency.Snapshot()
	return n
}

func TestOneTrack(t *testing.T) {
	overKinds(t, func(t *testing.T, b *bed) {
		for name, pattern := range map[string]*streamtest.Pattern{
			"audio": {NoVideo: true},
			"video": {NoAudio: true},
		} {
			src := publish(t, b.hub, "live/"+name, pattern)
			src.write(40)
			p := b.must("live/" + name)
			p.waitFrames(t, 1)
			src.write(100)
			p.waitLast(t, src)
			late := b.must("live/" + name)
			src.write(20)
			require.Less(t, checkRun(t, p.waitLast(t, src), src.written), 40)
			require.Greater(t, checkRun(t, late.waitLast(t, src), src.written), 40)
			require.Len(t, p.tracks, 1)
			src.pub.Close()
			require.NoError(t, p.end(t))
			require.NoError(t, late.end(t))
		}
	})
}

// A new configuration reaches those that play, in its place, and those that come
// later.
func TestTrackChange(t *testing.T) {
	overKinds(t, func(t *testing.T, b *bed) {
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{})
		src.write(100)
		p := b.must("")
		p.waitFrames(t, 10)
		video, audio := src.written[0].Track, src.written[1].Track
		other := *video
		other.Config = slices.Clone(video.Config)
		other.Config[3]++ // the level
		changed := -1
		for range 150 {
			f, _ := src.next()
			if f.Track == video && f.Key && changed < 0 {
				changed = len(src.written)
				require.NoError(t, src.pub.SetTracks(&other, audio))
			}
			if f.Track == video && changed >= 0 {
				f.Track = &other
			}
			require.NoError(t, src.pub.Write(f))
			src.written = append(src.written, f)
		}
		got := p.waitLast(t, src)
		from := checkRun(t, got, src.written)
		for i, f := range got {
			if f.Track.Kind() == stream.Video {
				require.Equal(t, src.written[from+i].Track.Config, f.Track.Config, "frame %d of %d", from+i, changed)
			}
		}
		late := b.must("")
		lateGot := late.waitFrames(t, 1)
		require.Equal(t, other.Config, lateGot[0].Track.Config)
		p.leave()
		late.leave()
		b.idle()
	})
}

// Within Hub.Grace the players of a publisher that comes back stay.
func TestRepublish(t *testing.T) {
	overKinds(t, func(t *testing.T, b *bed) {
		b.hub.Grace = time.Minute
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{})
		src.write(100)
		p := b.must("")
		p.waitFrames(t, 10)
		require.NoError(t, src.pub.Close())
		in := b.must("") // in between
		again := publish(t, b.hub, "live/x", &streamtest.Pattern{Video: stream.H264})
		again.write(100)
		all := append(src.written, again.written...)
		for _, p := range []*player{p, in} {
			eventually(t, func() bool {
				got := p.got()
				return len(got) > 0 && same(got[len(got)-1], all[len(all)-1])
			}, "the last frame of the second publisher")
			checkRun(t, p.got(), all)
		}
	})
}

func TestKick(t *testing.T) {
	overKinds(t, func(t *testing.T, b *bed) {
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{})
		src.write(100)
		settled := b.baseline()
		p := b.must("")
		p.waitFrames(t, 10)
		kicked := 0
		for s := range b.hub.Sessions() {
			require.Equal(t, stream.RolePlay, s.Info().Role)
			require.Equal(t, "live/x", s.Info().Stream)
			eventually(t, func() bool { return s.Stats().BytesOut > 0 }, "bytes")
			require.True(t, s.Kick(nil))
			kicked++
		}
		require.Equal(t, 1, kicked)
		err := p.end(t)
		if b.kind.ws || b.kind.rtmp || b.kind.h2 {
			require.Error(t, err, "it is told that this is no regular end")
		}
		p.leave()
		settled()
		src.write(10) // nobody minds
	})
}

// A peer that hangs up is forgotten at once.
func TestLeave(t *testing.T) {
	overKinds(t, func(t *testing.T, b *bed) {
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{})
		src.write(100)
		settled := b.baseline()
		for range 3 {
			p, q := b.must(""), b.must("")
			p.waitFrames(t, 10)
			p.leave()
			src.write(10)
			q.waitFrames(t, 20)
			q.leave()
			p.end(t)
			q.end(t)
		}
		settled()
	})
}

func TestMaxPlayers(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			b := newBed(t, k, func(_ *stream.Hub, s *Server) { s.MaxPlayers = 2 })
			publish(t, b.hub, "live/x", &streamtest.Pattern{}).write(100)
			p := b.must("")
			p.waitFrames(t, 1)
			b.must("").waitFrames(t, 1)
			_, err := b.play("")
			require.Error(t, err)
			if !k.rtmp {
				require.Equal(t, statusError(503), err)
			}
			p.leave()
			eventually(t, func() bool { q, err := b.play(""); return err == nil && q != nil }, "room for another")
		})
	}
}

func TestShutdown(t *testing.T) {
	overKinds(t, func(t *testing.T, b *bed) {
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{KeySize: 200_000})
		src.write(200)
		settled := b.baseline()
		p, q := b.must(""), b.must("")
		p.waitFrames(t, 1)
		q.waitFrames(t, 1)
		src.write(50)
		last := src.written[len(src.written)-1]
		feeds := func() (n int) {
			b.srv.mu.Lock()
			defer b.srv.mu.Unlock()
			return len(b.srv.feeds)
		}
		require.Equal(t, 1, feeds())
		p.waitLast(t, src)
		require.NoError(t, b.srv.Shutdown(t.Context()))
		require.Zero(t, feeds())
		for _, p := range []*player{p, q} {
			require.NoError(t, p.end(t))
			got := p.got()
			checkRun(t, got, src.written)
			require.True(t, same(got[len(got)-1], last), "all that was due")
		}
		_, err := b.play("")
		require.Error(t, err)
		require.NoError(t, b.srv.Shutdown(t.Context()))
		settled()
	})
}

// Players that do not read are cut off when Shutdown's context ends, and by
// Close.
func TestShutdownCuts(t *testing.T) {
	for _, k := range kinds {
		for _, closes := range []bool{false, true} {
			if closes && k.container == containerMP4 {
				continue // as FLV
			}
			t.Run(fmt.Sprintf("%s/close=%t", k.name, closes), func(t *testing.T) {
				b := newBed(t, k, func(h *stream.Hub, s *Server) { s.StallTimeout = time.Hour })
				src := publish(t, b.hub, "live/x", &streamtest.Pattern{KeySize: 500_000, FrameSize: 500_000})
				src.write(60) // 10 MB, more than sockets hold
				settled := b.baseline()
				p := b.must("") // one that reads, so that there is something to send
				p.waitLast(t, src)
				leave := b.stuck()
				eventually(t, func() bool { return b.playing() == 2 }, "the player")
				p.leave()
				eventually(t, func() bool { return b.playing() == 1 }, "the other's end")
				time.Sleep(20 * time.Millisecond)
				if closes {
					require.NoError(t, b.srv.Close())
				} else {
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
					defer cancel()
					require.ErrorIs(t, b.srv.Shutdown(ctx), context.DeadlineExceeded)
				}
				b.idle() // long before StallTimeout
				leave()
				settled()
			})
		}
	}
}

// Clients that never read are freed after StallTimeout.
func TestNeverReads(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			b := newBed(t, k, func(h *stream.Hub, s *Server) {
				s.StallTimeout = 200 * time.Millisecond
			})
			src := publish(t, b.hub, "live/x", &streamtest.Pattern{KeySize: 500_000, FrameSize: 500_000, KeyInterval: 10})
			src.write(60)
			settled := b.baseline()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			events := b.hub.Events(ctx) // they are kept from here on, and not from when somebody asks for the first
			reasons := make(chan error, 3)
			go func() {
				for e := range events {
					if e, ok := e.(stream.SessionClosed); ok {
						reasons <- e.Err
					}
				}
			}()
			leaves := []func(){b.stuck(), b.stuck(), b.stuck()}
			eventually(t, func() bool { src.write(2); return b.isIdle() }, "the players are still there")
			for range leaves {
				require.Equal(t, stream.ErrSlow, <-reasons)
			}
			stop()
			for _, leave := range leaves {
				leave()
			}
			settled()
		})
	}
}
