package deliver

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/internal/fanout"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// TestCountedConnsAreFast: a connection that a limit.Limiter counts is written to
// as a plain socket is, and is counted out at the end of the play.
func TestCountedConnsAreFast(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no such path on " + runtime.GOOS)
	}
	hub := &stream.Hub{Log: slog.New(slog.DiscardHandler)}
	defer hub.Close()
	go (&streamtest.Source{}).Run(t.Context(), hub, "live/x")
	limits := &limit.Limiter{}
	s := &Server{Hub: hub, Auth: auth.AllowAll, Log: hub.Log, Limits: limits, Wait: 10 * time.Second}
	defer s.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	fast := make(chan bool, 1)
	web := &http.Server{Handler: s, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		raw, ok := c.(plainConn)
		fast <- ok && fanout.CanHear(raw)
		return ctx
	}}
	defer web.Close()
	go web.Serve(limits.Listen(ln))
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET /live/x.flv HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	_, err = io.ReadFull(res.Body, make([]byte, 100))
	require.NoError(t, err)
	require.True(t, <-fast)
	u := limits.Usage()
	require.Equal(t, []int{1, 1}, []int{u.Conns, u.Sessions})
	c.Close()
	require.Eventually(t, func() bool { u := limits.Usage(); return u.Conns == 0 && u.Sessions == 0 }, 20*time.Second, 5*time.Millisecond)
}
