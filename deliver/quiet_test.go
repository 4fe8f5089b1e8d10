package deliver

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Players over plain TCP take no goroutine, but for one that is in the middle of
// saying something, and that one does not keep the others waiting.
func TestQuiet(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there a goroutine waits for each")
	}
	for _, tt := range []struct {
		protocol  string
		ask, hear []byte // none: it has nothing to say
	}{
		{protocol: "http"},
		{"ws", clientFrame(0x89, "are you there"), append([]byte{0x8a, 13}, "are you there"...)},
		{
			"rtmp",
			[]byte{2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 1, 2, 3, 4},
			[]byte{2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4},
		},
	} {
		t.Run(tt.protocol, func(t *testing.T) {
			srv, src, addr := serveOne(t, tt.protocol)
			stop := src.run() // the peers are listened to when something is sent
			defer stop()
			var conns []net.Conn
			play := func(n int) {
				for range n {
					c, err := net.Dial("tcp", addr)
					require.NoError(t, err)
					t.Cleanup(func() { c.Close() })
					conns = append(conns, c)
					_, err = c.Write(request(t, tt.protocol))
					require.NoError(t, err)
				}
				eventually(t, func() bool { return srv.playing() == len(conns) }, "the players")
			}
			settled := func(n int) {
				t.Helper()
				eventually(t, func() bool { return runtime.NumGoroutine() <= n }, "no more goroutines")
			}
			play(1) // with the feed and the shard
			time.Sleep(50 * time.Millisecond)
			alone := runtime.NumGoroutine()
			play(20)
			settled(alone)

			if tt.ask != nil {
				half := len(tt.ask) / 2
				say := func(c net.Conn, b []byte) {
					_, err := c.Write(b)
					require.NoError(t, err)
				}
				say(conns[0], tt.ask[:half])
				eventually(t, func() bool { return runtime.NumGoroutine() > alone }, "somebody who listens")
				for _, c := range conns[1:] {
					say(c, tt.ask)
				}
				for _, c := range conns[1:] {
					until(t, c, tt.hear)
				}
				require.Greater(t, runtime.NumGoroutine(), alone)
				say(conns[0], tt.ask[half:])
				until(t, conns[0], tt.hear)
				settled(alone)
				say(conns[0], tt.ask)
				until(t, conns[0], tt.hear)

				// One that goes in the middle of it, and one that is cut off.
				say(conns[1], tt.ask[:half])
				say(conns[2], tt.ask[:half])
				time.Sleep(50 * time.Millisecond)
				require.NoError(t, conns[1].Close())
				for s := range srv.Hub.Sessions() {
					if s.Info().Remote.String() == conns[2].LocalAddr().String() {
						require.True(t, s.Kick(nil))
					}
				}
				eventually(t, func() bool { return srv.playing() == len(conns)-2 }, "their end")
				conns = conns[3:]
			}
			for _, c := range conns {
				require.NoError(t, c.Close())
			}
		})
	}
}

// until reads what a player is sent until want comes.
func until(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
	var got []byte
	buf := make([]byte, 1<<16)
	for !bytes.Contains(got, want) {
		n, err := c.Read(buf)
		require.NotEqual(t, io.EOF, err)
		require.NoError(t, err)
		got = append(got[max(0, len(got)-len(want)):], buf[:n]...)
	}
}
