//go:build unix

package goaac_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/transcode"
	"github.com/runnel-media/runnel/stream/transcode/goaac"
)

// BenchmarkBridge measures one stream for a second: what a hub, Audio and the codecs
// take, for any number of readers. The sound is tones in noise that rise and fall.
func BenchmarkBridge(b *testing.B) {
	for _, c := range []struct {
		name      string
		from      transcode.Codec
		audio     transcode.Audio
		rendition string
		format    transcode.Format
	}{
		{"AAC-44100-stereo-to-Opus-96k", goaac.Codec{BitRate: 160000}, transcode.Audio{}, "opus", transcode.Format{Rate: 44100, Channels: 2}},
		{"AAC-48000-stereo-to-Opus-96k", goaac.Codec{BitRate: 160000}, transcode.Audio{}, "opus", transcode.Format{Rate: 48000, Channels: 2}},
		{"AAC-48000-mono-to-Opus-64k", goaac.Codec{}, transcode.Audio{}, "opus", transcode.Format{Rate: 48000, Channels: 1}},
		{"Opus-stereo-to-AAC-128k", transcode.Opus{}, transcode.Audio{}, "aac", transcode.Format{Rate: 48000, Channels: 2}},
		{"Opus-stereo-to-AAC-128k-thorough", transcode.Opus{}, transcode.Audio{AAC: goaac.Codec{Thorough: true}}, "aac", transcode.Format{Rate: 48000, Channels: 2}},
		{"Opus-mono-to-AAC-80k", transcode.Opus{}, transcode.Audio{}, "aac", transcode.Format{Rate: 48000, Channels: 1}},
	} {
		b.Run(c.name, func(b *testing.B) {
			hub := &stream.Hub{}
			defer hub.Close()
			c.audio.Hub, c.audio.Log = hub, quiet
			if c.audio.AAC == nil {
				c.audio.AAC = goaac.Codec{}
			}
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			go c.audio.Run(ctx)
			const seconds = 10
			pcm := sound(c.format, 440, seconds*c.format.Rate)
			for i := range pcm {
				pcm[i] = (pcm[i] + 0.2*rand.Float32() - 0.1) * float32(i%20000) / 20000
			}
			frames := packets(b, c.from, pcm, c.format)
			pub, err := hub.Publish(ctx, "live/a", &stream.PublishOptions{Jitter: stream.JitterOff})
			require.NoError(b, err)
			require.NoError(b, pub.SetTracks(frames[0].Track))
			require.Eventually(b, func() bool { return pub.Stream().Rendition(c.rendition) != nil }, 30*time.Second, time.Millisecond)
			sub, err := hub.Subscribe(ctx, "live/a", &stream.SubscribeOptions{Rendition: c.rendition})
			require.NoError(b, err)
			defer sub.Close()
			at, n := time.Duration(0), 0
			var batch [32]*stream.Frame
			before := cpu(b)
			b.ReportAllocs()
			for b.Loop() {
				n++
				for _, f := range frames {
					g := *f
					g.DTS, g.PTS = at+f.DTS, at+f.PTS
					require.NoError(b, pub.Write(&g))
				}
				at += frames[len(frames)-1].PTS - frames[0].PTS + (frames[1].PTS - frames[0].PTS)
				for heard := time.Duration(0); heard < at; { // but for what the codecs hold back
					k, err := sub.Read(ctx, batch[:])
					require.NoError(b, err)
					heard = batch[k-1].PTS
				}
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(n*seconds)/float64(time.Millisecond), "ms-cpu/stream-s")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
