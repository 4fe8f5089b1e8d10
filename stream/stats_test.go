package stream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStreamStats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video, audio)
		s := p.Stream()
		defer subscribe(t, &h, "live/a", nil).Close()
		require.Equal(t, []TrackStats{{Track: video}, {Track: audio}}, s.Stats().Tracks)

		// 25 pictures and 50 sounds a second of 100 bytes each, for a minute;
		// a key frame each two seconds.
		for i := range 60 * 50 {
			write(t, p, frame(audio, 20*i, true))
			if i%2 == 0 {
				write(t, p, frame(video, 20*i, i%100 == 0))
			}
			if i == 150 {
				require.Equal(t, 2*time.Second, s.Stats().Tracks[0].KeyInterval, "known from the second key frame on")
			}
			time.Sleep(20 * ms)
		}
		st := s.Stats()
		require.EqualValues(t, 4500, st.Frames)
		require.EqualValues(t, 450_000, st.Bytes)
		require.Equal(t, 1, st.Readers)
		require.Equal(t, time.Minute, st.Uptime)
		require.Equal(t, 59_980*ms, st.Position)
		require.Equal(t, BitRates{60_000, 60_000, 60_000}, st.BitRate)
		v, a := st.Tracks[0], st.Tracks[1]
		require.EqualValues(t, 1500, v.Frames)
		require.EqualValues(t, 150_000, v.Bytes)
		require.InDelta(t, 25, v.FrameRate, .01)
		require.Equal(t, 2*time.Second, v.KeyInterval)
		require.EqualValues(t, 3000, a.Frames)
		require.InDelta(t, 50, a.FrameRate, .01)
		require.Zero(t, a.KeyInterval)

		// Silence: the windows run empty one after the other.
		time.Sleep(5 * time.Second)
		st = s.Stats()
		require.Equal(t, BitRates{0, 30_000, 50_000}, st.BitRate)
		require.InDelta(t, 63/(63*.04+5), st.Tracks[0].FrameRate, .1)
		time.Sleep(time.Minute)
		require.Equal(t, BitRates{}, s.Stats().BitRate)
	})
}

// A young stream's rates are over its own life, not over windows it has not lived.
func TestBitRateOfAYoungStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, audio)
		for i := range 4 {
			write(t, p, frame(audio, 1000*i, true))
			time.Sleep(time.Second)
		}
		require.Equal(t, BitRates{800, 800, 800}, p.Stream().Stats().BitRate)
	})
}

func TestHistogram(t *testing.T) {
	var h Histogram
	require.Zero(t, h.Quantile(.5))
	h.Observe(0, 1)
	h.Observe(64*time.Microsecond, 1)
	h.Observe(65*time.Microsecond, 2)
	h.Observe(time.Hour, 1)
	h.Observe(10*ms, 5)
	buckets, count, sum := h.Snapshot()
	require.EqualValues(t, 10, count)
	require.Equal(t, time.Hour+50*ms+194*time.Microsecond, sum)
	require.Len(t, buckets, histogramBuckets+1)
	require.Equal(t, HistogramBucket{64 * time.Microsecond, 2}, buckets[0])
	require.Equal(t, HistogramBucket{128 * time.Microsecond, 2}, buckets[1])
	require.Equal(t, HistogramBucket{0, 1}, buckets[histogramBuckets], "no bound")
	require.Equal(t, 16777216*time.Microsecond, buckets[histogramBuckets-1].Bound)

	require.Equal(t, 64*time.Microsecond, h.Quantile(.2))
	require.Equal(t, 96*time.Microsecond, h.Quantile(.3), "half way through its bucket")
	require.InDelta(t, float64(16384*time.Microsecond), float64(h.Quantile(.9)), 1)
	require.Equal(t, 16777216*time.Microsecond, h.Quantile(1), "beyond the last bound all that is known is the bound")
	require.Zero(t, h.Quantile(0))
}
