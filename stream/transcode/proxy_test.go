package transcode

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProxyPermits(t *testing.T) {
	p := &proxy{allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "2001:4860:4860::8888": true, "10.1.2.3": true, "::ffff:10.1.2.3": true,
		"10.2.0.1": false, "127.0.0.1": false, "::1": false, "::ffff:127.0.0.1": false, "169.254.169.254": false,
		"192.168.1.1": false, "fe80::1": false, "fc00::1": false, "0.0.0.0": false, "100.64.0.1": false,
		"2002:7f00:1::": false, "64:ff9b::7f00:1": false, "224.0.0.1": false, "255.255.255.255": false,
	} {
		require.Equal(t, want, p.permits(netip.MustParseAddr(addr)), addr)
	}
	require.False(t, p.permits(netip.Addr{}))
}

func TestProxy(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Empty(t, r.Header.Get("Proxy-Authorization"), "the password is the proxy's")
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/there", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, "hello "+r.URL.RequestURI())
	})
	for _, secure := range []bool{false, true} {
		origin, other := httptest.NewUnstartedServer(hello), httptest.NewUnstartedServer(hello)
		for _, s := range []*httptest.Server{origin, other} {
			if secure {
				s.StartTLS()
			} else {
				s.Start()
			}
			defer s.Close()
		}
		u, err := url.Parse(origin.URL + "/a.m3u8")
		require.NoError(t, err)
		p, err := newProxy(u, nil)
		require.NoError(t, err)
		defer p.close()
		get := func(through, target string) (int, string) {
			via, err := url.Parse(through)
			require.NoError(t, err)
			transport := &http.Transport{Proxy: http.ProxyURL(via), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			defer transport.CloseIdleConnections()
			r, err := (&http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Get(target)
			if err != nil {
				return 0, err.Error()
			}
			defer r.Body.Close()
			b, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			return r.StatusCode, string(b)
		}
		code, body := get(p.url(), origin.URL+"/a?b=c")
		require.Equal(t, http.StatusOK, code, body)
		require.Equal(t, "hello /a?b=c", body)
		code, _ = get(p.url(), origin.URL+"/away")
		require.Equal(t, http.StatusFound, code, "for the client to follow, by way of us")
		require.Empty(t, p.denied())

		code, body = get(p.url(), other.URL)
		require.NotEqual(t, http.StatusOK, code, body)
		_, port, err := net.SplitHostPort(other.Listener.Addr().String())
		require.NoError(t, err)
		require.Equal(t, "127.0.0.1:"+port, p.denied())
		code, body = get(p.url(), "http://localhost:"+port)
		require.NotEqual(t, http.StatusOK, code, body)
		require.Equal(t, "localhost:"+port, p.denied(), "names are resolved first")

		code, body = get("http://runnel:wrong@"+p.listener.Addr().String(), origin.URL)
		require.NotEqual(t, http.StatusOK, code, body)

		allowing, err := newProxy(u, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
		require.NoError(t, err)
		defer allowing.close()
		code, body = get(allowing.url(), other.URL)
		require.Equal(t, http.StatusOK, code, body)
	}
	require.Equal(t, "example.com:443", authority(&url.URL{Scheme: "https", Host: "Example.com"}))
	require.Equal(t, "[::1]:80", authority(&url.URL{Scheme: "http", Host: "[::1]"}))
}
