package transcode

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// tone returns frames of a sine of that frequency and amplitude, the same in each
// channel but for the sign.
func tone(f Format, hz, amplitude float64, frames int) []float32 {
	var out []float32
	for i := range frames {
		v := amplitude * math.Sin(2*math.Pi*hz*float64(i)/float64(f.Rate))
		out = append(out, float32(v))
		if f.Channels == 2 {
			out = append(out, float32(-v))
		}
	}
	return out
}

// channel returns one of the channels.
func channel(pcm []float32, f Format, n int) []float64 {
	var out []float64
	for i := n; i < len(pcm); i += f.Channels {
		out = append(out, float64(pcm[i]))
	}
	return out
}

// fit finds the sine of that frequency in x, whose first sample is at time at, and
// returns its amplitude, its phase, and how far all else is below it, in dB.
func fit(x []float64, rate int, hz, at float64) (amplitude, phase, snr float64) {
	var c, s float64
	for i, v := range x {
		t := 2 * math.Pi * hz * (at + float64(i)/float64(rate))
		c += v * math.Cos(t)
		s += v * math.Sin(t)
	}
	n := float64(len(x)) / 2
	c, s = c/n, s/n
	var rest float64
	for i, v := range x {
		t := 2 * math.Pi * hz * (at + float64(i)/float64(rate))
		d := v - c*math.Cos(t) - s*math.Sin(t)
		rest += d * d
	}
	return math.Hypot(c, s), math.Atan2(c, s), 10 * math.Log10((c*c+s*s)*n/max(rest, 1e-20))
}

func TestResampler(t *testing.T) {
	for _, from := range []int{8000, 11025, 16000, 22050, 24000, 32000, 44100, 88200, 96000} {
		for channels := 1; channels <= 2; channels++ {
			in, out := Format{from, channels}, Format{48000, channels}
			r, err := newResampler(from, 48000, channels)
			require.NoError(t, err)
			pcm := tone(in, 1000, 0.5, from)
			// In pieces of any size.
			var got []float32
			for n, i := 1, 0; i < from; i, n = i+n, n*2%1500+1 {
				got = r.append(got, pcm[i*channels:min(i+n, from)*channels])
			}
			got = r.append(got, make([]float32, r.tail()*channels))
			require.InDelta(t, 48000, len(got)/channels, 7, "%d Hz", from)
			for c := range channels {
				x := channel(got, out, c)[4800:43200]
				amplitude, phase, snr := fit(x, 48000, 1000, 0.1)
				require.InDelta(t, 0.5, amplitude, 0.0005, "%d Hz", from)
				require.Greater(t, snr, 65.0, "%d Hz", from)
				// It shifts nothing: a sample at 48 kHz is an eighth of the circle.
				require.InDelta(t, float64(c)*math.Pi, math.Abs(phase), 0.001, "%d Hz", from)
			}
		}
	}
	same, err := newResampler(48000, 48000, 2)
	require.NoError(t, err)
	require.Nil(t, same)
	for _, odd := range []int{0, 44099, 1} {
		_, err = newResampler(odd, 48000, 1)
		require.Error(t, err)
	}
}

// What the lower rate cannot have does not come through folded.
func TestResamplerStops(t *testing.T) {
	r, err := newResampler(96000, 48000, 1)
	require.NoError(t, err)
	got := r.append(nil, tone(Format{96000, 1}, 30000, 0.5, 9600))
	for _, v := range got[100:] {
		require.Less(t, math.Abs(float64(v)), 0.001)
	}
}

func BenchmarkResample44100Stereo(b *testing.B) {
	r, err := newResampler(44100, 48000, 2)
	require.NoError(b, err)
	in, out := tone(Format{44100, 2}, 440, 0.5, 44100), []float32(nil)
	b.ReportAllocs()
	for b.Loop() {
		out = r.append(out[:0], in)
	}
}
