package record

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// BenchmarkRecordMemory: what a stream of 8 Mbit/s with a key frame every two seconds
// keeps in memory while it is recorded, above what it keeps while it is not: the most
// at any of 100 moments, after a collection of garbage.
func BenchmarkRecordMemory(b *testing.B) {
	const seconds = 30
	var frames []*stream.Frame
	p := &streamtest.Pattern{KeySize: 200_000, FrameSize: 36_500, KeyInterval: 50}
	for f := range until(p.Frames(-1), seconds*sec) {
		frames = append(frames, f)
	}
	// held publishes and returns the heap at each moment. The frames come anew, for
	// those above are there anyway.
	held := func(b *testing.B, r *Recorder) (heap []int64) {
		inBubble(func(t *testing.T) {
			hub := &stream.Hub{}
			ran := make(chan error, 1)
			if r == nil {
				ran <- nil
			} else {
				d := &Dir{Path: b.TempDir()}
				defer d.Close()
				r.Hub, r.Storage, r.Log, r.Name, r.Match = hub, d, silent, "a", func(string) bool { return true }
				go func() { ran <- r.Run(t.Context()) }()
			}
			synctest.Wait()
			pub, err := hub.Publish(t.Context(), "live/cam", nil)
			require.NoError(b, err)
			require.NoError(b, pub.SetTracks(p.Tracks()...))
			start, next := time.Now(), 10*sec
			for _, f := range frames {
				time.Sleep(time.Until(start.Add(f.DTS)))
				g := *f
				g.Data = append([]byte(nil), f.Data...)
				require.NoError(b, pub.Write(&g))
				if f.DTS >= next {
					synctest.Wait()
					runtime.GC()
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					heap = append(heap, int64(m.HeapAlloc))
					next += 193 * time.Millisecond
				}
			}
			require.NoError(b, pub.Close())
			time.Sleep(sec)
			hub.Close()
			<-ran
		})
		return heap
	}
	bare := held(b, nil)
	for _, format := range []Format{MP4, FLV, HLS} {
		b.Run(format.String(), func(b *testing.B) {
			most, sum := int64(0), int64(0)
			for b.Loop() {
				with := held(b, &Recorder{Format: format})
				sum = 0
				for i := range with {
					most = max(most, with[i]-bare[i])
					sum += with[i] - bare[i]
				}
			}
			b.ReportMetric(float64(most)/1e6, "MB-most")
			b.ReportMetric(float64(sum)/float64(len(bare))/1e6, "MB-mean")
		})
	}
}

// inBubble runs f in time of its own.
func inBubble(f func(t *testing.T)) {
	testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "x", F: func(t *testing.T) {
		synctest.Test(t, f)
	}}})
}
