package goaac_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
	"github.com/runnel-media/runnel/stream/transcode"
	"github.com/runnel-media/runnel/stream/transcode/goaac"
)

var quiet = slog.New(slog.DiscardHandler)

// follow runs Audio beside a hub, in a synctest bubble.
func follow(t testing.TB, a *transcode.Audio) {
	a.Log = quiet
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
}

// start is when the sound of a test begins.
const start = time.Second

// packets returns frames of sound that was encoded, with their track, at the times at
// which they are heard.
func packets(t testing.TB, c transcode.Codec, pcm []float32, f transcode.Format) []*stream.Frame {
	e, err := c.NewEncoder(f)
	require.NoError(t, err)
	require.Equal(t, f, e.Format())
	track := e.Track()
	track.ID = 2
	var frames []*stream.Frame
	for i, p := range encode(t, e, pcm) {
		at := start + stream.FromTicks(int64(i*e.FrameSize()-e.Delay()), f.Rate)
		frames = append(frames, &stream.Frame{Track: track, DTS: at, PTS: at, Key: true, Data: p})
	}
	return frames
}

// through publishes frames and returns the sound of a rendition.
func through(t testing.TB, hub *stream.Hub, rendition string, frames []*stream.Frame) (out []*stream.Frame) {
	pub, err := hub.Publish(t.Context(), "live/a", &stream.PublishOptions{Jitter: stream.JitterOff})
	require.NoError(t, err)
	require.NoError(t, pub.SetTracks(frames[0].Track))
	synctest.Wait()
	sub, err := hub.Subscribe(t.Context(), "live/a", &stream.SubscribeOptions{Rendition: rendition})
	require.NoError(t, err)
	defer sub.Close()
	for _, f := range frames {
		require.NoError(t, pub.Write(f))
	}
	require.NoError(t, pub.Close())
	for f, err := range sub.Frames(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, rendition, f.Track.Codec.String())
		require.Contains(t, sub.Tracks(), f.Track)
		out = append(out, f)
	}
	return out
}

// heard decodes frames and returns their samples from start on, so that sample n is
// heard n samples after it.
func heard(t testing.TB, c transcode.Codec, frames []*stream.Frame) ([]float32, transcode.Format) {
	d, err := c.NewDecoder(frames[0].Track)
	require.NoError(t, err)
	f := d.Format()
	var pcm []float32
	for _, fr := range frames {
		at := int(stream.Ticks(fr.PTS-frames[0].PTS, f.Rate)) * f.Channels
		require.InDelta(t, len(pcm), at, float64(f.Channels), "packets follow each other")
		pcm, err = d.Decode(pcm, fr.Data)
		require.NoError(t, err)
	}
	before := int(stream.Ticks(start-frames[0].PTS, f.Rate))
	require.Positive(t, before, "the delay lies before the sound")
	return pcm[before*f.Channels:], f
}

var opusCodec = transcode.Opus{BitRate: 128000}

// A tone goes through both codecs and is the same tone, at the same time.
func TestBridge(t *testing.T) {
	for _, c := range []struct {
		from, to  transcode.Codec
		rendition string
		format    transcode.Format
		out       transcode.Format
	}{
		{goaac.Codec{}, opusCodec, "opus", transcode.Format{Rate: 44100, Channels: 2}, transcode.Format{Rate: 48000, Channels: 2}},
		{goaac.Codec{}, opusCodec, "opus", transcode.Format{Rate: 48000, Channels: 1}, transcode.Format{Rate: 48000, Channels: 1}},
		{goaac.Codec{}, opusCodec, "opus", transcode.Format{Rate: 44100, Channels: 1}, transcode.Format{Rate: 48000, Channels: 1}},
		{opusCodec, goaac.Codec{}, "aac", transcode.Format{Rate: 48000, Channels: 2}, transcode.Format{Rate: 48000, Channels: 2}},
		{opusCodec, goaac.Codec{}, "aac", transcode.Format{Rate: 48000, Channels: 1}, transcode.Format{Rate: 48000, Channels: 1}},
	} {
		t.Run(fmt.Sprint(c.rendition, c.format), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := &stream.Hub{}
				defer hub.Close()
				follow(t, &transcode.Audio{Hub: hub, AAC: goaac.Codec{}, Opus: opusCodec})
				out := through(t, hub, c.rendition, packets(t, c.from, sound(c.format, 997, 3*c.format.Rate), c.format))
				pcm, f := heard(t, c.to, out)
				require.Equal(t, c.out, f)
				require.GreaterOrEqual(t, len(pcm)/f.Channels, 3*f.Rate, "to the end")
				for ch := range f.Channels {
					amplitude, late, snr := fit(pcm[f.Rate/2*f.Channels:5*f.Rate/2*f.Channels], f, ch, 997*(1+float64(ch)/2), 0.5)
					require.InDelta(t, 0.25, amplitude, 0.02)
					require.InDelta(t, 0, late, 50e-6, "seconds")
					require.Greater(t, snr, 18.0)
				}
			})
		})
	}
}

