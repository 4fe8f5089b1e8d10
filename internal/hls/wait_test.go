package hls

import (
	"context"
	"math"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestParseDirectives(t *testing.T) {
	for _, tt := range []struct {
		query string
		want  Directives
	}{
		{"", Directives{}},
		{"token=x&y", Directives{}},
		{"_HLS_msn=12", Directives{Block: true, MSN: 12}},
		{"a=b&_HLS_msn=12&_HLS_part=0", Directives{Block: true, MSN: 12, Part: true}},
		{"_HLS_part=3&_HLS_msn=0&_HLS_skip=YES", Directives{Block: true, Part: true, PartIndex: 3, Skip: true}},
		{"_HLS_skip=v2", Directives{Skip: true}},
		{"_HLS_primary_id=5&_hls_msn=x", Directives{}},
		{"&&_HLS_msn=000000000000001&", Directives{Block: true, MSN: 1}},
	} {
		d, err := ParseDirectives(tt.query)
		require.NoError(t, err, tt.query)
		require.Equal(t, tt.want, d, tt.query)
	}
	for _, query := range []string{
		"_HLS_msn", "_HLS_msn=", "_HLS_msn=-1", "_HLS_msn=1.5", "_HLS_msn=0x1", "_HLS_msn=1e3", "_HLS_msn=%31", "_HLS_msn=+1", "_HLS_msn= 1",
		"_HLS_msn=18446744073709551616", "_HLS_msn=1&_HLS_msn=1", "_HLS_msn=1&_HLS_msn=",
		"_HLS_part=1", "_HLS_msn=1&_HLS_part=x", "_HLS_msn=1&_HLS_part=1&_HLS_part=2", "_HLS_msn=1&_HLS_part=9999999999999999",
		"_HLS_skip=NO", "_HLS_skip", "_HLS_skip=YES&_HLS_skip=YES", "x=" + strings.Repeat("y", 5000),
	} {
		_, err := ParseDirectives(query)
		require.ErrorIs(t, err, ErrBadRequest, query)
	}
}

func FuzzParseDirectives(f *testing.F) {
	f.Add("_HLS_msn=12&_HLS_part=3&_HLS_skip=YES")
	f.Add("token=a;b&_HLS_skip=v2&&=")
	f.Fuzz(func(t *testing.T, query string) {
		d, err := ParseDirectives(query)
		if err != nil && d != (Directives{}) {
			t.Fatal("both")
		}
		if d.MSN > math.MaxInt64/2 || d.PartIndex > math.MaxInt64/2 || d.Part && !d.Block {
			t.Fatalf("%+v", d)
		}
	})
}

// A player that does as Apple says sees each part as soon as it is there, by
// blocking reloads with delta updates alone.
func TestBlockingReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{Segment: time.Second})
		src := &streamtest.Source{Duration: 20 * time.Second}
		start := time.Now()
		var group sync.WaitGroup
		for _, r := range []Rendition{Video, Audio} {
			group.Go(func() { follow(t, p, r, start) })
		}
		require.NoError(t, streamtest.Feed(t.Context(), writer2{p}, src.Frames(), 1))
		p.End()
		group.Wait()
		require.Zero(t, p.Stats().Waiters)
	})
}

// writer2 makes a Writer of a Packager.
type writer2 struct{ *Packager }

func (w writer2) Write(f *stream.Frame) error {
	w.Add(f)
	return nil
}

