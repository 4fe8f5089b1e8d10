package audio

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/transcode"
	"github.com/runnel-media/runnel/stream/transcode/goaac"
)

var lab *peer.Lab

func TestMain(m *testing.M) { os.Exit(peer.Main(m, &lab, 2)) }

const x264 = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -b:v 300k -g 50 -bf 0"

var (
	aac44 = &peer.Clip{Name: "aac44.flv", Seconds: 6, Video: x264, Audio: "-ar 44100 -c:a aac -b:a 128k"}
	aac48 = &peer.Clip{Name: "aac48.ts", Seconds: 6, Video: x264, Audio: "-ac 1 -c:a aac -b:a 80k"}
	opus  = &peer.Clip{Name: "opus.ts", Seconds: 6, Video: x264, Audio: "-c:a libopus -b:a 96k"}
	alaw  = &peer.Clip{Name: "alaw.flv", Seconds: 6, Video: x264, Audio: "-ar 8000 -ac 1 -c:a pcm_alaw"}
)

// TestTranscode: flash and beep stay together when the sound of a stream is
// transcoded, and no more sound is lost than the first packet.
func TestTranscode(t *testing.T) {
	peer.Need(t, "ffmpeg")
	for _, c := range []struct {
		clip *peer.Clip
		to   stream.Codec
	}{{aac44, stream.Opus}, {aac48, stream.Opus}, {alaw, stream.Opus}, {opus, stream.AAC}, {alaw, stream.AAC}} {
		t.Run(c.clip.Name+" to "+c.to.String(), func(t *testing.T) {
			source := lab.Clip(t, c.clip)
			out := filepath.Join(t.TempDir(), "out.mp4")
			require.NoError(t, os.WriteFile(out, transcoded(t, source, c.to), 0o600))

			want, got := peer.Observe(t, time.Minute, source), peer.Observe(t, time.Minute, out)
			require.Equal(t, want.Pictures, got.Pictures)
			require.Len(t, got.Beeps, c.clip.Seconds)
			before, after := want.Offsets(), got.Offsets()
			require.Len(t, after, c.clip.Seconds)
			// Sound is looked at in blocks of 240 samples.
			block := 5 * time.Millisecond
			if c.clip == alaw {
				block = 30 * time.Millisecond
			}
			require.InDelta(t, before[len(before)/2], after[len(after)/2], float64(5*time.Millisecond+block))
			for i := range got.Beeps {
				require.InDelta(t, time.Duration(i)*time.Second, got.Beeps[i]-got.Beeps[0], float64(10*time.Millisecond))
			}
			media := peer.Probe(t, time.Minute, out)
			span := peer.Span(media.Audio)
			require.InDelta(t, c.clip.Seconds, span.Seconds(), 0.1)
			// Decoders leave out the look-ahead of Opus at the start, and a file's
			// own may have shifted what is published.
			largest, smallest := peer.Gap(media.Audio[20:])
			frame := map[stream.Codec]time.Duration{stream.Opus: 20 * time.Millisecond, stream.AAC: 21333 * time.Microsecond}[c.to]
			require.InDelta(t, frame, largest, float64(time.Millisecond))
			require.InDelta(t, frame, smallest, float64(time.Millisecond))
			if c.clip != alaw { // of 8 kHz
				wanted, _ := beep(t, source)
				amplitude, snr := beep(t, out)
				require.InDelta(t, wanted, amplitude, 0.05)
				require.Greater(t, snr, 20.0)
				t.Logf("beeps of %.3f at %.1f dB, published with %.3f", amplitude, snr, wanted)
			}
			t.Logf("flash behind beep: %v published, %v transcoded", before[len(before)/2], after[len(after)/2])
		})
	}
}

