package whep

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// A path carries some bits a second, and its estimate is at most half as much again
// as what is sent over it.
func TestChooser(t *testing.T) {
	rates := []int64{2_000_000, 700_000, 200_000}
	for _, c := range []struct {
		name       string
		carries    int64
		from       int
		blind      bool          // there is no estimate, but loss
		lags       bool          // the estimate rises by 8 % a second, as a browser does it
		ends       int           // the layer after a minute
		turns      int           // at most
		downWithin time.Duration // from the start; 0: it does not go down
	}{
		{"wide", 10_000_000, 0, false, false, 0, 0, 0},
		{"wide from below", 10_000_000, 2, false, false, 0, 2, 0},
		{"narrow", 900_000, 0, false, false, 1, 1, 4 * time.Second},
		{"narrower", 300_000, 0, false, false, 2, 1, 4 * time.Second},
		{"nothing fits", 100_000, 0, false, false, 2, 1, 4 * time.Second},
		{"lagging and wide", 10_000_000, 2, false, true, 0, 2, 0},
		{"lagging and narrow", 900_000, 0, false, true, 1, 3, 5 * time.Second},
		{"blind and wide", 10_000_000, 2, true, false, 0, 2, 0},
		{"blind and narrow", 900_000, 0, true, false, 1, 9, 4 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ch chooser
			now := time.Unix(1e9, 0)
			begin := now
			at, turns, probe, down := c.from, 0, int64(0), time.Duration(0)
			onRight, estimate := 0, int64(0)
			for range 120 {
				sent := max(rates[at], probe)
				st := webrtc.SendStats{Bandwidth: min(sent+sent/2, c.carries)}
				if sent > c.carries {
					st.FractionLost = 1 - float64(c.carries)/float64(sent)
				}
				if c.lags {
					st.Bandwidth = min(st.Bandwidth, max(estimate+estimate/25, 150_000))
					estimate = st.Bandwidth
				}
				if c.blind {
					st.Bandwidth = 0
				}
				var to int
				to, probe = ch.look(now, at, rates, st)
				if to != at {
					turns++
					if to > at && down == 0 {
						down = now.Sub(begin)
					}
					at = to
				}
				if at == c.ends {
					onRight++
				}
				now = now.Add(lookEvery)
			}
			require.Equal(t, c.downWithin > 0, down > 0)
			require.LessOrEqual(t, down, c.downWithin)
			require.Greater(t, onRight, 60, "most of the time")
			require.LessOrEqual(t, turns, c.turns)
			if !c.blind {
				require.Equal(t, c.ends, at)
			}
		})
	}
}

// One that is gone is left for what the estimate allows.
func TestChooserWithoutLayer(t *testing.T) {
	var c chooser
	rates := []int64{2_000_000, 700_000, 200_000}
	for estimate, want := range map[int64]int{0: 0, 5_000_000: 0, 800_000: 1, 100_000: 2} {
		to, probe := c.look(time.Unix(1e9, 0), -1, rates, webrtc.SendStats{Bandwidth: estimate})
		require.Equal(t, want, to)
		require.Zero(t, probe)
	}
	to, _ := c.look(time.Unix(1e9, 0), 0, rates[:1], webrtc.SendStats{Bandwidth: 1})
	require.Zero(t, to, "there is no other")
}

func TestFit(t *testing.T) {
	one := func(rid string, bitrate int64, width, height int) rung {
		return rung{Layer: webrtc.Layer{RID: rid, Bitrate: bitrate, Width: width, Height: height}}
	}
	all := []rung{one("source", 1000, 1280, 720), one("same", 990, 1280, 720), one("h", 500, 640, 360), one("dead", 300, 400, 300), one("q", 100, 320, 180), one("unknown", 0, 100, 100)}
	all[3].idle = true
	names := func(width, height int) (list []string) {
		for _, r := range fit(all, "", width, height) {
			list = append(list, r.RID)
		}
		return list
	}
	require.Equal(t, []string{"source", "h", "q"}, names(0, 0))
	require.Equal(t, []string{"h", "q"}, names(640, 0))
	require.Equal(t, []string{"q"}, names(0, 200))
	require.Equal(t, []string{"unknown"}, names(50, 50), "the smallest, rather than nothing")
	require.Equal(t, "same", fit(all, "same", 0, 0)[1].RID, "who sees it goes on")
}

// Of a rendition whose rate is not known it is guessed by its size.
func TestRungs(t *testing.T) {
	f := start(t)
	avc := func(sps string) *stream.Track { return &stream.Track{ID: 1, Codec: stream.H264, Config: []byte(sps)} }
	p := f.publish(t, "live/a", avc(""))
	make := func(name string, codec stream.Codec) stream.RenditionInfo {
		return stream.RenditionInfo{Name: name, Tracks: []*stream.Track{{ID: 1, Codec: codec}}, Width: 640, Height: 360, Bandwidth: 1000}
	}
	_, err := p.Stream().Derive(&stream.Derivation{
		Renditions: []stream.RenditionInfo{make("low", stream.H264), make("other", stream.VP8), {Name: "opus", Tracks: []*stream.Track{opus}}},
		Make:       idle,
	})
	require.NoError(t, err)
	list := (&feed{stream: p.Stream()}).rungs(stream.H264)
	require.Len(t, list, 2)
	require.Equal(t, webrtc.Layer{RID: "low", Bitrate: 1000, Width: 640, Height: 360}, list[1].Layer)
	require.Equal(t, sourceLayer, list[0].RID)
}