// follow plays a rendition to its end.
func follow(t *testing.T, p *Packager, r Rendition, start time.Time) {
	reloads := &hlscheck.Reloads{Slack: ms(60)}
	pl, err := p.Playlist(t.Context(), r, Directives{}, netip.Addr{})
	if err != nil {
		t.Error(err)
		return
	}
	accept := func(found []error, text []byte) {
		for _, err := range found {
			t.Errorf("%v\n%s", err, text)
		}
	}
	accept(reloads.Add(time.Now(), pl.Text), pl.Text)
	parts := 0
	for !pl.Ended && !t.Failed() {
		list := reloads.Playlist()
		_, msn, part := list.Last()
		if n := len(list.Segments); list.Segments[n-1].Complete() {
			msn, part = msn+1, -1
		}
		hint := list.Hints[0].URI
		got := make(chan error)
		go func() {
			c, err := p.Open(t.Context(), hint, netip.Addr{})
			if err == nil && c.Size == 0 {
				t.Error("empty part")
			}
			got <- err
		}()
		d := Directives{Block: true, MSN: msn, Part: true, PartIndex: uint64(part + 1), Skip: true}
		if pl, err = p.Playlist(t.Context(), r, d, netip.Addr{}); err != nil {
			t.Error(err)
			return
		}
		if err := <-got; err != nil && !pl.Ended {
			t.Errorf("%s: %v", hint, err)
		}
		accept(reloads.Asked(time.Now(), msn, part+1, pl.Text), pl.Text)
		if pl.Ended {
			break
		}
		parts++
		list = reloads.Playlist()
		last := &list.Segments[len(list.Segments)-1]
		edge := last.Time
		for _, part := range last.Parts {
			edge = edge.Add(time.Duration(part.Duration * float64(time.Second)))
		}
		// The edge of the playlist is a frame behind the world.
		if behind := time.Since(edge); behind > ms(70) {
			t.Errorf("the newest part ends %v ago", behind)
		}
	}
	if parts < 80 {
		t.Errorf("saw %d parts in %v", parts, time.Since(start))
	}
}

// begun returns a Packager with so much of a pattern in it.
func begun(c Config, length time.Duration) *Packager {
	p := New(c)
	src := &streamtest.Pattern{}
	p.SetTracks(src.Tracks()...)
	for f := range until(src.Frames(-1), length) {
		f.Time = epoch.Add(f.DTS)
		p.Add(f)
	}
	return p
}

// Far-future requests are refused at once (bis 6.2.5.2).
func TestBadRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := begun(Config{TS: newFakeTS, TSAlways: true}, ms(10500)) // segments 0 to 4, parts 0 and 1 of segment 5
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, tt := range []struct {
			query string
			want  error // context.Canceled: it waits
		}{
			{"_HLS_msn=4", nil},
			{"_HLS_msn=0", nil},
			{"_HLS_msn=0&_HLS_part=5000", nil}, // long gone
			{"_HLS_msn=5", context.Canceled},
			{"_HLS_msn=6", context.Canceled},
			{"_HLS_msn=7", ErrBadRequest}, // the last segment is 4
			{"_HLS_msn=999999999999999", ErrBadRequest},
			{"_HLS_msn=5&_HLS_part=0", nil},
			{"_HLS_msn=5&_HLS_part=1", nil},
			{"_HLS_msn=5&_HLS_part=2", context.Canceled},
			{"_HLS_msn=5&_HLS_part=15", context.Canceled}, // the limit is 3 s of parts: ceil(3 / 0.216) = 14
			{"_HLS_msn=5&_HLS_part=16", ErrBadRequest},
			{"_HLS_msn=4&_HLS_part=9", nil},
			{"_HLS_msn=4&_HLS_part=10", nil}, // beyond the last is part 0 of the next
			{"_HLS_msn=6&_HLS_part=0", context.Canceled},
			{"_HLS_msn=6&_HLS_part=14", ErrBadRequest},
			{"_HLS_msn=7&_HLS_part=0", ErrBadRequest},
		} {
			d, err := ParseDirectives(tt.query)
			require.NoError(t, err)
			_, err = p.Playlist(ctx, Video, d, netip.Addr{})
			require.ErrorIs(t, err, tt.want, tt.query)
			if tt.want == nil {
				require.NoError(t, err, tt.query)
			}
		}
		// Without parts, a part is its segment.
		_, err := p.Playlist(ctx, TS, Directives{Block: true, MSN: 5, Part: true, PartIndex: 999}, netip.Addr{})
		require.ErrorIs(t, err, context.Canceled)
		_, err = p.Playlist(ctx, TS, Directives{Block: true, MSN: 4, Part: true, PartIndex: 999}, netip.Addr{})
		require.NoError(t, err)
		_, err = p.Playlist(ctx, Rendition(9), Directives{}, netip.Addr{})
		require.ErrorIs(t, err, stream.ErrNotFound)

		// The last segment is whole, and nothing of the next is there.
		p = begun(Config{}, ms(10001))
		_, err = p.Playlist(ctx, Video, Directives{Block: true, MSN: 4, Part: true, PartIndex: 9}, netip.Addr{})
		require.NoError(t, err)
		_, err = p.Playlist(ctx, Video, Directives{Block: true, MSN: 4, Part: true, PartIndex: 10}, netip.Addr{})
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := begun(Config{}, ms(10500))
		start := time.Now()
		_, err := p.Playlist(t.Context(), Video, Directives{Block: true, MSN: 6}, netip.Addr{})
		require.ErrorIs(t, err, ErrTimeout)
		require.Equal(t, 6*time.Second, time.Since(start), "three target durations")

		_, err = p.Open(t.Context(), p.Secret()+"/"+hint(t, p), netip.Addr{})
		require.ErrorIs(t, err, ErrTimeout)

		var group sync.WaitGroup
		group.Go(func() {
			pl, err := p.Playlist(t.Context(), Video, Directives{Block: true, MSN: 6}, netip.Addr{})
			if err != nil || !pl.Ended {
				t.Errorf("%v %v", pl, err)
			}
		})
		group.Go(func() {
			if _, err := p.Open(t.Context(), p.Secret()+"/"+hint(t, p), netip.Addr{}); err != nil {
				t.Error(err) // what was left became that part
			}
		})
		synctest.Wait()
		require.Equal(t, 2, p.Stats().Waiters)
		p.End()
		group.Wait()
		require.Zero(t, p.Stats().Waiters)

		// Nothing ever comes.
		p = New(Config{})
		start = time.Now()
		_, err = p.Playlist(t.Context(), Video, Directives{}, netip.Addr{})
		require.ErrorIs(t, err, ErrTimeout)
		require.Equal(t, 32*time.Second, time.Since(start), "what the first segment may take")
	})
}

