//go:build unix

package record

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// cpu is what this process, or its children, have used so far.
func cpu(b testing.TB, who int) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(who, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRecord: CPU for each second of a stream of 8 Mbit/s, beside ffmpeg that
// copies the same frames. What the publisher costs is taken off.
func BenchmarkRecord(b *testing.B) {
	const seconds = 60
	p := &streamtest.Pattern{KeySize: 120_000, FrameSize: 36_000}
	tracks := p.Tracks()
	var frames []*stream.Frame
	for f := range until(p.Frames(-1), seconds*sec) {
		frames = append(frames, f)
	}
	publish := func(t *testing.T, hub *stream.Hub) {
		pub, err := hub.Publish(t.Context(), "live/cam", nil)
		require.NoError(t, err)
		require.NoError(t, pub.SetTracks(tracks...))
		synctest.Wait()
		start := time.Now()
		for _, f := range frames {
			time.Sleep(time.Until(start.Add(f.DTS)))
			g := *f
			require.NoError(t, pub.Write(&g))
		}
		require.NoError(t, pub.Close())
		time.Sleep(sec)
	}
	bare := time.Duration(0)
	source := filepath.Join(b.TempDir(), "source.mp4")
	measure := func(b *testing.B, run func()) {
		b.Helper()
		runtime.GC()
		before := cpu(b, syscall.RUSAGE_SELF)
		n := 0
		for b.Loop() {
			run()
			n++
		}
		used := (cpu(b, syscall.RUSAGE_SELF)-before)/time.Duration(n) - bare
		if bare > 0 {
			b.ReportMetric(used.Seconds()*1e6/seconds, "µs-CPU/s")
			b.ReportMetric(used.Seconds()*100/seconds, "%core")
		} else {
			bare = used
		}
	}
	bubble := func(b *testing.B, name string, setup func(*testing.T) *Recorder) {
		b.Run(name, func(b *testing.B) {
			measure(b, func() {
				inBubble(func(t *testing.T) {
					r := setup(t)
					if r == nil {
						hub := &stream.Hub{}
						publish(t, hub)
						hub.Close()
						return
					}
					ran := make(chan error, 1)
					go func() { ran <- r.Run(t.Context()) }()
					synctest.Wait()
					publish(t, r.Hub)
					r.Hub.Close()
					<-ran
					if _, err := os.Stat(source); err != nil && r.Format == MP4 {
						out, err := os.Create(source)
						require.NoError(t, err)
						in, err := r.Storage.Open(t.Context(), "a.mp4")
						require.NoError(t, err)
						_, err = io.Copy(out, in)
						require.NoError(t, err)
						in.Close()
						out.Close()
					}
				})
			})
		})
	}
	recorder := func(format Format, fragmented bool, wrap func(stream.Storage) stream.Storage) func(*testing.T) *Recorder {
		return func(t *testing.T) *Recorder {
			d := &Dir{Path: t.TempDir()}
			t.Cleanup(func() { d.Close() })
			return &Recorder{Hub: &stream.Hub{}, Storage: wrap(d), Log: silent, Name: "a", Format: format, Fragmented: fragmented, Match: func(string) bool { return true }}
		}
	}
	plain := func(s stream.Storage) stream.Storage { return s }
	bubble(b, "publisher alone", func(*testing.T) *Recorder { return nil })
	bubble(b, "warm", recorder(MP4, false, plain)) // and makes ffmpeg's source
	bubble(b, "mp4", recorder(MP4, false, plain))
	bubble(b, "mp4 fragmented", recorder(MP4, true, plain))
	bubble(b, "flv", recorder(FLV, false, plain))
	bubble(b, "hls", recorder(HLS, false, plain))
	bubble(b, "mp4 encrypted", recorder(MP4, true, func(s stream.Storage) stream.Storage { return Encrypt(s, testKeys) }))
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		return
	}
	for _, flags := range []string{"frag_keyframe+empty_moov", "faststart"} {
		b.Run("ffmpeg -c copy "+flags, func(b *testing.B) {
			before, n := cpu(b, syscall.RUSAGE_CHILDREN), 0
			for b.Loop() {
				args := strings.Fields("-nostdin -v quiet -y -i SOURCE -c copy -movflags " + flags + " OUT")
				args[5], args[len(args)-1] = source, filepath.Join(b.TempDir(), "out.mp4")
				require.NoError(b, exec.Command("ffmpeg", args...).Run())
				n++
			}
			used := (cpu(b, syscall.RUSAGE_CHILDREN) - before) / time.Duration(n)
			b.ReportMetric(used.Seconds()*1e6/seconds, "µs-CPU/s")
			b.ReportMetric(used.Seconds()*100/seconds, "%core")
		})
	}
}
