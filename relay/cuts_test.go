package relay

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A screen is a player's view of a node's HLS: everything that its playlists
// have ever listed.
type screen struct {
	name string
	mu   sync.Mutex
	segs [hls.Renditions]map[uint64]*hls.Segment
	bad  []string

	lossy bool // pictures get lost on the way
}

// packaged makes HLS of a stream of a node until stop is called.
func (n *node) packaged(name string) (s *screen, stop func()) {
	s = &screen{name: n.host}
	for r := range s.segs {
		s.segs[r] = map[uint64]*hls.Segment{}
	}
	fresh := false
	pack := hls.New(hls.Config{
		FollowCuts: true, TS: func() hls.TSMuxer { return &mpegts.Muxer{} }, TSAlways: true,
		OnSegment: func(seg *hls.Segment) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.segs[seg.Rendition][seg.Sequence] = seg
			fresh = true
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	sub, err := n.Hub.Subscribe(ctx, name, nil)
	require.NoError(n.t, err)
	reloads := [hls.Renditions]*hlscheck.Reloads{}
	for r := range reloads {
		reloads[r] = &hlscheck.Reloads{Grows: true, Slack: 50 * time.Millisecond}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer sub.Close()
		var batch [16]*stream.Frame
		for {
			k, err := sub.Read(ctx, batch[:])
			if err != nil {
				return
			}
			pack.SetTracks(sub.Tracks()...)
			for _, f := range batch[:k] {
				pack.Add(f)
			}
			if !fresh {
				continue
			}
			fresh = false
			for _, r := range []hls.Rendition{hls.Video, hls.Audio, hls.TS} {
				ok, err := pack.Ready(r, hls.Directives{})
				if !ok || err != nil {
					continue
				}
				p, err := pack.Playlist(ctx, r, hls.Directives{}, netip.Addr{})
				if err != nil {
					s.fault(err.Error())
					continue
				}
				for _, fault := range reloads[r].Add(time.Time{}, p.Text) {
					text := fault.Error()
					if s.lossy && (strings.Contains(text, "a part lasts") || strings.Contains(text, "hinted at")) {
						continue // a picture stays until the next comes, and we look once a segment
					}
					s.fault(fmt.Sprintf("%v: %v\n%s", r, fault, p.Text))
				}
			}
		}
	}()
	return s, func() { cancel(); <-done }
}

func (s *screen) fault(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = append(s.bad, text)
}

// faults returns what was wrong so far.
func (s *screen) faults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bad)
}

// of returns the segments that there were of a rendition, by number.
func (s *screen) of(r hls.Rendition) map[uint64]*hls.Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.segs[r])
}

// numbers returns the Media Sequence Numbers that there were of a rendition.
func (s *screen) numbers(r hls.Rendition) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.segs[r]))
}

// agree checks that two nodes have the same segments from a number on, and returns
// how many of the picture. Of sound a node that has just begun lacks what had
// come before its first picture. Continuity counters of MPEG-TS are a node's own.
func agree(t *testing.T, a, b *screen, from uint64) (common int) {
	t.Helper()
	for _, s := range []*screen{a, b} {
		require.Empty(t, s.faults(), s.name)
	}
	for _, r := range []hls.Rendition{hls.Video, hls.Audio, hls.TS} {
		theirs := b.numbers(r)
		for i, n := range a.numbers(r) {
			if i == 0 || len(theirs) == 0 || n <= theirs[0] || n < from {
				continue // the first of either
			}
			x, y := a.of(r)[n], b.of(r)[n]
			if x == nil || y == nil {
				continue
			}
			at := fmt.Sprintf("%v %d of %s and %s", r, n, a.name, b.name)
			require.Equal(t, x.Gap, y.Gap, at)
			require.Equal(t, x.Duration, y.Duration, at)
			require.Equal(t, x.Start, y.Start, at)
			require.Equal(t, x.PTS, y.PTS, at)
			require.True(t, x.Time.Equal(y.Time), "%s: %v and %v", at, x.Time, y.Time)
			require.Equal(t, x.Discontinuity, y.Discontinuity, at)
			require.Equal(t, x.DiscontinuitySequence, y.DiscontinuitySequence, at)
			require.Equal(t, x.Content().Size, y.Content().Size, at)
			if r == hls.TS {
				continue
			}
			require.Equal(t, len(x.Parts), len(y.Parts), at)
			require.Equal(t, bytes.Join(x.Content().Data, nil), bytes.Join(y.Content().Data, nil), at)
			require.Equal(t, x.Init.Data, y.Init.Data, at)
			if r == hls.Video {
				common++
			}
		}
	}
	return common
}

