package hls

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// BenchmarkAdd is the whole cost of a stream: 2 Mbit/s at 25 fps with AAC.
func BenchmarkAdd(b *testing.B) {
	for _, bm := range []struct {
		name string
		c    Config
	}{
		{"CMAF", Config{}},
		{"CMAF without parts", Config{Part: -1}},
		{"CMAF encrypted", Config{Encrypt: true}},
		{"CMAF and TS", Config{TSAlways: true, TS: func() TSMuxer { return &mpegts.Muxer{} }}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			p := New(bm.c)
			src := &streamtest.Pattern{KeySize: 40_000, FrameSize: 9000, AudioSize: 340, KeyInterval: 50}
			p.SetTracks(src.Tracks()...)
			frames := make([]*stream.Frame, 0, 4096)
			for f := range until(src.Frames(-1), 40*time.Second) {
				frames = append(frames, f)
			}
			b.ReportAllocs()
			parts := uint64(0)
			for i := 0; b.Loop(); i++ {
				f := *frames[i%len(frames)]
				f.DTS += time.Duration(i/len(frames)) * 40 * time.Second
				f.PTS = f.DTS
				f.Time = epoch.Add(f.DTS)
				p.Add(&f)
				parts = p.out[Video].parts + p.out[Audio].parts
			}
			if parts > 0 {
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(parts), "ns/part")
			}
		})
	}
}

// BenchmarkPart is making a part of 200 ms known to the world: the box, its bytes,
// the snapshot, and with a player waiting the playlist.
func BenchmarkPart(b *testing.B) {
	for _, waiting := range []bool{false, true} {
		for _, size := range []int{0, 10_000} { // without bytes, what is beside them
			b.Run(fmt.Sprintf("%d bytes a frame, player waiting %v", size, waiting), func(b *testing.B) {
				p := begun(Config{}, 40*time.Second+ms(30))
				if waiting {
					seq, _ := p.out[Video].snap.Load().next()
					w, err := p.Await(Video, Directives{Block: true, MSN: seq + 1}, noAddr, nil)
					require.NoError(b, err)
					defer w.Stop()
				}
				o := p.out[Video]
				c := o.pack.(*cmafPacker)
				var frames []*stream.Frame
				for i := range 5 {
					frames = append(frames, &stream.Frame{Track: c.init.Track, DTS: 40*time.Second + ms(i*40), Key: i == 0, Data: make([]byte, size)})
				}
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					c.pending = append(c.pending[:0], frames...)
					c.part(5, 40*time.Second+ms(200))
					p.publish()
					if n++; n%10 == 0 { // as many as a segment has
						p.bytes.Add(-o.cur.held)
						o.cur.Parts, o.cur.data, o.cur.held, o.cur.size = nil, nil, 0, 0
					}
				}
			})
		}
	}
}

func BenchmarkRender(b *testing.B) {
	p := begun(Config{}, 61*time.Second)
	s := p.out[Video].snap.Load()
	for _, skipped := range []int{0, s.skippable()} {
		b.Run(fmt.Sprintf("%d skipped", skipped), func(b *testing.B) {
			b.ReportAllocs()
			var pl Playlist
			for b.Loop() {
				s.render(&pl, skipped)
			}
			b.SetBytes(int64(len(pl.Text)))
		})
	}
	b.Run("gzip", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var pl Playlist
			s.render(&pl, 0)
			pl.Gzip()
		}
	})
	b.Run("multivariant", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := p.Multivariant(context.Background(), noAddr, MultivariantOptions{Prefix: "cam/_hls/token/"})
			require.NoError(b, err)
		}
	})
}

// BenchmarkWake is a part that 2000 players wait for: how long the packager is
// held up, and until the last of them has its playlist.
func BenchmarkWake(b *testing.B) {
	const n = 2000
	p := begun(Config{MaxWaitersPerAddr: -1}, 40*time.Second+ms(30))
	o := p.out[Video]
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	var held time.Duration
	for b.Loop() {
		b.StopTimer()
		var group sync.WaitGroup
		seq, parts := o.snap.Load().next()
		for range n {
			group.Go(func() {
				if _, err := p.Playlist(context.Background(), Video, Directives{Block: true, MSN: seq, Part: true, PartIndex: uint64(parts)}, addr); err != nil {
					b.Error(err)
				}
			})
		}
		for p.waiters.count() < n {
			runtime.Gosched()
		}
		time.Sleep(2 * time.Millisecond)
		b.StartTimer()
		start := time.Now()
		o.cur.Parts = append(o.cur.Parts, &Part{Number: o.parts, Duration: ms(200), name: "x"})
		o.parts++
		o.dirty = true
		p.publish()
		held += time.Since(start)
		group.Wait()
	}
	b.ReportMetric(float64(held.Microseconds())/float64(b.N), "µs-held")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/player")
}

func BenchmarkOpen(b *testing.B) {
	p := begun(Config{}, 41*time.Second)
	parts := p.out[Video].parts
	for _, file := range []string{"v15.m4s", fmt.Sprintf("vp%d.m4s", parts-1), fmt.Sprintf("vp%d.m4s", parts-50)} {
		b.Run(file, func(b *testing.B) {
			path := p.Secret() + "/" + file
			b.ReportAllocs()
			for b.Loop() {
				_, err := p.Open(context.Background(), path, noAddr)
				require.NoError(b, err)
			}
		})
	}
}

// BenchmarkServePart compares the two forms in which a part could be kept: one
// buffer, or the box and the frames' data where they are.
func BenchmarkServePart(b *testing.B) {
	track := (&streamtest.Pattern{}).Tracks()[0]
	var frames []*stream.Frame
	for i := range 5 {
		data := make([]byte, 10_000)
		for k := range data {
			data[k] = byte(rand.Uint32())
		}
		frames = append(frames, &stream.Frame{Track: track, DTS: ms(40 * i), Data: data})
	}
	run := fmp4.Run{Track: track, Frames: frames, Next: ms(200)}
	var kept [][]byte
	for _, bm := range []struct {
		name string
		make func()
	}{
		{"one buffer", func() { kept = [][]byte{fmp4.AppendPart(nil, 1, run)} }},
		{"pieces", func() {
			kept = append(make([][]byte, 0, 6), fmp4.AppendPartHeader(nil, 1, run))
			for _, f := range frames {
				kept = append(kept, f.Data)
			}
		}},
	} {
		b.Run("make, "+bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bm.make()
			}
		})
		b.Run("serve, "+bm.name, func(b *testing.B) {
			bm.make()
			c := Content{Data: kept}
			for _, piece := range kept {
				c.Size += int64(len(piece))
			}
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(c.Size))
				_, _ = c.WriteTo(w)
			}))
			defer srv.Close()
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			require.NoError(b, err)
			defer conn.Close()
			client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
			b.ReportAllocs()
			for b.Loop() {
				res, err := client.Get(srv.URL)
				require.NoError(b, err)
				_, err = io.Copy(io.Discard, res.Body)
				require.NoError(b, err)
				require.NoError(b, res.Body.Close())
			}
		})
	}
}