// hint returns the name of the part that the picture's playlist hints at.
func hint(t *testing.T, p *Packager) string {
	list, _ := hlscheck.Media(p.out[Video].snap.Load().page(false).Text)
	require.Len(t, list.Hints, 1)
	return strings.TrimPrefix(list.Hints[0].URI, p.Secret()+"/")
}

func TestWaitersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := begun(Config{MaxWaiters: 5, MaxWaitersPerAddr: 2}, ms(10500))
		addr := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		wait := func(who netip.Addr) {
			group.Go(func() {
				if _, err := p.Playlist(ctx, Audio, Directives{Block: true, MSN: 6}, who); err != context.Canceled {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		refused := func(who netip.Addr) {
			_, err := p.Playlist(ctx, Audio, Directives{Block: true, MSN: 6}, who)
			require.ErrorIs(t, err, ErrWaiters)
			_, err = p.Open(ctx, p.Secret()+"/"+hint(t, p), who)
			require.ErrorIs(t, err, ErrWaiters)
		}
		wait(addr(1))
		wait(addr(1))
		refused(addr(1))
		wait(addr(2))
		wait(netip.Addr{})
		wait(netip.Addr{})
		refused(addr(3))
		_, err := p.Playlist(ctx, Audio, Directives{Block: true, MSN: 4}, addr(1))
		require.NoError(t, err, "what need not wait is not refused")
		cancel()
		group.Wait()
		require.Zero(t, p.Stats().Waiters)
		require.Empty(t, p.waiters.perAddr)
	})
}

// 2000 players of one stream wait, wake, and get one and the same playlist.
func TestTwoThousandWaiters(t *testing.T) {
	p := begun(Config{MaxWaitersPerAddr: -1}, ms(10030))
	const n = 2000
	ctx := t.Context()
	var got [n]*Playlist
	var group sync.WaitGroup
	before := memory()
	for i := range n {
		group.Go(func() {
			pl, err := p.Playlist(ctx, Video, Directives{Block: true, MSN: 5, Part: true}, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
			if err != nil {
				t.Error(err)
			}
			got[i] = pl
		})
	}
	for p.Stats().Waiters < n {
		time.Sleep(time.Millisecond)
	}
	each := (memory() - before) / n
	t.Logf("%d bytes a waiter, its goroutine's stack included", each)
	require.Less(t, each, uint64(8000))
	src := &streamtest.Pattern{}
	for f := range from(until(sameTracks(src.Frames(-1), p.announced), ms(10300)), ms(10030)) {
		p.Add(f)
	}
	group.Wait()
	for i := range got {
		require.Same(t, got[0], got[i])
	}
}

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
