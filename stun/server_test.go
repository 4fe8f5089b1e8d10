package stun

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/memnet"
	"github.com/runnel-media/runnel/internal/stunwire"
)

func serve(t *testing.T, s *Server, f func() error) {
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	t.Cleanup(func() {
		s.Close()
		require.ErrorIs(t, <-ended, ErrServerClosed)
	})
}

func listenUDP(t *testing.T, addr string) net.PacketConn {
	t.Helper()
	pc, err := net.ListenPacket("udp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { pc.Close() })
	return pc
}

// TestServerLoopback asks a server on real sockets, many at once, over UDP,
// TCP and IPv6.
func TestServerLoopback(t *testing.T) {
	s := new(Server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serve(t, s, func() error { return s.Serve(l) })
	addrs := []net.Addr{l.Addr()}
	pc := listenUDP(t, "127.0.0.1:0")
	addrs = append(addrs, pc.LocalAddr())
	serve(t, s, func() error { return s.ServePacket(pc) })
	if pc, err := net.ListenPacket("udp6", "[::1]:0"); err == nil {
		addrs = append(addrs, pc.LocalAddr())
		serve(t, s, func() error { return s.ServePacket(pc) })
	}
	for _, addr := range addrs {
		c, err := net.Dial(addr.Network(), addr.String())
		require.NoError(t, err)
		defer c.Close()
		for range 3 {
			got, err := new(Client).Binding(t.Context(), c)
			require.NoError(t, err)
			require.Equal(t, c.LocalAddr().String(), got.String())
		}
	}
	// A burst through one socket: each gets its own answer, in order.
	c, err := net.Dial("udp", addrs[1].String())
	require.NoError(t, err)
	defer c.Close()
	for i := range 100 {
		b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), stunwire.TxID{byte(i)})
		_, err := c.Write(b.Bytes())
		require.NoError(t, err)
	}
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 100)
	for i := range 100 {
		n, err := c.Read(buf)
		require.NoError(t, err)
		var m stunwire.Message
		require.NoError(t, m.Parse(buf[:n]))
		require.Equal(t, stunwire.TxID{byte(i)}, m.TxID)
	}
}

// TestServeNAT: four sockets of two loopback addresses; CHANGE-REQUEST's
// answers come from where they should.
func TestServeNAT(t *testing.T) {
	sockets, err := ListenNAT(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("127.0.0.2:0"))
	if err != nil {
		t.Skip(err) // only Linux has the whole of 127/8
	}
	var at [4]string
	for i, pc := range sockets {
		at[i] = pc.LocalAddr().String()
	}
	s := new(Server)
	serve(t, s, func() error { return s.ServeNAT(sockets) })
	pc := listenUDP(t, "127.0.0.1:0")
	for flags, from := range map[uint32]Socket{0: Primary, changePort: AlternatePort, changeAddress: AlternateAddress, changePort | changeAddress: Alternate} {
		to, err := net.ResolveUDPAddr("udp", at[Primary])
		require.NoError(t, err)
		_, err = pc.WriteTo(binding(func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrChangeRequest, flags) }), to)
		require.NoError(t, err)
		pc.SetReadDeadline(time.Now().Add(30 * time.Second))
		b := make([]byte, 200)
		n, sender, err := pc.ReadFrom(b)
		require.NoError(t, err)
		require.Equal(t, at[from], sender.String())
		require.Equal(t, at[from], addrOf(t, parse(t, b[:n]), stunwire.AttrResponseOrigin).String())
	}
	nat, err := Discover(t.Context(), listenUDP(t, "127.0.0.1:0"), netip.MustParseAddrPort(at[Primary]), &DiscoverOptions{
		Padding: 1500, Hairpin: listenUDP(t, "127.0.0.1:0"),
	})
	require.NoError(t, err)
	require.Equal(t, NAT{Local: nat.Local, Mapped: nat.Local, Mapping: EndpointIndependent, Filtering: EndpointIndependent, Hairpin: true}, *nat)
}

