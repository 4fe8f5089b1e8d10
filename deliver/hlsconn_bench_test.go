package deliver

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
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

// BenchmarkHLSConnections holds 2,000 viewers in blocking reloads over TCP and wakes
// them again and again: heap and stacks for each, its whole connection and the
// client's end of the socket included, which is in this process too, and from the
// frame that makes the part to the first, the median and the last answer that has
// been read.
func BenchmarkHLSConnections(b *testing.B) {
	b.Run("parked", func(b *testing.B) { benchmarkConnections(b, HLS{MaxWaitersPerAddr: -1}) })
	b.Run("in net/http", func(b *testing.B) { benchmarkConnections(b, HLS{MaxWaitersPerAddr: -1, NoHijack: true}) })
}

func benchmarkConnections(b *testing.B, config HLS) {
	const viewers = 2000
	defer debug.SetGCPercent(debug.SetGCPercent(25)) // as the mediaserver has it
	hub := &stream.Hub{}
	defer hub.Close()
	s := &Server{Hub: hub, Auth: auth.AllowAll, HLS: config}
	defer s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	web := &http.Server{Handler: s}
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
		for _, c := range conns {
			_, err := fmt.Fprintf(c, "GET /live/x/_hls/live/v.m3u8?_HLS_msn=%d&_HLS_part=0 HTTP/1.1\r\nHost: x\r\n\r\n", 2+i)
			require.NoError(b, err)
		}
		for s.hls.runs["live/x"].pack.Stats().Waiters < viewers {
			time.Sleep(time.Millisecond)
		}
		held += inUse() - before
		at := time.Now()
		done := make(chan []time.Duration)
		go func() {
			var answered []time.Duration
			r := bufio.NewReaderSize(nil, 4096)
			for _, c := range conns { // what is read is thrown away: all are alike
				r.Reset(c)
				resp, err := http.ReadResponse(r, nil)
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Error(resp, err)
					break
				}
				body := bytes.NewBuffer(answer)
				if _, err = body.ReadFrom(resp.Body); err != nil {
					b.Error(err)
				}
				answered = append(answered, time.Since(at))
			}
			done <- answered
		}()
		feed(5)
		answered := <-done
		for j, k := range []int{0, viewers / 2, viewers - 1} {
			spread[j] += answered[k]
		}
		feed(45)
		time.Sleep(20 * time.Millisecond)
	}
	b.ReportMetric(float64(held)/float64(b.N)/viewers, "B/conn")
	for j, name := range []string{"ms/first", "ms/median", "ms/last"} {
		b.ReportMetric(float64(spread[j].Microseconds())/1000/float64(b.N), name)
	}
}
