package transcode

import "math"

// A resampler changes the rate of samples by a ratio up/down of small numbers: a
// low pass at the lower of the two rates, of which only those outputs are computed
// that are kept, each by the taps that meet a sample. Its outputs are centred: number
// n stands exactly for the input's time n*down/up, so that it shifts nothing.
type resampler struct {
	up, down, channels int
	taps               int       // of each phase; even
	filter             []float32 // up phases of taps

	buf   []float32 // input, from taps/2-1 samples before the next output's
	phase int       // of the next output, 0 ≤ phase < up
	skip  int       // samples of input to leave out before buf, if it was moved past the end
}

const (
	resampleTaps = 40   // where the rate grows
	resampleBeta = 7.5  // of the Kaiser window: 75 dB down
	resamplePass = 0.92 // the middle of the slope, of half the lower rate
	maxPhases    = 1024
)

// newResampler returns nil if the rates are the same.
func newResampler(from, to, channels int) (*resampler, error) {
	if from == to {
		return nil, nil
	}
	if from < 1000 || to < 1000 {
		return nil, unsupported("resampling %d Hz to %d", from, to)
	}
	a, b := from, to
	for b != 0 {
		a, b = b, a%b
	}
	r := &resampler{up: to / a, down: from / a, channels: channels}
	if r.up > maxPhases || r.down > maxPhases {
		return nil, unsupported("resampling %d Hz to %d", from, to)
	}
	scale := min(1, float64(to)/float64(from)) // of the cutoff
	half := int(math.Ceil(resampleTaps / 2 / scale))
	r.taps = 2 * half
	r.filter = make([]float32, r.up*r.taps)
	h := make([]float64, r.taps)
	for p := range r.up {
		sum := 0.0
		for k := range h {
			// Tap k meets the sample k-half+1 after the one before the output.
			t := float64(k-half+1) - float64(p)/float64(r.up)
			h[k] = sinc(t*scale*resamplePass) * kaiser(t/float64(half))
			sum += h[k]
		}
		for k, v := range h {
			r.filter[p*r.taps+k] = float32(v / sum)
		}
	}
	r.reset()
	return r, nil
}

// reset forgets what was before.
func (r *resampler) reset() {
	r.buf = append(r.buf[:0], make([]float32, (r.taps/2-1)*r.channels)...)
	r.phase, r.skip = 0, 0
}

// tail is how many samples more must come before those that came are all out.
func (r *resampler) tail() int { return r.taps / 2 }

// append takes in and appends to dst what can be computed.
func (r *resampler) append(dst, in []float32) []float32 {
	r.buf = append(r.buf, in...)
	at, size := r.skip*r.channels, r.taps*r.channels
	for at+size <= len(r.buf) {
		window := r.buf[at : at+size]
		filter := r.filter[r.phase*r.taps:][:r.taps]
		if r.channels == 1 {
			sum := float32(0)
			for k, h := range filter {
				sum += h * window[k]
			}
			dst = append(dst, sum)
		} else {
			var left, right float32
			for k, h := range filter {
				left += h * window[2*k]
				right += h * window[2*k+1]
			}
			dst = append(dst, left, right)
		}
		r.phase += r.down
		at += r.phase / r.up * r.channels
		r.phase %= r.up
	}
	used := min(at, len(r.buf))
	r.skip = (at - used) / r.channels
	r.buf = r.buf[:copy(r.buf, r.buf[used:])]
	return dst
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

func kaiser(x float64) float64 {
	if x <= -1 || x >= 1 {
		return 0
	}
	return bessel0(resampleBeta*math.Sqrt(1-x*x)) / bessel0(resampleBeta)
}

// bessel0 is the modified Bessel function of the first kind and order zero.
func bessel0(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-12; k++ {
		term *= x * x / (4 * k * k)
		sum += term
	}
	return sum
}
