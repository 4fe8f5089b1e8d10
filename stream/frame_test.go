package stream

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTicksRoundTrip(t *testing.T) {
	for _, rate := range []int{90000, 48000, 44100, 1000, 8000, 11025, 22050, 96000, 1, 1_000_000} {
		// A time.Duration spans 292 years either way.
		limit := int64(math.MaxInt64/int64(time.Second)-1) * int64(rate)
		rapid.Check(t, func(t *rapid.T) {
			n := rapid.Int64Range(-limit, limit).Draw(t, "ticks")
			require.Equal(t, n, Ticks(FromTicks(n, rate), rate))
		})
		for n := -3 * int64(rate); n <= 3*int64(rate); n += max(1, int64(rate)/4999) {
			if got := Ticks(FromTicks(n, rate), rate); got != n {
				t.Fatalf("%d ticks of %d Hz came back as %d", n, rate, got)
			}
		}
	}
}

func TestTicksOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.IntRange(1, 1_000_000).Draw(t, "rate")
		n := rapid.Int64Range(-1<<40, 1<<40).Draw(t, "ticks")
		require.Less(t, FromTicks(n, rate), FromTicks(n+1, rate))
	})
}

func TestTicksValues(t *testing.T) {
	for _, c := range []struct {
		n    int64
		rate int
		want time.Duration
	}{
		{0, 90000, 0},
		{90000, 90000, time.Second},
		{3003, 90000, 33366667},
		{-3003, 90000, -33366667},
		{1024, 48000, 21333333},
		{1024, 44100, 23219955},
		{-1, 1000, -time.Millisecond},
		{1 << 33, 90000, 95443717688889},
	} {
		require.Equal(t, c.want, FromTicks(c.n, c.rate))
		require.Equal(t, c.n, Ticks(c.want, c.rate))
	}
	require.EqualValues(t, 3, Ticks(33*ms, 90), "2.97 is nearest to 3")
	require.EqualValues(t, -3, Ticks(-33*ms, 90))
}

func TestCodecText(t *testing.T) {
	for c := H264; c < codecEnd; c++ {
		text, err := json.Marshal(c)
		require.NoError(t, err)
		require.Equal(t, `"`+c.String()+`"`, string(text))
		var back Codec
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, c, back)
		require.Contains(t, []Kind{Video, Audio, Data}, c.Kind())
	}
	var c Codec
	require.Error(t, c.UnmarshalText([]byte("theora")))
	require.Error(t, c.UnmarshalText(nil))
	require.Equal(t, "Codec(0)", Codec(0).String())
	require.Equal(t, "Codec(200)", Codec(200).String())
	require.Equal(t, []string{"video", "audio", "data", "Kind(9)"},
		[]string{H265.Kind().String(), Opus.Kind().String(), AMF0.Kind().String(), Kind(9).String()})
}

func TestTrackSame(t *testing.T) {
	other := func(change func(*Track)) *Track {
		o := *audio
		change(&o)
		return &o
	}
	require.True(t, audio.Same(audio))
	require.True(t, audio.Same(other(func(*Track) {})))
	require.True(t, audio.Same(other(func(o *Track) { o.Language = "de" })), "a decoder does not care")
	require.False(t, audio.Same(nil))
	require.False(t, (*Track)(nil).Same(audio))
	for _, change := range []func(*Track){
		func(o *Track) { o.ID = 9 },
		func(o *Track) { o.Codec = Opus },
		func(o *Track) { o.Rate = 44100 },
		func(o *Track) { o.Channels = 1 },
		func(o *Track) { o.Config = []byte{0x12, 0x10} },
	} {
		require.False(t, audio.Same(other(change)))
	}
}