// beep has ffmpeg decode the beeps of a file, and returns the amplitude of their 1 kHz
// and how far all else in them is below it, in dB.
func beep(t *testing.T, file string) (amplitude, snr float64) {
	raw := peer.Run(t, time.Minute, "ffmpeg", "-nostdin", "-v", "error", "-i", file, "-map", "0:a", "-ac", "1", "-ar", "48000", "-f", "f32le", "-")
	var pcm []float64
	for ; len(raw) >= 4; raw = raw[4:] {
		pcm = append(pcm, float64(math.Float32frombits(binary.LittleEndian.Uint32(raw))))
	}
	first := slices.IndexFunc(pcm, func(v float64) bool { return v > 0.3 })
	require.GreaterOrEqual(t, first, 0)
	snr = math.Inf(1)
	for at := first + 960; at+1920 < len(pcm); at += 48000 { // 40 ms amid each
		var c, s, rest float64
		for i, v := range pcm[at : at+1920] {
			sin, cos := math.Sincos(2 * math.Pi * 1000 * float64(i) / 48000)
			c, s = c+v*cos/960, s+v*sin/960
		}
		for i, v := range pcm[at : at+1920] {
			sin, cos := math.Sincos(2 * math.Pi * 1000 * float64(i) / 48000)
			rest += (v - c*cos - s*sin) * (v - c*cos - s*sin) / 960
		}
		amplitude = math.Hypot(c, s)
		snr = min(snr, 10*math.Log10(amplitude*amplitude/rest))
	}
	return amplitude, snr
}

// transcoded publishes a file, and returns its rendition as MP4.
func transcoded(t *testing.T, file string, to stream.Codec) []byte {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cache := stream.Cache{Frames: 1 << 20, Bytes: 1 << 30, Time: time.Hour} // what is published at once
	hub := &stream.Hub{Cache: cache}
	defer hub.Close()
	events := hub.Events(ctx)
	audio := &transcode.Audio{Hub: hub, AAC: goaac.Codec{}}
	go audio.Run(ctx)

	gate := make(chan struct{}) // everything waits for the rendition's reader
	published := make(chan error, 1)
	pub, err := hub.Publish(ctx, "live/a", nil)
	require.NoError(t, err)
	go func() { published <- publish(&held{pub, gate}, file) }()
	for e := range events {
		if e, ok := e.(stream.SoundMissing); ok {
			require.NoError(t, e.Err)
		}
		if pub.Stream().Rendition(to.String()) != nil {
			break
		}
	}
	var readers []*stream.Subscriber // of the pictures, and of the sound
	for _, rendition := range []string{"", to.String()} {
		sub, err := hub.Subscribe(ctx, "live/a", &stream.SubscribeOptions{Rendition: rendition})
		require.NoError(t, err)
		defer sub.Close()
		readers = append(readers, sub)
	}
	close(gate)
	var tracks []*stream.Track
	var runs []fmp4.Run
	for i, kind := range []stream.Kind{stream.Video, stream.Audio} {
		var frames []*stream.Frame
		for f, err := range readers[i].Frames(ctx) {
			require.NoError(t, err)
			if f.Track.Kind() == kind {
				frames = append(frames, f)
			}
		}
		tracks = append(tracks, frames[0].Track)
		runs = append(runs, fmp4.Run{Track: frames[0].Track, Frames: frames})
	}
	require.NoError(t, <-published)
	out, err := fmp4.Init(tracks...)
	require.NoError(t, err)
	return fmp4.AppendPart(out, 1, runs...)
}

// held is a Publisher whose first frame of a stream of two tracks waits for gate.
type held struct {
	*stream.Publisher
	gate chan struct{}
}

func (h *held) Write(f *stream.Frame) error {
	if len(h.Stream().Tracks()) == 2 {
		<-h.gate
	}
	return h.Publisher.Write(f)
}

// publish feeds a file to a stream as fast as it can be read, and ends it.
func publish(to *held, file string) error {
	defer to.Close()
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if filepath.Ext(file) == ".flv" {
		return (&flv.Reader{R: f, Demuxer: &flv.Demuxer{Sink: to}}).ReadAll()
	}
	_, err = (&mpegts.Demuxer{Sink: to}).ReadFrom(f)
	return err
}
