package transcode

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
)

// plain is a codec whose packets are samples of 16 bits. Its encoder looks one frame
// ahead and delays by half of one.
type plain struct {
	format Format
	frame  int
	held   []byte
	mute   bool // all samples are zero, which takes less time

	concealed int // samples
	resets    int
	fail      error // of Decode
	broken    error // of Encode
}

func (p *plain) Format() Format { return p.format }
func (p *plain) FrameSize() int { return p.frame }
func (p *plain) Delay() int     { return p.frame / 2 }
func (p *plain) Close()         {}
func (p *plain) Reset()         { p.held = nil; p.resets++ }
func (p *plain) Track() *stream.Track {
	return &stream.Track{Codec: stream.AAC, Rate: p.format.Rate, Channels: p.format.Channels}
}

func (p *plain) Decode(dst []float32, packet []byte) ([]float32, error) {
	if p.fail != nil {
		return dst, p.fail
	}
	if p.mute {
		return append(dst, make([]float32, len(packet)/2)...), nil
	}
	for ; len(packet) >= 2; packet = packet[2:] {
		dst = append(dst, float32(int16(binary.LittleEndian.Uint16(packet)))/32768)
	}
	return dst, nil
}

func (p *plain) Conceal(dst []float32, samples int) []float32 {
	p.concealed += samples
	return append(dst, make([]float32, samples*p.format.Channels)...)
}

func (p *plain) Encode(dst []byte, pcm []float32) ([]byte, error) {
	if p.broken != nil {
		return dst, p.broken
	}
	if p.held == nil {
		p.held = make([]byte, p.frame/2*2*p.format.Channels)
	}
	if p.mute {
		p.held = append(p.held, make([]byte, 2*len(pcm))...)
	} else {
		p.held = append(p.held, encodePlain(pcm)...)
	}
	if size := p.frame * 2 * p.format.Channels; len(p.held) > 2*size {
		dst = append(dst, p.held[:size]...)
		p.held = p.held[size:]
	}
	return dst, nil
}

func encodePlain(pcm []float32) []byte {
	var out []byte
	for _, v := range pcm {
		out = binary.LittleEndian.AppendUint16(out, uint16(int16(math.RoundToEven(float64(v)*32768))))
	}
	return out
}

// A heardPacket is one that came out of a line.
type heardPacket struct {
	pts    time.Duration
	broken bool
	pcm    []float32
}

// plainLine returns a line between two plain codecs, and what comes out of it.
func plainLine(t testing.TB, in, out Format, frame int) (l *soundLine, dec, enc *plain, heard *[]heardPacket) {
	dec, enc, heard = &plain{format: in}, &plain{format: out, frame: frame}, new([]heardPacket)
	l, err := newSoundLine(dec, enc, func(pts time.Duration, broken bool, p []byte) {
		pcm, _ := dec.Decode(nil, p)
		*heard = append(*heard, heardPacket{pts, broken, pcm})
	})
	require.NoError(t, err)
	return l, dec, enc, heard
}

func plainFrame(at time.Duration, pcm []float32) *stream.Frame {
	return &stream.Frame{PTS: at, DTS: at, Data: encodePlain(pcm)}
}

const ms = time.Millisecond

