package proxyproto

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// v2 builds a version 2 header.
func v2(cmd, fam byte, body ...byte) []byte {
	b := append([]byte(nil), signature2...)
	b = append(b, 0x20|cmd, fam, byte(len(body)>>8), byte(len(body)))
	return append(b, body...)
}

var (
	body4 = []byte{192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0x0d, 0x96}
	body6 = append(append(append([]byte{0x20, 1, 0xd, 0xb8}, make([]byte, 11)...), 1),
		append(append([]byte{0x20, 1, 0xd, 0xb8}, make([]byte, 11)...), 2, 0, 80, 1, 187)...)
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestParse(t *testing.T) {
	four := Header{Src: ap("192.0.2.1:4660"), Dst: ap("198.51.100.2:3478")}
	six := Header{Src: ap("[2001:db8::1]:80"), Dst: ap("[2001:db8::2]:443")}
	fourUDP := four
	fourUDP.Datagram = true
	for name, tc := range map[string]struct {
		in   string
		want Header
		rest string
		err  error
	}{
		"v1 TCP4":                   {"PROXY TCP4 192.0.2.1 198.51.100.2 4660 3478\r\nrest", four, "rest", nil},
		"v1 TCP6":                   {"PROXY TCP6 2001:db8::1 2001:db8::2 80 443\r\n", six, "", nil},
		"v1 UNKNOWN":                {"PROXY UNKNOWN\r\nx", Header{Local: true}, "x", nil},
		"v1 UNKNOWN with addresses": {"PROXY UNKNOWN ffff:: :: 1 2\r\nx", Header{Local: true}, "x", nil},
		"v1 mapped":                 {"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 4660 3478\r\n", four, "", nil},
		"v1 incomplete":             {"PROXY TCP4 192.0.2.1 1", Header{}, "", ErrShort},
		"v1 too long":               {"PROXY " + strings.Repeat("x", 200), Header{}, "", ErrMalformed},
		"v1 family":                 {"PROXY TCP4 2001:db8::1 2001:db8::2 80 443\r\n", Header{}, "", ErrMalformed},
		"v1 family 6":               {"PROXY TCP6 192.0.2.1 198.51.100.2 80 443\r\n", Header{}, "", ErrMalformed},
		"v1 UDP4":                   {"PROXY UDP4 192.0.2.1 198.51.100.2 80 443\r\n", Header{}, "", ErrMalformed},
		"v1 port":                   {"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", Header{}, "", ErrMalformed},
		"v1 port sign":              {"PROXY TCP4 192.0.2.1 198.51.100.2 +80 443\r\n", Header{}, "", ErrMalformed},
		"v1 port zeros":             {"PROXY TCP4 192.0.2.1 198.51.100.2 080 443\r\n", Header{}, "", ErrMalformed},
		"v1 two spaces":             {"PROXY TCP4  192.0.2.1 198.51.100.2 80 443\r\n", Header{}, "", ErrMalformed},
		"v1 zone":                   {"PROXY TCP6 fe80::1%a fe80::2 80 443\r\n", Header{}, "", ErrMalformed},
		"v1 LF only":                {"PROXY TCP4 192.0.2.1 198.51.100.2 80 443\n" + strings.Repeat("x", 107), Header{}, "", ErrMalformed},

		"v2 TCP4":             {string(v2(1, 0x11, body4...)) + "rest", four, "rest", nil},
		"v2 UDP4":             {string(v2(1, 0x12, body4...)), fourUDP, "", nil},
		"v2 TCP6":             {string(v2(1, 0x21, body6...)), six, "", nil},
		"v2 TLVs":             {string(v2(1, 0x11, append(append([]byte(nil), body4...), 0x20, 0, 3, 'a', 'b', 'c')...)) + "rest", four, "rest", nil},
		"v2 LOCAL":            {string(v2(0, 0x00)) + "rest", Header{Local: true}, "rest", nil},
		"v2 LOCAL skips":      {string(v2(0, 0x11, body4...)) + "rest", Header{Local: true}, "rest", nil},
		"v2 UNSPEC":           {string(v2(1, 0x00, 1, 2, 3)) + "rest", Header{Local: true}, "rest", nil},
		"v2 unix":             {string(v2(1, 0x31, make([]byte, 216)...)) + "rest", Header{Local: true}, "rest", nil},
		"v2 short body":       {string(v2(1, 0x11, body4[:11]...)), Header{}, "", ErrMalformed},
		"v2 short body 6":     {string(v2(1, 0x21, body6[:35]...)), Header{}, "", ErrMalformed},
		"v2 incomplete":       {string(v2(1, 0x11, body4...)[:20]), Header{}, "", ErrShort},
		"v2 signature":        {string(signature2[:5]), Header{}, "", ErrShort},
		"v2 command":          {string(v2(2, 0x11, body4...)), Header{}, "", ErrMalformed},
		"v2 protocol":         {string(v2(1, 0x13, body4...)), Header{}, "", ErrMalformed},
		"v2 version":          {string(signature2) + "\x11\x11\x00\x0c" + string(body4), Header{}, "", ErrMalformed},
		"v2 longer than 1 KB": {string(v2(1, 0x11, make([]byte, 1100)...)), Header{}, "", ErrMalformed},

		"STUN":    {"\x00\x01\x00\x00\x21\x12\xa4\x42", Header{}, "", ErrNone},
		"TLS":     {"\x16\x03\x01", Header{}, "", ErrNone},
		"HTTP":    {"POST / HTTP/1.1\r\n", Header{}, "", ErrNone},
		"P":       {"P", Header{}, "", ErrShort},
		"nothing": {"", Header{}, "", ErrShort},
	} {
		h, n, err := Parse([]byte(tc.in))
		require.Equal(t, tc.err, err, name)
		require.Equal(t, tc.want, h, name)
		if err == nil {
			require.Equal(t, tc.rest, tc.in[n:], name)
		}
	}
}

func TestStrip(t *testing.T) {
	h, payload, err := Strip(append(v2(1, 0x12, body4...), "data"...))
	require.NoError(t, err)
	require.Equal(t, "data", string(payload))
	require.Equal(t, ap("192.0.2.1:4660"), h.Src)

	h, payload, err = Strip(append(v2(0, 0), "ping"...))
	require.NoError(t, err)
	require.True(t, h.Local)
	require.Equal(t, "ping", string(payload))

	_, payload, err = Strip([]byte("\x00\x01 no header"))
	require.ErrorIs(t, err, ErrNone)
	require.Equal(t, "\x00\x01 no header", string(payload))

	for _, bad := range [][]byte{
		v2(1, 0x11, body4...),      // of a stream
		v2(1, 0x12, body4...)[:20], // cut off
		v2(1, 0x12, body4[:4]...),
		signature2,
	} {
		_, payload, err = Strip(bad)
		require.ErrorIs(t, err, ErrMalformed)
		require.Nil(t, payload)
	}
	_, _, err = Strip([]byte("PROXY TCP4 192.0.2.1 198.51.100.2 80 443\r\n"))
	require.ErrorIs(t, err, ErrNone, "version 1 is for streams")
	datagram := append(v2(1, 0x12, body4...), "data"...)
	require.Zero(t, testing.AllocsPerRun(100, func() { Strip(datagram) }))
}

func listen(t *testing.T, o Options) net.Listener {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	l = Listen(l, o)
	t.Cleanup(func() { l.Close() })
	return l
}

func TestListener(t *testing.T) {
	l := listen(t, Options{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	c, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	go func() { // byte by byte, and data behind it
		for _, b := range append(v2(1, 0x11, body4...), "hello"...) {
			c.Write([]byte{b})
		}
	}()
	s, err := l.Accept()
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, "192.0.2.1:4660", s.RemoteAddr().String())
	require.Equal(t, "198.51.100.2:3478", s.LocalAddr().String())
	got := make([]byte, 5)
	_, err = io.ReadFull(s, got)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	go c.Write([]byte("more"))
	_, err = io.ReadFull(s, got[:4])
	require.NoError(t, err)
	require.Equal(t, "more", string(got[:4]))
	require.Equal(t, c.LocalAddr().String(), s.(*Conn).NetConn().RemoteAddr().String())
}

func TestListenerLocal(t *testing.T) {
	l := listen(t, Options{Trusted: []netip.Prefix{netip.MustParsePrefix("::ffff:127.0.0.1/128")}})
	c, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	c.Write(append(v2(0, 0), 'x'))
	s, err := l.Accept()
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, c.LocalAddr().String(), s.RemoteAddr().String())
	b := make([]byte, 10)
	n, err := s.Read(b)
	require.NoError(t, err)
	require.Equal(t, "x", string(b[:n]))
}

// A header from anybody else is not believed: it is data.
func TestListenerTrustsNobodyElse(t *testing.T) {
	l := listen(t, Options{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	c, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	header := v2(1, 0x11, body4...)
	c.Write(header)
	s, err := l.Accept()
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, c.LocalAddr().String(), s.RemoteAddr().String())
	got := make([]byte, len(header))
	_, err = io.ReadFull(s, got)
	require.NoError(t, err)
	require.Equal(t, header, got)
}

func TestListenerDropsBadAndSlowHeaders(t *testing.T) {
	failed := make(chan error, 10)
	l := listen(t, Options{
		Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Timeout: 100 * time.Millisecond,
		Failed: func(_ net.Addr, err error) { failed <- err },
	})
	for _, send := range []string{"\x00\x01\x00\x00", "PROXY TCP4", string(v2(1, 0x13, body4...)), "", "PROXY " + strings.Repeat("x", 5000)} {
		c, err := net.Dial("tcp4", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		c.Write([]byte(send))
	}
	good, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	defer good.Close()
	good.Write(v2(1, 0x11, body4...))
	s, err := l.Accept()
	require.NoError(t, err)
	require.Equal(t, "192.0.2.1:4660", s.RemoteAddr().String())
	s.Close()
	for range 5 {
		select {
		case err := <-failed:
			require.Error(t, err)
		case <-time.After(30 * time.Second):
			t.Fatal("a bad header was not dropped")
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 198.51.100.2 4660 3478\r\nrest"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add(v2(1, 0x11, body4...))
	f.Add(v2(1, 0x22, body6...))
	f.Add(v2(0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if err != nil {
			require.Zero(t, n)
			require.Equal(t, Header{}, h)
		} else {
			require.Positive(t, n)
			require.LessOrEqual(t, n, min(len(b), maxV2))
			require.Equal(t, h.Local, !h.Src.IsValid())
			require.False(t, h.Src.Addr().Is4In6())
			// What a header is does not depend on what follows it.
			h2, n2, err := Parse(b[:n])
			require.NoError(t, err)
			require.Equal(t, h, h2)
			require.Equal(t, n, n2)
			_, _, err = Parse(b[:n-1])
			require.Equal(t, ErrShort, err)
		}
		if len(b) > maxV2 {
			require.NotEqual(t, ErrShort, err)
		}
		_, payload, err := Strip(b)
		if err == nil {
			require.True(t, bytes.HasSuffix(b, payload))
		}
	})
}
