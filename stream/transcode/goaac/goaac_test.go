package goaac_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	config "github.com/runnel-media/runnel/internal/aac"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/transcode"
	"github.com/runnel-media/runnel/stream/transcode/goaac"
)

// sound returns frames of a sine on the left and one of half as much more on the right.
func sound(f transcode.Format, hz float64, frames int) []float32 {
	pcm := make([]float32, 0, frames*f.Channels)
	for i := range frames {
		for c := range f.Channels {
			pcm = append(pcm, float32(0.25*math.Sin(2*math.Pi*hz*(1+float64(c)/2)*float64(i)/float64(f.Rate))))
		}
	}
	return pcm
}

// fit finds the sine of that frequency in a channel, whose first sample is at time at,
// and returns its amplitude, by how many seconds it is late, and how far all else is
// below it, in dB.
func fit(pcm []float32, f transcode.Format, channel int, hz, at float64) (amplitude, late, snr float64) {
	var c, s, rest float64
	n := len(pcm) / f.Channels
	angle := func(i int) float64 { return 2 * math.Pi * hz * (at + float64(i)/float64(f.Rate)) }
	for i := range n {
		v := float64(pcm[i*f.Channels+channel])
		c += v * math.Cos(angle(i)) * 2 / float64(n)
		s += v * math.Sin(angle(i)) * 2 / float64(n)
	}
	for i := range n {
		d := float64(pcm[i*f.Channels+channel]) - c*math.Cos(angle(i)) - s*math.Sin(angle(i))
		rest += d * d * 2 / float64(n)
	}
	return math.Hypot(c, s), -math.Atan2(c, s) / (2 * math.Pi * hz), 10 * math.Log10((c*c+s*s)/max(rest, 1e-20))
}

// encode returns the packets of what is given, to the last.
func encode(t testing.TB, e transcode.Encoder, pcm []float32) (packets [][]byte) {
	size := e.FrameSize() * e.Format().Channels
	pcm = append(pcm, make([]float32, 3*size-len(pcm)%size)...)
	for ; len(pcm) > 0; pcm = pcm[size:] {
		p, err := e.Encode(nil, pcm[:size])
		require.NoError(t, err)
		if len(p) > 0 {
			packets = append(packets, p)
		}
	}
	return packets
}

func TestCodec(t *testing.T) {
	for _, f := range []transcode.Format{{Rate: 44100, Channels: 1}, {Rate: 44100, Channels: 2}, {Rate: 48000, Channels: 1}, {Rate: 48000, Channels: 2}} {
		e, err := goaac.Codec{}.NewEncoder(f)
		require.NoError(t, err)
		require.Equal(t, f, e.Format())
		track := e.Track()
		info, err := track.Audio()
		require.NoError(t, err)
		require.Equal(t, stream.AudioInfo{Profile: "LC", Rate: f.Rate, Channels: f.Channels}, info)
		for range 2 { // Reset begins anew
			packets := encode(t, e, sound(f, 997, f.Rate))
			d, err := goaac.Codec{}.NewDecoder(track)
			require.NoError(t, err)
			require.Equal(t, f, d.Format())
			var pcm []float32
			for _, p := range packets {
				pcm, err = d.Decode(pcm, p)
				require.NoError(t, err)
			}
			require.Len(t, pcm, len(packets)*1024*f.Channels)
			require.Equal(t, 1024, e.Delay())
			for c := range f.Channels {
				from := 10240
				amplitude, late, snr := fit(pcm[from*f.Channels:f.Rate*f.Channels], f, c, 997*(1+float64(c)/2), float64(from-e.Delay())/float64(f.Rate))
				require.InDelta(t, 0.25, amplitude, 0.01)
				require.InDelta(t, 0, late, 10e-6, "Delay is what it delays, in seconds")
				require.Greater(t, snr, 20.0)
			}
			require.Equal(t, make([]float32, 10*f.Channels), d.Conceal(nil, 10))

			_, err = d.Decode(nil, nil)
			require.Error(t, err)
			_, err = d.Decode(nil, packets[5][:len(packets[5])/2])
			require.Error(t, err)
			after, err := d.Decode(nil, packets[6])
			require.NoError(t, err, "it goes on")
			require.Len(t, after, 1024*f.Channels)
			e.Reset()
		}
	}
	e, err := goaac.Codec{Thorough: true, BitRate: 96000}.NewEncoder(transcode.Format{Rate: 16000, Channels: 1})
	require.NoError(t, err)
	require.Equal(t, transcode.Format{Rate: 48000, Channels: 1}, e.Format())
	pcm := make([]float32, 1024)
	pcm[0], pcm[1], pcm[2] = float32(math.NaN()), float32(math.Inf(1)), -1e9
	for range 3 {
		_, err = e.Encode(nil, pcm)
		require.NoError(t, err)
	}
}

