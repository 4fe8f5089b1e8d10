package stream

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// cuts writes a stream with a key frame each second, and returns what begins
// segments. change may alter frames.
func cuts(t *testing.T, h *Hub, name string, from, to time.Duration, o *PublishOptions, change func(f *Frame)) (list []*Frame) {
	t.Helper()
	p, err := h.Publish(t.Context(), name, o)
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, p.SetTracks(video, audio))
	for at := from; at < to; at += 100 * time.Millisecond {
		for _, track := range []*Track{video, audio} {
			f := &Frame{Track: track, DTS: at, PTS: at, Key: track == video && at%time.Second == 0, Data: []byte{1}}
			if change != nil {
				change(f)
			}
			require.NoError(t, p.Write(f))
			if f.Cut {
				list = append(list, f)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return list
}

func TestCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Hub{Segment: 2 * time.Second}
		defer h.Close()
		list := cuts(t, h, "live/a", 0, 7*time.Second, nil, nil)
		require.Len(t, list, 4)
		for i, f := range list {
			require.Equal(t, uint64(i), f.Segment.Number)
			require.Equal(t, time.Duration(i)*2*time.Second, f.DTS)
			require.Equal(t, video, f.Track)
			require.True(t, f.Key)
			require.False(t, f.Segment.Discontinuity)
			require.Equal(t, 2*time.Second, f.Segment.Target)
			require.Equal(t, f.Time.Round(0), f.Segment.Time)
		}
		// The next of the name counts on, and tells of the break.
		time.Sleep(time.Minute)
		next := cuts(t, h, "live/a", 0, time.Second, nil, nil)
		require.Len(t, next, 1)
		require.Equal(t, uint64(4), next[0].Segment.Number)
		require.True(t, next[0].Segment.Discontinuity)
		require.Equal(t, uint64(1), next[0].Segment.Discontinuities)
		time.Sleep(remembered + time.Second)
		require.Zero(t, cuts(t, h, "live/a", 0, time.Second, nil, nil)[0].Segment.Number, "for so long")
	})
}

func TestCutsAtBreaksOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Hub{Segment: 2 * time.Second}
		defer h.Close()
		// A break cuts at the next key frame, a track's change too; sound alone cuts by itself.
		other := &Track{ID: video.ID, Codec: H264, Config: []byte("other")}
		list := cuts(t, h, "live/a", 0, 6*time.Second, nil, func(f *Frame) {
			f.Discontinuity = f.Track == audio && f.DTS == 2500*time.Millisecond
		})
		require.Equal(t, []time.Duration{0, 2 * time.Second, 3 * time.Second, 5 * time.Second}, cutTimes(list))
		require.True(t, list[2].Segment.Discontinuity)
		p, err := h.Publish(t.Context(), "live/b", nil)
		require.NoError(t, err)
		require.NoError(t, p.SetTracks(other))
		f := &Frame{Track: other, Key: true}
		require.NoError(t, p.Write(f))
		require.True(t, f.Cut)
		require.NoError(t, p.SetTracks(video))
		f = &Frame{Track: video, DTS: time.Second, PTS: time.Second, Key: true}
		require.NoError(t, p.Write(f))
		require.True(t, f.Cut && f.Segment.Discontinuity)
		p.Close()

		p, err = h.Publish(t.Context(), "live/c", nil)
		require.NoError(t, err)
		defer p.Close()
		require.NoError(t, p.SetTracks(audio))
		list = nil
		for at := time.Duration(0); at < 5*time.Second; at += 20 * time.Millisecond {
			f := &Frame{Track: audio, DTS: at, PTS: at}
			require.NoError(t, p.Write(f))
			if f.Cut {
				list = append(list, f)
			}
		}
		require.Equal(t, []time.Duration{0, 2 * time.Second, 4 * time.Second}, cutTimes(list))
	})
}

func cutTimes(frames []*Frame) (list []time.Duration) {
	for _, f := range frames {
		list = append(list, f.DTS)
	}
	return list
}

func TestUncut(t *testing.T) {
	h := &Hub{}
	defer h.Close()
	p, err := h.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, p.SetTracks(video))
	f := &Frame{Track: video, Key: true, Cut: true}
	require.NoError(t, p.Write(f))
	require.False(t, f.Cut)
	require.Nil(t, f.Segment)
}

// What another server has cut is taken over, with numbers that only go on and no
// faster than time.
func TestAdoptedCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name  string
			given []Segment // one a second
			want  []uint64
			disc  []uint64
		}{
			{"as they are", []Segment{{Number: 100}, {Number: 101}, {Number: 102}}, []uint64{100, 101, 102}, []uint64{0, 0, 0}},
			{"some are missing", []Segment{{Number: 100}, {Number: 104}}, []uint64{100, 104}, []uint64{0, 0}},
			{"back", []Segment{{Number: 100}, {Number: 3}, {Number: 4}}, []uint64{100, 101, 102}, []uint64{0, 0, 0}},
			{"ahead", []Segment{{Number: 100}, {Number: 1e14}, {Number: 1e14 + 1}}, []uint64{100, 101, 102}, []uint64{0, 0, 0}},
			{"breaks", []Segment{{Number: 1, Discontinuities: 7}, {Number: 2, Discontinuity: true, Discontinuities: 8}, {Number: 3, Discontinuity: true, Discontinuities: 1}}, []uint64{1, 2, 3}, []uint64{7, 8, 9}},
		} {
			h := &Hub{Segment: 5 * time.Second}
			list := cuts(t, h, "live/a", 0, time.Duration(len(tt.given))*time.Second, nil, func(f *Frame) {
				f.Segment, f.Cut = &tt.given[f.DTS/time.Second], f.Key
			})
			var numbers, disc []uint64
			for _, f := range list {
				numbers, disc = append(numbers, f.Segment.Number), append(disc, f.Segment.Discontinuities)
				require.Equal(t, f.Segment.Discontinuity, f.Discontinuity)
			}
			require.Equal(t, tt.want, numbers, tt.name)
			require.Equal(t, tt.disc, disc, tt.name)
			h.Close()
		}
		// Whoever cuts each frame has no say, and shifted timestamps are told.
		h := &Hub{}
		defer h.Close()
		list := cuts(t, h, "live/a", time.Hour, time.Hour+2*time.Second, nil, func(f *Frame) {
			f.Segment, f.Cut = &Segment{Number: uint64(f.DTS / time.Millisecond), Shift: time.Minute}, true
		})
		require.LessOrEqual(t, len(list), int(2*time.Second/minSegment))
		for _, f := range list {
			require.Equal(t, time.Minute-time.Hour, f.Segment.Shift)
		}
	})
}

func TestCountsAreBounded(t *testing.T) {
	h := &Hub{}
	for i := range 2 * maxRemembered {
		h.remember(string(rune(i)), counted{next: 1, at: time.Now()})
	}
	require.Len(t, h.counts, maxRemembered)
	last := string(rune(2*maxRemembered - 1))
	require.Equal(t, uint64(1), h.recall(last).next)
	require.Zero(t, h.recall(last).next)
}

// A frame that begins nothing costs nothing.
func TestCutsCostNothingMuch(t *testing.T) {
	c := cutter{length: 2 * time.Second}
	c.place(&Frame{Track: video, Key: true, Time: time.Now()}, true, 0)
	f := &Frame{Track: video, DTS: time.Millisecond}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		f.Segment = nil
		f.DTS += time.Microsecond
		c.place(f, true, 0)
	}))
}
