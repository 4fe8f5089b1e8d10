package deliver

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// BenchmarkMux is what a frame costs a feed, whatever the number of players.
func BenchmarkMux(b *testing.B) {
	for _, k := range []feedKey{{container: containerFLV}, {container: containerFLV, websocket: true}, {container: containerMP4}, {container: containerRTMP}} {
		b.Run(fmt.Sprintf("%s/ws=%t", k.container, k.websocket), func(b *testing.B) {
			hub := &stream.Hub{}
			defer hub.Close()
			pattern := &streamtest.Pattern{KeySize: 20_000, FrameSize: 5000, AudioSize: 340}
			pub, err := hub.Publish(b.Context(), "live/x", nil)
			require.NoError(b, err)
			require.NoError(b, pub.SetTracks(pattern.Tracks()...))
			sub, err := hub.Subscribe(b.Context(), "live/x", nil)
			require.NoError(b, err)
			defer sub.Close()
			var frames []*stream.Frame
			for f := range pattern.Frames(72) {
				require.NoError(b, pub.Write(f))
				frames = append(frames, f)
			}
			k.stream = pub.Stream()
			f := (&Server{Hub: hub, MaxLagBytes: 4 << 20}).newFeed(k)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				f.add(sub, frames[i%len(frames)])
			}
		})
	}
}

// BenchmarkMemory reports what a player takes of this process, heap and stacks,
// with its client's connection, which is in it too: 0.5 KB or so.
func BenchmarkMemory(b *testing.B) {
	const players = 500
	for protocol, request := range map[string]string{
		"http": "GET /live/x.flv?token=0123456789 HTTP/1.1\r\nHost: h\r\nUser-Agent: a player of some length/1.0\r\nAccept: */*\r\n",
		"ws":   handshake,
	} {
		b.Run(protocol, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(memory(b, request, players), "B/player")
			}
		})
	}
}

func memory(b *testing.B, request string, players int) float64 {
	hub := &stream.Hub{}
	defer hub.Close()
	srv := &Server{Hub: hub, Auth: auth.AllowAll, WriteInterval: 40 * time.Millisecond}
	defer srv.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	web := &http.Server{Handler: srv}
	defer web.Close()
	go web.Serve(ln)
	src := publish(b, hub, "live/x", &streamtest.Pattern{})
	src.write(100)

	conns := make([]net.Conn, players)
	used := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse)
	}
	playing := func() int {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		return len(srv.players)
	}
	before := used()
	for i := range conns {
		c, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(b, err)
		defer c.Close()
		conns[i] = c
		_, err = io.WriteString(c, request+"\r\n")
		require.NoError(b, err)
	}
	eventually(b, func() bool { return playing() == players }, "the players")
	buf := make([]byte, 1<<16)
	for range 20 {
		src.write(10)
		time.Sleep(50 * time.Millisecond)
		for _, c := range conns {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, _ = c.Read(buf)
		}
	}
	return (used() - before) / float64(players)
}