func TestRefuses(t *testing.T) {
	asc := func(c config.Config) []byte { return c.Append(nil) }
	for name, c := range map[string][]byte{
		"HE-AAC":     {0x2b, 0x92, 0x08, 0x00}, // type 5 over 24 kHz
		"HE-AAC v2":  {0xeb, 0x8a, 0x08, 0x00},
		"5.1":        asc(config.Config{Type: 2, Rate: 48000, Channels: 6, ChannelConfig: 6}),
		"AAC Main":   asc(config.Config{Type: 1, Rate: 48000, Channels: 2, ChannelConfig: 2}),
		"960":        {0x11, 0x94},
		"no channel": asc(config.Config{Type: 2, Rate: 48000}),
		"nothing":    nil,
	} {
		_, err := goaac.Codec{}.NewDecoder(&stream.Track{Codec: stream.AAC, Config: c})
		require.ErrorIs(t, err, stream.ErrUnsupported, name)
	}
	_, err := goaac.Codec{}.NewEncoder(transcode.Format{Rate: 48000, Channels: 6})
	require.ErrorIs(t, err, stream.ErrUnsupported)
	_, err = goaac.Codec{BitRate: -1}.NewEncoder(transcode.Format{Rate: 48000, Channels: 2})
	require.ErrorIs(t, err, stream.ErrUnsupported)
}

func FuzzDecode(f *testing.F) {
	e, err := goaac.Codec{}.NewEncoder(transcode.Format{Rate: 44100, Channels: 2})
	require.NoError(f, err)
	for _, p := range encode(f, e, sound(e.Format(), 440, 8192)) {
		f.Add(p)
	}
	d, err := goaac.Codec{}.NewDecoder(e.Track())
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, packet []byte) {
		pcm, err := d.Decode(nil, packet)
		if err == nil && len(pcm) != 2048 {
			t.Fatalf("%d samples", len(pcm))
		}
		for _, v := range pcm {
			if v != v || v < -1 || v > 1 {
				t.Fatalf("a sample is %v", v)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte{0x12, 0x10})
	f.Add([]byte{0x2b, 0x92, 0x08, 0x00})
	f.Fuzz(func(t *testing.T, c []byte) {
		d, err := goaac.Codec{}.NewDecoder(&stream.Track{Codec: stream.AAC, Config: c})
		if err == nil {
			_, _ = d.Decode(nil, []byte{0x21, 0x10, 0x05})
		}
	})
}

// What runs for each packet allocates two bytes, in the module.
func TestAllocs(t *testing.T) {
	e, err := goaac.Codec{}.NewEncoder(transcode.Format{Rate: 48000, Channels: 2})
	require.NoError(t, err)
	packets := encode(t, e, sound(e.Format(), 440, 20480))
	d, err := goaac.Codec{}.NewDecoder(e.Track())
	require.NoError(t, err)
	e.Reset()
	pcm, packet, n := make([]float32, 0, 2048), make([]byte, 0, 4096), 0
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		pcm, _ = d.Decode(pcm[:0], packets[n%len(packets)])
		packet, _ = e.Encode(packet[:0], pcm)
		n++
	}), 1.0)
}