// What goes in at a time comes out at that time, whatever the rates and the delay.
func TestLineKeepsTime(t *testing.T) {
	for _, rate := range []int{8000, 16000, 44100, 48000} {
		in, out := Format{rate, 2}, Format{48000, 2}
		l, _, _, heard := plainLine(t, in, out, 960)
		pcm, size := tone(in, 440, 0.5, rate), 1024
		start := 3 * time.Second
		for n := 0; n*2 < len(pcm); n += size {
			at := start + stream.FromTicks(int64(n), rate)
			require.NoError(t, l.write(plainFrame(at, pcm[2*n:min(2*(n+size), len(pcm))])))
		}
		require.NoError(t, l.drain())
		require.GreaterOrEqual(t, len(*heard), 50)
		first, last := (*heard)[0], (*heard)[len(*heard)-1]
		require.Equal(t, start-10*ms, first.pts)
		require.GreaterOrEqual(t, last.pts+20*ms, start+time.Second, "all is out")
		var x []float32
		for i, h := range *heard {
			require.Equal(t, first.pts+time.Duration(i)*20*ms, h.pts)
			require.False(t, h.broken)
			x = append(x, h.pcm...)
		}
		amplitude, phase, snr := fit(channel(x, out, 0)[4800:43200], 48000, 440, 0.1-0.01)
		require.InDelta(t, 0.5, amplitude, 0.001)
		require.InDelta(t, 0, phase, 0.001)
		require.Greater(t, snr, 60.0)
	}
}

// An hour of packets whose times are rounded to milliseconds, by a clock that is right
// or off, stays where the source is.
func TestLineDoesNotDrift(t *testing.T) {
	for _, c := range []struct {
		off     float64
		seconds int
	}{{0, 3600}, {-100e-6, 3600}, {2e-3, 120}} {
		l, dec, enc, heard := plainLine(t, Format{11025, 1}, Format{11025, 1}, 1024)
		dec.mute, enc.mute = true, true
		silence := encodePlain(make([]float32, 1024))
		worst, steps := time.Duration(0), 0
		for n := range c.seconds * 11025 / 1024 {
			at := time.Duration(float64(stream.FromTicks(int64(n)*1024, 11025)) * (1 + c.off)).Round(ms)
			require.NoError(t, l.write(&stream.Frame{PTS: at + time.Second, Data: silence}))
			for _, h := range *heard {
				// It is half a frame and a frame behind what was written.
				worst = max(worst, (h.pts - at - time.Second + stream.FromTicks(512+1024, 11025)).Abs())
			}
			if l.base != time.Second {
				steps++
			}
			*heard = (*heard)[:0]
		}
		require.Less(t, worst, 10*ms, "%v", c.off)
		if c.off == 0 {
			require.Zero(t, steps, "packets follow each other without a step")
		}
	}
}

func TestLineConceals(t *testing.T) {
	f := Format{48000, 1}
	for _, c := range []struct {
		name      string
		exact     bool
		times     []time.Duration // of frames of 20 ms
		concealed time.Duration
		last      time.Duration // PTS of the packet that follows
		resets    int
	}{
		{"in time", true, []time.Duration{0, 20 * ms, 40 * ms}, 0, 60 * ms, 0},
		{"one lost", true, []time.Duration{0, 40 * ms, 60 * ms}, 20 * ms, 80 * ms, 0},
		{"ten lost", true, []time.Duration{0, 220 * ms}, 200 * ms, 240 * ms, 0},
		{"silence that is not sent", true, []time.Duration{0, 420 * ms, 820 * ms}, 780 * ms, 840 * ms, 0},
		{"twice", true, []time.Duration{0, 20 * ms, 20*ms + time.Microsecond, 40 * ms}, 0, 60 * ms, 0},
		{"far gap", true, []time.Duration{0, 2 * time.Second}, 0, 2020 * ms, 1},
		{"step back", true, []time.Duration{0, 20 * ms, 40 * ms, 60 * ms, 80 * ms, 100 * ms, 120 * ms, 140 * ms, 160 * ms, 180 * ms, 200 * ms, 220 * ms, 0}, 0, 20 * ms, 1},
		{"times that waver", false, []time.Duration{0, 35 * ms, 40 * ms, 60 * ms}, 0, 80 * ms, 0},
		{"a first packet that was late", false, []time.Duration{15 * ms, 20 * ms, 40 * ms, 60 * ms, 80 * ms}, 0, 100 * ms, 0},
		{"three lost", false, []time.Duration{0, 80 * ms, 100 * ms}, 60 * ms, 120 * ms, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, dec, _, heard := plainLine(t, f, f, 960)
			l.exact = c.exact
			for _, at := range c.times {
				require.NoError(t, l.write(plainFrame(at+time.Second, make([]float32, 960))))
			}
			require.Equal(t, int(stream.Ticks(c.concealed, 48000)), dec.concealed)
			require.Equal(t, c.resets, dec.resets)
			require.InDelta(t, c.last, l.base+stream.FromTicks(l.samples, 48000)-time.Second, float64(2*ms))
			require.True(t, slices.IsSortedFunc(*heard, func(a, b heardPacket) int { return int(a.pts - b.pts) }))
		})
	}
}

