package proxied

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var trusted = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::ffff:192.168.0.0/112"), netip.MustParsePrefix("2001:db8:1::/48")}

func TestHandler(t *testing.T) {
	for _, c := range []struct {
		name, from, header string
		lines              []string
		want               string
	}{
		{"a proxy", "10.0.0.1:5", XForwardedFor, []string{"192.0.2.1"}, "192.0.2.1:0"},
		{"a stranger's header is forged", "198.51.100.1:5", XForwardedFor, []string{"192.0.2.1"}, "198.51.100.1:5"},
		{"a stranger's header that says loopback", "198.51.100.1:5", XForwardedFor, []string{"127.0.0.1"}, "198.51.100.1:5"},
		{"the client forged the first", "10.0.0.1:5", XForwardedFor, []string{"127.0.0.1, 192.0.2.1"}, "192.0.2.1:0"},
		{"two proxies", "10.0.0.1:5", XForwardedFor, []string{"127.0.0.1, 192.0.2.1, 192.168.0.9"}, "192.0.2.1:0"},
		{"a forged line before the proxy's", "10.0.0.1:5", XForwardedFor, []string{"127.0.0.1", "192.0.2.1"}, "192.0.2.1:0"},
		{"proxies alone", "10.0.0.1:5", XForwardedFor, []string{"10.0.0.7"}, "10.0.0.7:0"},
		{"mapped", "[::ffff:10.0.0.1]:5", XForwardedFor, []string{"::ffff:192.0.2.1"}, "192.0.2.1:0"},
		{"IPv6 with port", "[2001:db8:1::1]:5", XForwardedFor, []string{"[2001:db8::7]:99"}, "[2001:db8::7]:99"},
		{"IPv6 in brackets", "10.0.0.1:5", XForwardedFor, []string{"[2001:db8::7]"}, "[2001:db8::7]:0"},
		{"no address", "10.0.0.1:5", XForwardedFor, []string{"unknown"}, "10.0.0.1:5"},
		{"what is before no address", "10.0.0.1:5", XForwardedFor, []string{"192.0.2.1, x, 10.0.0.2"}, "10.0.0.2:0"},
		{"a zone", "10.0.0.1:5", XForwardedFor, []string{"fe80::1%eth0"}, "10.0.0.1:5"},
		{"none", "10.0.0.1:5", XForwardedFor, nil, "10.0.0.1:5"},
		{"the other header", "10.0.0.1:5", Forwarded, []string{"192.0.2.1"}, "10.0.0.1:5"},
		{"huge", "10.0.0.1:5", XForwardedFor, []string{strings.Repeat("x,", 5000) + "192.0.2.1"}, "10.0.0.1:5"},
		{"RFC 7239", "10.0.0.1:5", Forwarded, []string{`for=127.0.0.1;proto=http, For="[2001:db8:cafe::17]:4711";by=10.0.0.1`}, "[2001:db8:cafe::17]:4711"},
		{"RFC 7239, obfuscated", "10.0.0.1:5", Forwarded, []string{"for=_hidden"}, "10.0.0.1:5"},
		{"RFC 7239, no for", "10.0.0.1:5", Forwarded, []string{"for=192.0.2.1, proto=https"}, "10.0.0.1:5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Proxies{Trusted: trusted, Header: c.header}
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = c.from
			other := Forwarded
			if c.header == Forwarded {
				other = XForwardedFor
			}
			if c.name != "the other header" {
				r.Header[c.header] = c.lines
				r.Header.Set(other, "127.0.0.9")
			} else {
				r.Header[other] = c.lines
			}
			got := ""
			p.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr })).ServeHTTP(nil, r)
			require.Equal(t, c.want, got)
			require.Equal(t, c.from, r.RemoteAddr, "the request of the caller is not changed")
		})
	}
}

func TestListen(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	none := &Proxies{}
	require.Equal(t, inner, none.Listen(inner), "nobody is trusted")
	l := (&Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, HeaderTimeout: time.Minute}).Listen(inner)
	defer l.Close()
	c, err := net.Dial("tcp", inner.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("PROXY TCP4 192.0.2.1 198.51.100.2 4660 1935\r\n"))
	require.NoError(t, err)
	s, err := l.Accept()
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, "192.0.2.1:4660", s.RemoteAddr().String())
}

func FuzzClient(f *testing.F) {
	f.Add("10.0.0.1, 192.0.2.1", true)
	f.Add(`for="[2001:db8::1]:1";by=x, for=_a`, false)
	f.Fuzz(func(t *testing.T, line string, x bool) {
		p := &Proxies{Trusted: trusted, Header: Forwarded}
		if x {
			p.Header = XForwardedFor
		}
		r := &http.Request{RemoteAddr: "10.0.0.1:5", Header: http.Header{p.Header: {line}}}
		if a, ok := p.client(r); ok {
			require.True(t, a.IsValid())
			require.False(t, a.Addr().Is4In6())
			require.Empty(t, a.Addr().Zone())
		}
		r.RemoteAddr = "192.0.2.1:5"
		_, ok := p.client(r)
		require.False(t, ok)
	})
}

func ExampleProxies() {
	proxies := &Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	h := proxies.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { fmt.Println(r.RemoteAddr) }))
	r := httptest.NewRequest("GET", "/live/demo.flv", nil)
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	r.RemoteAddr = "10.0.0.1:4000"
	h.ServeHTTP(httptest.NewRecorder(), r)
	r.RemoteAddr = "198.51.100.1:4000" // no proxy of ours
	h.ServeHTTP(httptest.NewRecorder(), r)
	// Output:
	// 192.0.2.1:0
	// 198.51.100.1:4000
}
