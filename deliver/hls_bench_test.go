package deliver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

type blank struct{ h http.Header }

func (w *blank) Header() http.Header         { return w.h }
func (w *blank) Write(b []byte) (int, error) { return len(b), nil }
func (w *blank) WriteHeader(int)             {}

// Serving a segment allocates the same whatever its size is.
func TestHLSServeAllocates(t *testing.T) {
	perServe := func(frameSize int) (size int64, allocated uint64) {
		inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
			src := publish(t, b.hub, "live/x", &streamtest.Pattern{FrameSize: frameSize})
			_, err := b.srv.startHLS(t.Context(), "live/x", 0)
			require.NoError(t, err)
			for range 30 {
				src.write(10)
				synctest.Wait()
			}
			video, _ := b.playlists("/live/x.m3u8")
			p, found := hlscheck.Media(b.get(video).body)
			require.Empty(t, found)
			r := httptest.NewRequest("GET", resolve(t, video, p.Segments[0].URI), nil)
			r.RemoteAddr = "10.0.0.1:1"
			w := &counter{blank: blank{make(http.Header)}}
			const rounds = 200
			var before, after runtime.MemStats
			b.srv.ServeHTTP(w, r)
			runtime.ReadMemStats(&before)
			for range rounds {
				b.srv.ServeHTTP(w, r)
			}
			runtime.ReadMemStats(&after)
			size, allocated = w.n/(rounds+1), (after.TotalAlloc-before.TotalAlloc)/rounds
		})
		return size, allocated
	}
	small, a := perServe(100)
	large, b := perServe(100_000)
	t.Logf("%d bytes allocated for %d, %d for %d", a, small, b, large)
	require.Greater(t, large, 100*small)
	require.InDelta(t, float64(a), float64(b), 500)
}

// A counter counts what is written to it.
type counter struct {
	blank
	n int64
}

func (w *counter) Write(b []byte) (int, error) {
	w.n += int64(len(b))
	return len(b), nil
}

// BenchmarkHLSWaiters holds 2,000 viewers in blocking reloads of one playlist and
// wakes them: what one takes while it waits, its request and goroutine
// included but not what net/http has of the connection, and how long it is from
// the frame that makes the part to the last one's answer.
func BenchmarkHLSWaiters(b *testing.B) {
	const viewers = 2000
	hub := &stream.Hub{}
	defer hub.Close()
	s := &Server{Hub: hub, Auth: auth.AllowAll, HLS: HLS{MaxWaitersPerAddr: -1}}
	defer s.Close()
	pub, err := hub.Publish(b.Context(), "live/x", nil)
	require.NoError(b, err)
	p := &streamtest.Pattern{NoAudio: true}
	require.NoError(b, pub.SetTracks(p.Tracks()...))
	_, err = s.startHLS(b.Context(), "live/x", 0)
	require.NoError(b, err)
	frames, n := p.Frames(-1), 0
	ready := make(chan struct{})
	next := make(chan int)
	go func() {
		for f := range frames {
			_ = pub.Write(f)
			if n++; n == 101 { // the second key frame after the first segment
				close(ready)
			}
			if n > 100 {
				if _, ok := <-next; !ok {
					return
				}
			}
		}
	}()
	defer close(next)
	<-ready
	time.Sleep(50 * time.Millisecond)
	var total time.Duration
	var bytes uint64
	msn := 2
	for range b.N {
		var before, during runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var wg sync.WaitGroup
		for i := range viewers {
			wg.Go(func() {
				r := httptest.NewRequest("GET", fmt.Sprintf("/live/x/_hls/live/v.m3u8?_HLS_msn=%d&_HLS_part=0", msn), nil)
				r.RemoteAddr = fmt.Sprintf("10.0.%d.%d:1", i>>8, i&255)
				s.ServeHTTP(&blank{make(http.Header)}, r)
			})
		}
		for s.hls.runs["live/x"].pack.Stats().Waiters < viewers {
			time.Sleep(time.Millisecond)
		}
		runtime.GC()
		runtime.ReadMemStats(&during)
		bytes += during.HeapAlloc + during.StackInuse - before.HeapAlloc - before.StackInuse
		at := time.Now()
		for range 5 {
			next <- 0
		}
		wg.Wait()
		total += time.Since(at)
		for range 45 {
			next <- 0
		}
		time.Sleep(20 * time.Millisecond)
		msn++ // 50 frames are a segment
	}
	b.ReportMetric(float64(bytes)/float64(b.N)/viewers, "B/waiter")
	b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms/wake")
}