func cluster(t *testing.T) (network *streamtest.Net, origin, one, two *node, end func()) {
	network = &streamtest.Net{}
	origin = newNode(t, network, "origin")
	origin.Hub.Segment = 2 * time.Second
	one = newNode(t, network, "one", "runnel://origin")
	two = newNode(t, network, "two", "runnel://origin")
	return network, origin, one, two, func() {
		two.close()
		one.close()
		origin.close()
		network.Close()
	}
}

// The origin, an edge from the start and one that joins later have the same
// segments under the same numbers.
func TestEdgesAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, origin, one, two, end := cluster(t)
		defer end()
		defer origin.publish("live/cam", 0)()
		a, stop := origin.packaged("live/cam")
		defer stop()
		b, stop := one.packaged("live/cam")
		defer stop()
		time.Sleep(7300 * time.Millisecond)
		c, stop := two.packaged("live/cam")
		defer stop()
		time.Sleep(21 * time.Second)
		require.GreaterOrEqual(t, agree(t, a, b, 0), 11)
		require.GreaterOrEqual(t, agree(t, b, c, 0), 8)
		require.Equal(t, uint64(4), c.numbers(hls.Video)[0], "it begins with the first cut that it sees")
		require.Equal(t, 2*time.Second, c.of(hls.Video)[4].Duration, "and with a whole segment")
	})
}

// An edge of an edge has them too, and what is published at an edge is cut there.
func TestCutsTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, origin, one, _, end := cluster(t)
		defer end()
		leaf := newNode(t, network, "leaf", "runnel://one")
		defer leaf.close()
		defer origin.publish("live/cam", 0)()
		a, stop := origin.packaged("live/cam")
		defer stop()
		b, stop := leaf.packaged("live/cam")
		defer stop()

		one.Hub.Segment = 3 * time.Second
		defer one.publish("live/other", 0)()
		ctx, cancel := context.WithCancel(t.Context())
		pushed := make(chan error, 1)
		go func() { pushed <- one.Push(ctx, "live/other", "runnel://origin/live/other") }()
		x, stop := one.packaged("live/other")
		defer stop()
		time.Sleep(time.Second)
		y, stop := origin.packaged("live/other")
		defer stop()
		time.Sleep(20 * time.Second)
		require.GreaterOrEqual(t, agree(t, a, b, 0), 7)
		cancel()
		<-pushed
		require.GreaterOrEqual(t, agree(t, x, y, 0), 4)
		for n, segment := range x.of(hls.Video) {
			require.Equal(t, 3*time.Second, segment.Duration, "segment %d", n)
		}
	})
}

// When the publisher comes back, all edges count on alike, those that were there
// and those that come now.
func TestEdgesAgreeWhenThePublisherReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, origin, one, two, end := cluster(t)
		defer end()
		stop := origin.publish("live/cam", 0)
		a, stopA := one.packaged("live/cam")
		defer stopA()
		b, stopB := two.packaged("live/cam")
		defer stopB()
		time.Sleep(10300 * time.Millisecond)
		stop()
		require.GreaterOrEqual(t, agree(t, a, b, 0), 4)
		last := a.numbers(hls.Video)
		time.Sleep(5 * time.Second)
		defer origin.publish("live/cam", 40*time.Second)()
		time.Sleep(4100 * time.Millisecond)
		late := newNode(t, network, "late", "runnel://origin")
		defer late.close()
		c, stopC := late.packaged("live/cam")
		defer stopC()
		time.Sleep(15 * time.Second)
		// One was in the making, and of the next they may have missed the beginning.
		from := last[len(last)-1] + 3
		require.GreaterOrEqual(t, agree(t, a, b, from), 6)
		require.GreaterOrEqual(t, agree(t, a, c, from), 5)
		broken := 0
		for _, x := range a.of(hls.Video) {
			if x.Discontinuity {
				broken++
			}
		}
		require.Equal(t, 1, broken)
	})
}

