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
	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/internal/rtmp"
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
	for _, protocol := range []string{"http", "ws", "rtmp"} {
		b.Run(protocol, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(playerMemory(b, protocol, request(b, protocol), players), "B/player")
			}
		})
	}
}

// request is what a player of live/x says.
func request(t testing.TB, protocol string) []byte {
	switch protocol {
	case "http":
		return []byte("GET /live/x.flv?token=0123456789 HTTP/1.1\r\nHost: h\r\nUser-Agent: a player of some length/1.0\r\nAccept: */*\r\n\r\n")
	case "ws":
		return []byte(handshake + "\r\n")
	}
	return rtmpPlayer(t)
}

// playing returns how many players there are.
func (s *Server) playing() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.players)
}

// rtmpPlayer is what an RTMP player says, from the handshake on.
func rtmpPlayer(b testing.TB) []byte {
	wire := append([]byte{3}, make([]byte, 2*1536)...)
	wire = append(wire, 2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff) // set chunk size
	for _, values := range [][]any{
		{"connect", 1, amf.Object{
			{Name: "app", Value: "live"}, {Name: "flashVer", Value: "LNX 9,0,124,2"},
			{Name: "tcUrl", Value: "rtmp://server:1935/live"}, {Name: "fpad", Value: false}, {Name: "capabilities", Value: 15},
			{Name: "audioCodecs", Value: 4071}, {Name: "videoCodecs", Value: 252}, {Name: "videoFunction", Value: 1},
		}},
		{"createStream", 2, nil},
		{"play", 4, nil, "x", -2000},
	} {
		body, err := amf.Append(nil, values...)
		require.NoError(b, err)
		wire = rtmp.AppendMessage(wire, 20, 0, nil, body)
	}
	return wire
}

// serveOne serves a stream that has begun to players of one protocol.
func serveOne(t testing.TB, protocol string) (srv *Server, src *source, addr string) {
	hub := &stream.Hub{}
	srv = &Server{Hub: hub, Auth: auth.AllowAll, WriteInterval: 40 * time.Millisecond}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serve func(net.Listener) error
	var closer io.Closer
	if protocol == "rtmp" {
		s := &rtmp.Server{Handler: rtmpHandler{srv}}
		serve, closer = s.Serve, s
	} else {
		s := &http.Server{Handler: srv}
		serve, closer = s.Serve, s
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve(ln)
	}()
	t.Cleanup(func() {
		closer.Close()
		<-done
		srv.Close()
		hub.Close()
	})
	src = publish(t, hub, "live/x", &streamtest.Pattern{})
	src.write(100)
	return srv, src, ln.Addr().String()
}

func playerMemory(b *testing.B, protocol string, request []byte, players int) float64 {
	srv, src, addr := serveOne(b, protocol)
	var conns []net.Conn
	used := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse)
	}
	play := func(n int) {
		for range n {
			c, err := net.Dial("tcp", addr)
			require.NoError(b, err)
			b.Cleanup(func() { c.Close() })
			conns = append(conns, c)
			_, err = c.Write(request)
			require.NoError(b, err)
		}
		eventually(b, func() bool { return srv.playing() == len(conns) }, "the players")
		buf := make([]byte, 1<<16)
		for range 20 {
			src.write(10)
			time.Sleep(50 * time.Millisecond)
			for _, c := range conns {
				_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
				_, _ = c.Read(buf)
			}
		}
	}
	play(10) // so that what all share is there
	before := used()
	play(players)
	return (used() - before) / float64(players)
}
