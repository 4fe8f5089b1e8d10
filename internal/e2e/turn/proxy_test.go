package turn

import (
	"context"
	"encoding/binary"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/turn"
)

// A headed connection puts a PROXY header before every write.
type headed struct {
	net.Conn
	header []byte
}

func (h *headed) Write(b []byte) (int, error) {
	_, err := h.Conn.Write(append(h.header[:len(h.header):len(h.header)], b...))
	return len(b), err
}

// header2 is a PROXY header, version 2, of a client at 198.51.100.9:1234.
func header2(udp bool) []byte {
	h := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x09\xc0\x00\x02\x01")
	if udp {
		h[13] = 0x12
	}
	h = binary.BigEndian.AppendUint16(h, 1234)
	return binary.BigEndian.AppendUint16(h, 3478)
}

// TestProxy: the server believes load balancers about where clients are, and
// nobody else.
func TestProxy(t *testing.T) {
	t.Parallel()
	dial := func(header []byte, each bool) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil || each {
				return &headed{c, header}, err
			}
			_, err = c.Write(header)
			return c, err
		}
	}
	believes := startServer(t, "-proxy-from", "127.0.0.0/8", "-relay-ip", "127.0.0.1")
	for name, c := range map[string]*turn.Client{
		"TCP, version 1": {Transport: "tcp", Dial: dial([]byte("PROXY TCP4 198.51.100.9 192.0.2.1 1234 3478\r\n"), false)},
		"TCP, version 2": {Transport: "tcp", Dial: dial(header2(false), false)},
		"TLS, version 2": {Transport: "tls", Dial: dial(header2(false), false)},
		"UDP, version 2": {Transport: "udp", Dial: dial(header2(true), true)},
	} {
		t.Run(name, func(t *testing.T) {
			x := client(believes.at, c.Transport, believes.roots)
			x.Dial = c.Dial
			before := believes.count("client=198.51.100.9:1234")
			p, err := x.Allocate(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, "198.51.100.9:1234", p.Mapped().String())
			exchange(t, p, echo(t, "127.0.0.1"), 5, 100)
			require.NoError(t, p.Close())
			peer.Eventually(t, live, "the log", func() bool { return believes.count("client=198.51.100.9:1234") > before })
		})
	}
	doubts := startServer(t, "-proxy-from", "192.0.2.0/24", "-relay-ip", "127.0.0.1")
	x := client(doubts.at, "tcp", doubts.roots)
	x.Dial = dial(header2(false), false)
	_, err := x.Allocate(t.Context(), nil)
	require.Error(t, err)
	require.Zero(t, doubts.count("198.51.100.9"))
}