// A chirp, which is like itself at one time only, is heard when it was said.
func TestBridgeInStep(t *testing.T) {
	for _, c := range []struct {
		from, to  transcode.Codec
		rendition string
		rate      int
	}{
		{goaac.Codec{}, opusCodec, "opus", 44100}, {goaac.Codec{}, opusCodec, "opus", 48000}, {opusCodec, goaac.Codec{}, "aac", 48000},
	} {
		synctest.Test(t, func(t *testing.T) {
			hub := &stream.Hub{}
			defer hub.Close()
			follow(t, &transcode.Audio{Hub: hub, AAC: goaac.Codec{}, Opus: opusCodec})
			f := transcode.Format{Rate: c.rate, Channels: 1}
			chirp := func(rate int) []float32 { // from 1 s to 1.25 s, 300 Hz to 3 kHz
				pcm := make([]float32, 2*rate)
				for i := range rate / 4 {
					at := float64(i) / float64(rate)
					pcm[rate+i] = float32(0.4 * math.Sin(2*math.Pi*(300+2700*at/0.25/2)*at) * math.Sin(math.Pi*at/0.25))
				}
				return pcm
			}
			got, gf := heard(t, c.to, through(t, hub, c.rendition, packets(t, c.from, chirp(c.rate), f)))
			want := chirp(gf.Rate)
			best, at := 0.0, 0
			for lag := -gf.Rate / 20; lag <= gf.Rate/20; lag++ { // 50 ms
				sum := 0.0
				for i := gf.Rate; i < gf.Rate*5/4; i++ {
					sum += float64(want[i]) * float64(got[i+lag])
				}
				if sum > best {
					best, at = sum, lag
				}
			}
			require.InDelta(t, 0, at, 4, "samples at %d Hz, %s from %d Hz", gf.Rate, c.rendition, c.rate)
		})
	}
}

// Sound comes beside the pictures, at their times.
func TestBridgeBesidePictures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &stream.Hub{}
		defer hub.Close()
		follow(t, &transcode.Audio{Hub: hub, AAC: goaac.Codec{}, Linger: time.Second})
		source := &streamtest.Source{Duration: 20 * time.Second}
		go source.Run(t.Context(), hub, "live/clip")
		time.Sleep(4730 * time.Millisecond) // amid a group of pictures
		s := hub.Stream("live/clip")
		require.NotNil(t, s)
		require.Nil(t, s.Rendition("aac"), "it is AAC")
		info := s.Rendition("opus").Info()
		require.Len(t, info.Tracks, 1)
		require.Equal(t, stream.Opus, info.Tracks[0].Codec)
		require.NotEmpty(t, info.Tracks[0].Config)
		pictures, err := hub.Subscribe(t.Context(), "live/clip", nil)
		require.NoError(t, err)
		defer pictures.Close()
		sound, err := hub.Subscribe(t.Context(), "live/clip", &stream.SubscribeOptions{Rendition: "opus"})
		require.NoError(t, err)
		defer sound.Close()
		time.Sleep(5 * time.Second)
		video := streamtest.Collect(t.Context(), t, pictures, 72*4)
		frames := streamtest.Collect(t.Context(), t, sound, 50*5)
		streamtest.CheckTimeline(t, frames, 25*time.Millisecond)
		require.True(t, frames[0].Track.Same(info.Tracks[0]))
		require.InDelta(t, 4630*time.Millisecond, frames[0].PTS, float64(30*time.Millisecond), "from just before its reader came")
		for _, v := range video {
			for _, a := range frames { // what is heard with a picture came with it
				if d := v.PTS - a.PTS; d >= 0 && d < 20*time.Millisecond {
					require.InDelta(t, v.Time.UnixMilli(), a.Time.UnixMilli(), 30)
				}
			}
		}
	})
}

