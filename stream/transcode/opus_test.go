package transcode

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/opus"
	"github.com/runnel-media/runnel/stream"
)

// encodeOpus returns the packets of what is given, and the track.
func encodeOpus(t testing.TB, pcm []float32, channels int) ([][]byte, Encoder) {
	e, err := Opus{}.NewEncoder(Format{48000, channels})
	require.NoError(t, err)
	var packets [][]byte
	for size := e.FrameSize() * channels; len(pcm) >= size; pcm = pcm[size:] {
		p, err := e.Encode(nil, pcm[:size])
		require.NoError(t, err)
		require.Equal(t, opusFrame, opus.Samples(p))
		packets = append(packets, p)
	}
	return packets, e
}

func TestOpus(t *testing.T) {
	for channels := 1; channels <= 2; channels++ {
		f := Format{48000, channels}
		packets, e := encodeOpus(t, tone(f, 997, 0.3, 96000), channels)
		require.Equal(t, f, e.Format())
		head, err := opus.ParseHead(e.Track().Config)
		require.NoError(t, err)
		require.Equal(t, &opus.Head{Channels: channels, PreSkip: 312, InputRate: 48000}, head)
		require.Equal(t, 312, e.Delay())

		d, err := Opus{}.NewDecoder(e.Track())
		require.NoError(t, err)
		require.Equal(t, f, d.Format())
		var pcm []float32
		for _, p := range packets {
			pcm, err = d.Decode(pcm, p)
			require.NoError(t, err)
		}
		require.Len(t, pcm, 96000*channels)
		amplitude, phase, snr := fit(channel(pcm, f, 0)[24000:], 48000, 997, (24000.0-312)/48000)
		require.InDelta(t, 0.3, amplitude, 0.02)
		require.Greater(t, snr, 20.0)
		require.InDelta(t, 0, phase/(2*math.Pi*997), 50e-6, "Delay is what Opus delays, in seconds")
		_, err = d.Decode(nil, nil)
		require.Error(t, err)

		// What is missing goes on, and fades.
		went := d.Conceal(nil, 960)
		require.Len(t, went, 960*channels)
		require.Greater(t, energy(went), 0.005)
		require.Less(t, energy(d.Conceal(nil, 48000)[40000*channels:]), 0.001)
		d.Reset()
		require.Less(t, energy(d.Conceal(nil, 100)), 1e-9)
	}
}

func energy(pcm []float32) (sum float64) {
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return sum / float64(len(pcm))
}

func TestOpusRefuses(t *testing.T) {
	for _, track := range []*stream.Track{
		{Codec: stream.Opus, Channels: 6},
		{Codec: stream.Opus, Config: (&opus.Head{Channels: 6, Family: 1, Streams: 4, Coupled: 2, Mapping: make([]byte, 6)}).Append(nil)},
		{Codec: stream.Opus, Config: []byte("OpusHead")},
	} {
		_, err := Opus{}.NewDecoder(track)
		require.ErrorIs(t, err, stream.ErrUnsupported)
	}
	_, err := Opus{}.NewEncoder(Format{48000, 6})
	require.ErrorIs(t, err, stream.ErrUnsupported)
	_, err = Opus{BitRate: -5}.NewEncoder(Format{48000, 2})
	require.Error(t, err)
	d, err := Opus{}.NewDecoder(&stream.Track{Codec: stream.Opus})
	require.NoError(t, err)
	require.Equal(t, 2, d.Format().Channels)
}

func FuzzOpusDecode(f *testing.F) {
	packets, e := encodeOpus(f, tone(Format{48000, 2}, 440, 0.5, 960*6), 2)
	d, err := Opus{}.NewDecoder(e.Track())
	require.NoError(f, err)
	for _, p := range packets {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		pcm, err := d.Decode(nil, packet)
		if err == nil && len(pcm) != 2*opus.Samples(packet) {
			t.Fatalf("%d samples of a packet of %d", len(pcm)/2, opus.Samples(packet))
		}
	})
}

func BenchmarkOpusEncodeStereo(b *testing.B) {
	e, err := Opus{}.NewEncoder(Format{48000, 2})
	require.NoError(b, err)
	pcm, dst := tone(Format{48000, 2}, 440, 0.5, 960), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		if dst, err = e.Encode(dst[:0], pcm); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)*50/float64(time.Millisecond), "ms/stream-s")
}

// What runs for each packet allocates nothing but the packet.
func TestOpusAllocs(t *testing.T) {
	packets, e := encodeOpus(t, tone(Format{48000, 2}, 440, 0.5, 960*20), 2)
	d, err := Opus{}.NewDecoder(e.Track())
	require.NoError(t, err)
	pcm, packet, n := make([]float32, 0, 2*opusLonger), make([]byte, 0, opusPacket), 0
	require.Zero(t, testing.AllocsPerRun(100, func() {
		pcm, _ = d.Decode(pcm[:0], packets[n%len(packets)])
		packet, _ = e.Encode(packet[:0], pcm)
		n++
	}))
	r, err := newResampler(44100, 48000, 2)
	require.NoError(t, err)
	in, out := make([]float32, 2048), make([]float32, 0, 4096)
	out = r.append(out, in)
	require.Zero(t, testing.AllocsPerRun(100, func() { out = r.append(out[:0], in) }))
}