// An edge that is cut off for a while has gaps, and agrees again with the other
// afterwards.
func TestEdgesAgreeAfterALoss(t *testing.T) {
	for _, away := range []time.Duration{300 * time.Millisecond, 4 * time.Second, 9 * time.Second} {
		t.Run(away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, origin, one, two, end := cluster(t)
				defer end()
				defer origin.publish("live/cam", 0)()
				a, stop := origin.packaged("live/cam")
				defer stop()
				b, stop := one.packaged("live/cam")
				b.lossy = true
				defer stop()
				time.Sleep(8500 * time.Millisecond)
				origin.down()
				time.Sleep(away)
				origin.up()
				time.Sleep(12 * time.Second)
				c, stop := two.packaged("live/cam")
				defer stop()
				time.Sleep(15 * time.Second)
				back := uint64((8500*time.Millisecond+away+2*time.Second)/(2*time.Second)) + 1
				require.GreaterOrEqual(t, agree(t, a, b, back), 9)
				require.GreaterOrEqual(t, agree(t, b, c, back), 5)
				gaps := 0
				for _, n := range b.numbers(hls.Video) {
					if x := b.of(hls.Video)[n]; x.Gap {
						gaps++
					}
				}
				require.LessOrEqual(t, gaps, int(away/(2*time.Second)))
				if away > 4*time.Second {
					require.NotZero(t, gaps)
				}
			})
		})
	}
}

// An origin that has begun to count anew does not set back an edge that lived
// through it.
func TestCountGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, origin, one, _, end := cluster(t)
		defer end()
		stop := origin.publish("live/cam", 0)
		a, stopA := one.packaged("live/cam")
		defer stopA()
		time.Sleep(20 * time.Second)
		stop()
		origin.down()
		origin.Hub.Close()
		again := newNode(t, network, "origin")
		defer again.close()
		again.Hub.Segment = 2 * time.Second
		time.Sleep(3 * time.Second)
		defer again.publish("live/cam", 0)()
		time.Sleep(10 * time.Second)
		require.Empty(t, a.faults())
		numbers := a.numbers(hls.Video)
		require.GreaterOrEqual(t, len(numbers), 13)
		for i, n := range numbers {
			require.Equal(t, numbers[0]+uint64(i), n)
			require.False(t, a.of(hls.Video)[n].Gap)
		}
	})
}

func TestCut(t *testing.T) {
	s := &stream.Segment{Number: 1e14, Discontinuity: true, Discontinuities: 7, Time: time.Unix(1795000000, 123456789), Target: 2 * time.Second, Shift: -time.Hour - 1}
	b := appendCut(nil, s, true)
	require.Len(t, b, cutSize)
	c, ok := parseCut(b)
	require.True(t, ok)
	require.True(t, c.begins)
	require.True(t, s.Time.Equal(c.segment.Time))
	c.segment.Time = s.Time
	require.Equal(t, s, c.segment)
	_, ok = parseMark(b)
	require.False(t, ok, "who does not know it")
	require.True(t, isMark(b))
	for _, bad := range [][]byte{nil, b[:len(b)-1], append(b[:len(b):len(b)], 0), appendCut(nil, &stream.Segment{Number: 1e15}, false)} {
		_, ok := parseCut(bad)
		require.False(t, ok)
	}
}

// FuzzCut: what a server says of segments is bounded, and numbers only go on.
func FuzzCut(f *testing.F) {
	tag := func(typ byte, body []byte) []byte { b, _ := flv.AppendTag(nil, typ, 7, body, nil); return b }
	head := flv.AppendFileHeader(nil, true, true)
	audio := []byte{0x2f, 0xff, 0xfb, 0x90, 0x44, 0}
	seed := head
	for _, n := range []uint64{5, 6, 1e14, 2} {
		seed = append(seed, tag(flv.TagData, appendCut(nil, &stream.Segment{Number: n}, true))...)
		seed = append(seed, tag(flv.TagAudio, audio)...)
	}
	f.Add(string(seed))
	f.Fuzz(func(t *testing.T, b string) {
		hub := &stream.Hub{}
		defer hub.Close()
		pub, err := hub.Publish(t.Context(), "a/b", nil)
		require.NoError(t, err)
		sub, err := hub.Subscribe(t.Context(), "a/b", nil)
		require.NoError(t, err)
		_ = (&flv.Reader{R: strings.NewReader(b), Demuxer: &flv.Demuxer{Sink: &marked{Sink: pub}}}).ReadAll()
		pub.Close()
		pack := hls.New(hls.Config{FollowCuts: true})
		var last *stream.Segment
		for f, err := range sub.Frames(t.Context()) {
			if err != nil {
				break
			}
			if s := f.Segment; s != nil && last != nil && s != last {
				require.Greater(t, s.Number, last.Number)
				require.GreaterOrEqual(t, s.Discontinuities, last.Discontinuities)
			}
			last = f.Segment
			pack.Add(f)
		}
		pack.End()
	})
}