// refuser is a codec that panics when it decodes.
type refuser struct{ goaac.Codec }

type panics struct{ transcode.Decoder }

func (r refuser) NewDecoder(t *stream.Track) (transcode.Decoder, error) {
	d, err := r.Codec.NewDecoder(t)
	return panics{d}, err
}

func (panics) Decode([]float32, []byte) ([]float32, error) { panic("index out of range") }

// Without the codec, or with one that fails, it is said, once.
func TestSoundMissing(t *testing.T) {
	for name, c := range map[string]struct {
		aac   transcode.Codec
		reads bool
	}{"no codec": {nil, false}, "panic": {refuser{}, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := &stream.Hub{}
				defer hub.Close()
				var missing []stream.SoundMissing
				go func() {
					for e := range hub.Events(t.Context()) {
						if e, ok := e.(stream.SoundMissing); ok {
							missing = append(missing, e)
						}
					}
				}()
				synctest.Wait()
				follow(t, &transcode.Audio{Hub: hub, AAC: c.aac})
				source := &streamtest.Source{Duration: 10 * time.Second}
				go source.Run(t.Context(), hub, "live/clip")
				time.Sleep(time.Second)
				if c.reads {
					sub, err := hub.Subscribe(t.Context(), "live/clip", &stream.SubscribeOptions{Rendition: "opus"})
					require.NoError(t, err)
					defer sub.Close()
					require.Empty(t, streamtest.Collect(t.Context(), t, sub, -1))
				} else {
					_, err := hub.Subscribe(t.Context(), "live/clip", &stream.SubscribeOptions{Rendition: "opus"})
					require.ErrorIs(t, err, stream.ErrNotFound)
				}
				synctest.Wait()
				require.Len(t, missing, 1)
				require.Equal(t, []stream.Codec{stream.AAC, stream.Opus}, []stream.Codec{missing[0].Codec, missing[0].Wanted})
				require.Error(t, missing[0].Err)
				require.Equal(t, c.aac == nil, errors.Is(missing[0].Err, stream.ErrUnsupported))
			})
		})
	}
}

// A stream whose sound changes has other renditions; one that is read goes on.
func TestSoundChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &stream.Hub{}
		defer hub.Close()
		follow(t, &transcode.Audio{Hub: hub, AAC: goaac.Codec{}, Match: func(name string) bool { return name == "live/a" }})
		pub, err := hub.Publish(t.Context(), "live/a", nil)
		require.NoError(t, err)
		other, err := hub.Publish(t.Context(), "live/b", nil)
		require.NoError(t, err)
		stereo := packets(t, goaac.Codec{}, make([]float32, 48000), transcode.Format{Rate: 48000, Channels: 2})
		mono := packets(t, goaac.Codec{}, make([]float32, 48000), transcode.Format{Rate: 44100, Channels: 1})
		require.NoError(t, pub.SetTracks(stereo[0].Track))
		require.NoError(t, other.SetTracks(stereo[0].Track))
		synctest.Wait()
		require.Empty(t, hub.Stream("live/b").Renditions(), "it does not Match")

		sub, err := hub.Subscribe(t.Context(), "live/a", &stream.SubscribeOptions{Rendition: "opus"})
		require.NoError(t, err)
		defer sub.Close()
		for _, f := range stereo {
			require.NoError(t, pub.Write(f))
		}
		require.NoError(t, pub.SetTracks(mono[0].Track))
		for _, f := range mono {
			f.DTS += time.Second
			f.PTS += time.Second
			require.NoError(t, pub.Write(f))
		}
		synctest.Wait()
		channels := map[int]int{}
		var batch [200]*stream.Frame
		n, err := sub.TryRead(batch[:])
		require.NoError(t, err)
		for _, f := range batch[:n] {
			channels[f.Track.Channels]++
		}
		require.InDelta(t, 25, channels[2], 3)
		require.InDelta(t, 55, channels[1], 3)

		opus := *batch[0].Track
		require.NoError(t, pub.SetTracks(&opus))
		synctest.Wait()
		require.Nil(t, hub.Stream("live/a").Rendition("opus"))
		require.NotNil(t, hub.Stream("live/a").Rendition("aac"))
		_, err = sub.TryRead(batch[:])
		require.ErrorIs(t, err, io.EOF)
	})
}