func TestServeNATRefuses(t *testing.T) {
	w := newWire()
	for name, at := range map[string][4]string{
		"one address": {"10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:1", "10.0.0.1:2"},
		"one port":    {"10.0.0.1:1", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.2:1"},
		"four ports":  {"10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:3", "10.0.0.2:4"},
		"families":    {"10.0.0.1:1", "10.0.0.1:2", "[::1]:1", "[::1]:2"},
		"unspecified": {"0.0.0.0:1", "0.0.0.0:2", "10.0.0.2:1", "10.0.0.2:2"},
		"missing":     {"10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1", ""},
	} {
		var sockets [4]net.PacketConn
		for i, a := range at {
			if a != "" {
				sockets[i] = w.listen(a)
			}
		}
		require.ErrorIs(t, new(Server).ServeNAT(sockets), errSockets, name)
		for _, pc := range sockets {
			if pc != nil {
				_, _, err := pc.ReadFrom(nil)
				require.ErrorIs(t, err, net.ErrClosed, name)
			}
		}
	}
	_, err := ListenNAT(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("192.0.2.1:0"))
	require.Error(t, err)
}

// startStream runs a server for connections in memory.
func startStream(t *testing.T, s *Server) (dial func() net.Conn) {
	n := memnet.New()
	t.Cleanup(func() { n.Close() })
	l, err := n.Listen("10.0.0.2:3478")
	require.NoError(t, err)
	serve(t, s, func() error { return s.Serve(l) })
	synctest.Wait()
	return func() net.Conn {
		c, err := n.Dial(context.Background(), "tcp", "10.0.0.2:3478")
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// TestStream: requests may come in pieces and several at once; what is not
// STUN ends the connection, and so does silence.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := startStream(t, new(Server))
		c := dial()
		two := append(binding(nil), binding(nil)...)
		for _, b := range two {
			_, err := c.Write([]byte{b})
			require.NoError(t, err)
		}
		for range 2 {
			m, err := readFrame(c, make([]byte, 100))
			require.NoError(t, err)
			ap, err := mapped(parse(t, m))
			require.NoError(t, err)
			require.Equal(t, c.LocalAddr().String(), ap.String())
		}
		got, err := new(Client).Binding(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, c.LocalAddr().String(), got.String())

		huge := binding(nil)
		binary.BigEndian.PutUint16(huge[2:], 0xFFFC)
		for name, b := range map[string][]byte{
			"HTTP": []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "too long": huge,
			"ChannelData": append([]byte{0x40, 0, 0, 60}, make([]byte, 60)...), "indication": stream(stunwire.NewType(stunwire.Binding, stunwire.Indication)),
		} {
			c := dial()
			_, err := c.Write(b)
			require.NoError(t, err, name)
			_, err = c.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF, name)
		}

		slow := dial() // a byte every ten seconds is not enough
		start := time.Now()
		go func() {
			for _, b := range binding(nil) {
				slow.Write([]byte{b})
				time.Sleep(10 * time.Second)
			}
		}()
		_, err = slow.Read(make([]byte, 1))
		require.Error(t, err)
		require.Equal(t, time.Minute, time.Since(start))
		time.Sleep(time.Hour)
	})
}

func stream(typ stunwire.Type) []byte {
	b := stunwire.Build(nil, typ, stunwire.TxID{})
	return b.Bytes()
}

func TestMaxConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := startStream(t, &Server{MaxConns: 2})
		first, second := dial(), dial()
		_, err := new(Client).Binding(t.Context(), first)
		require.NoError(t, err)
		_, err = new(Client).Binding(t.Context(), second)
		require.NoError(t, err)
		_, err = new(Client).Binding(t.Context(), dial())
		require.Error(t, err)
		first.Close()
		synctest.Wait()
		_, err = new(Client).Binding(t.Context(), dial())
		require.NoError(t, err)
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(Server)
		dial := startStream(t, s)
		idle, busy := dial(), dial()
		_, err := busy.Write(append(binding(nil), 0, 1)) // and the beginning of another
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, s.Shutdown(t.Context()))
		_, err = idle.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		_, err = readFrame(busy, make([]byte, 100))
		require.NoError(t, err, "what was asked is answered")
		_, err = busy.Read(make([]byte, 1))
		require.Error(t, err)

		pc := newWire().listen("10.0.0.1:1")
		require.ErrorIs(t, s.ServePacket(pc), ErrServerClosed)
		_, _, err = pc.ReadFrom(nil)
		require.ErrorIs(t, err, net.ErrClosed, "Serve owns what it is given")
		require.NoError(t, s.Close())
	})
}

// stuckConn never gets anything out, as to a peer that does not read.
type stuckListener struct {
	net.Listener
	conn   net.Conn
	closed chan struct{}
}

func (l *stuckListener) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *stuckListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

type withAddr struct{ net.Conn }

func (withAddr) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(testFrom) }

func TestShutdownCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(Server)
		here, there := net.Pipe()
		defer here.Close()
		serve(t, s, func() error { return s.Serve(&stuckListener{conn: withAddr{there}, closed: make(chan struct{})}) })
		_, err := here.Write(binding(nil)) // and never reads
		require.NoError(t, err)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
	})
}

// failing returns errors before it works.
type failing struct {
	net.PacketConn
	left int
}

func (f *failing) ReadFrom(b []byte) (int, net.Addr, error) {
	if f.left--; f.left >= 0 {
		return 0, nil, errors.New("connection reset")
	}
	return f.PacketConn.ReadFrom(b)
}

// TestReadErrors: some are survived, an endless row of them ends Serve.
func TestReadErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := new(Server)
		serve(t, s, func() error { return s.ServePacket(&failing{w.listen("10.0.0.2:3478"), 10}) })
		c := w.listen("10.0.0.1:1000")
		defer c.Close()
		_, err := new(Client).Binding(t.Context(), c.conn("10.0.0.2:3478"))
		require.NoError(t, err)
		require.ErrorContains(t, s.ServePacket(&failing{w.listen("10.0.0.3:3478"), 1000}), "connection reset")
	})
}

func FuzzReadFrame(f *testing.F) {
	f.Add(binding(nil))
	f.Add([]byte{0x40, 0, 0, 3, 'a', 'b', 'c', 0})
	f.Add(slices.Concat(binding(nil)[:2], []byte{0xFF, 0xFC}, binding(nil)[4:]))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		buf := make([]byte, 256)
		total := 0
		for {
			m, err := readFrame(r, buf)
			if err != nil {
				return
			}
			require.True(t, stunwire.Is(m))
			total += len(m)
			require.Equal(t, b[total-len(m):total], m)
		}
	})
}
