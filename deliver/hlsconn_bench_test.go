package deliver

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// inUse returns what this process has in use on heap and stacks.
func inUse() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools have held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// BenchmarkHLSConnections holds 2,000 viewers in blocking reloads over TCP, whole
// connections of net/http, and wakes them again and again: heap and stacks for
// each, the client's end of the socket included, which is in this process too, and
// from the frame that makes the part to the first, the median and the last answer.
func BenchmarkHLSConnections(b *testing.B) {
	const viewers = 2000
	defer debug.SetGCPercent(debug.SetGCPercent(25)) // as the mediaserver has it
	hub := &stream.Hub{}
	defer hub.Close()
	s := &Server{Hub: hub, Auth: auth.AllowAll, HLS: HLS{MaxWaitersPerAddr: -1}}
	defer s.Close()
	var mu sync.Mutex
	var answered []time.Time
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(w, r)
		mu.Lock()
		answered = append(answered, time.Now())
		mu.Unlock()
	})}
	go func() { _ = web.Serve(l) }()
	defer web.Close()

	pub, err := hub.Publish(b.Context(), "live/x", nil)
	require.NoError(b, err)
	p := &streamtest.Pattern{NoAudio: true}
	require.NoError(b, pub.SetTracks(p.Tracks()...))
	_, err = s.startHLS(b.Context(), "live/x", 0)
	require.NoError(b, err)
	var frames []*stream.Frame
	for f := range p.Frames(101 + 50*b.N + 10) {
		frames = append(frames, f)
	}
	feed := func(n int) {
		for _, f := range frames[:n] {
			_ = pub.Write(f)
			time.Sleep(100 * time.Microsecond)
		}
		frames = frames[n:]
	}
	feed(101)
	time.Sleep(50 * time.Millisecond)

	before := inUse()
	conns := make([]net.Conn, viewers)
	for i := range conns {
		conns[i], err = net.Dial("tcp", l.Addr().String())
		require.NoError(b, err)
		defer conns[i].Close()
	}
	var held int64
	var spread [3]time.Duration
	answer := make([]byte, 0, 64<<10)
	for i := range b.N {
		answered = answered[:0]
		for _, c := range conns {
			_, err := fmt.Fprintf(c, "GET /live/x/_hls/live/v.m3u8?_HLS_msn=%d&_HLS_part=0 HTTP/1.1\r\nHost: x\r\n\r\n", 2+i)
			require.NoError(b, err)
		}
		for s.hls.runs["live/x"].pack.Stats().Waiters < viewers {
			time.Sleep(time.Millisecond)
		}
		held += inUse() - before
		at := time.Now()
		feed(5)
		for {
			mu.Lock()
			n := len(answered)
			mu.Unlock()
			if n == viewers {
				break
			}
			time.Sleep(time.Millisecond)
		}
		slices.SortFunc(answered, time.Time.Compare)
		for j, k := range []int{0, viewers / 2, viewers - 1} {
			spread[j] += answered[k].Sub(at)
		}
		for _, c := range conns { // what is read is thrown away: all are alike
			r := bufio.NewReaderSize(c, 4096)
			resp, err := http.ReadResponse(r, nil)
			require.NoError(b, err)
			require.Equal(b, 200, resp.StatusCode)
			body := bytes.NewBuffer(answer)
			_, err = body.ReadFrom(resp.Body)
			require.NoError(b, err)
		}
		feed(45)
		time.Sleep(20 * time.Millisecond)
	}
	b.ReportMetric(float64(held)/float64(b.N)/viewers, "B/conn")
	for j, name := range []string{"ms/first", "ms/median", "ms/last"} {
		b.ReportMetric(float64(spread[j].Microseconds())/1000/float64(b.N), name)
	}
}