func TestLineBreaks(t *testing.T) {
	f := Format{48000, 1}
	l, dec, enc, heard := plainLine(t, f, f, 960)
	require.NoError(t, l.write(plainFrame(0, make([]float32, 4800))))
	broken := plainFrame(5*time.Second, make([]float32, 4800))
	broken.Discontinuity = true
	require.NoError(t, l.write(broken))
	require.NoError(t, l.drain())
	require.Equal(t, []int{2, 2}, []int{dec.resets, enc.resets})
	var marks []time.Duration
	for _, h := range *heard {
		require.GreaterOrEqual(t, h.pts, time.Duration(0), "nothing is heard before the stream begins")
		if h.broken {
			marks = append(marks, h.pts)
		}
	}
	require.Equal(t, []time.Duration{5*time.Second - 10*ms}, marks)
	require.NoError(t, l.drain(), "again")
}

func TestLineFails(t *testing.T) {
	f := Format{48000, 1}
	l, dec, enc, heard := plainLine(t, f, f, 960)
	frame := func(n int) *stream.Frame { return plainFrame(time.Duration(n)*20*ms, make([]float32, 960)) }
	require.NoError(t, l.write(frame(0)))
	dec.fail = errors.New("what is this")
	require.NoError(t, l.write(frame(1)))
	require.Equal(t, 960, dec.concealed, "as much as the packet before had")
	require.NoError(t, l.write(frame(2)))
	require.Equal(t, 1, len(*heard))
	var err error
	for n := 3; n < 200 && err == nil; n++ {
		err = l.write(frame(n))
	}
	require.ErrorIs(t, err, dec.fail, "not for ever")

	l, _, enc, _ = plainLine(t, f, f, 960)
	enc.broken = errors.New("too bad")
	require.ErrorIs(t, l.write(frame(0)), enc.broken)

	_, err = newSoundLine(&plain{format: Format{48000, 2}}, &plain{format: f, frame: 960}, nil)
	require.Error(t, err)
	_, err = newSoundLine(&plain{format: Format{44099, 1}}, &plain{format: f, frame: 960}, nil)
	require.ErrorIs(t, err, stream.ErrUnsupported)
}

// FuzzLine gives packets of any size, at any time, to a line.
func FuzzLine(f *testing.F) {
	f.Add([]byte{10, 0, 20, 40, 3, 255, 60, 1})
	f.Add([]byte{0, 0, 255, 255, 128, 128, 1, 2, 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		in := Format{8000, 1}
		l, _, _, heard := plainLine(t, in, Format{48000, 1}, 960)
		l.exact = len(script)%2 == 0
		at := time.Second
		script = script[:min(len(script), 400)]
		for ; len(script) >= 2; script = script[2:] {
			at += (time.Duration(script[0]) - 64) * 7 * ms
			frame := plainFrame(at, make([]float32, int(script[1])*4))
			frame.Discontinuity = script[1] == 13
			if err := l.write(frame); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.drain(); err != nil {
			t.Fatal(err)
		}
		for i, h := range *heard {
			if i > 0 && h.pts <= (*heard)[i-1].pts {
				t.Fatalf("packet %d at %v after %v", i, h.pts, (*heard)[i-1].pts)
			}
		}
	})
}
