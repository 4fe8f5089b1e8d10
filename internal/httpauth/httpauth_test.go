package httpauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/name"
)

func TestRequest(t *testing.T) {
	for _, tt := range []struct {
		path, query, authorization string
		want                       auth.Request // but for what all have
	}{
		{path: "/live/cam", want: auth.Request{Stream: "live/cam", App: "live", Name: "cam"}},
		{path: "/a/b/cam", query: "token=t", want: auth.Request{Stream: "a/b/cam", App: "a/b", Name: "cam", Token: "t"}},
		{path: "/live/cam", query: "vhost=v.example", want: auth.Request{Stream: "v.example/live/cam", VHost: "v.example", App: "live", Name: "cam"}},
		{path: "/live/cam", query: "vhost=__defaultVhost__", want: auth.Request{Stream: "live/cam", App: "live", Name: "cam"}},
		{path: "/live/cam", query: "token=t", authorization: "bearer  b ", want: auth.Request{Stream: "live/cam", App: "live", Name: "cam", Token: "b"}},
		{path: "/live/cam", authorization: "Basic dTpw", want: auth.Request{Stream: "live/cam", App: "live", Name: "cam", User: "u", Password: "p"}},
		{path: "/live/cam", authorization: "Bearer", want: auth.Request{Stream: "live/cam", App: "live", Name: "cam"}},
	} {
		t.Run(fmt.Sprint(tt.path, tt.query, tt.authorization), func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/x?"+tt.query, nil)
			r.RemoteAddr = "[::ffff:192.0.2.1]:5000"
			r.Header.Set("Origin", "https://page.example")
			r.Header.Set("Referer", "https://page.example/p")
			if tt.authorization != "" {
				r.Header.Set("Authorization", tt.authorization)
			}
			got, err := Request(r, auth.Play, tt.path)
			require.NoError(t, err)
			tt.want.Action, tt.want.RawQuery = auth.Play, tt.query
			tt.want.Origin, tt.want.PageURL = "https://page.example", "https://page.example/p"
			tt.want.Remote = netip.MustParseAddrPort("192.0.2.1:5000")
			require.Equal(t, &tt.want, got)
		})
	}
	for _, bad := range []struct{ path, query string }{
		{"/live/../cam", ""}, {"/live/", ""}, {"", ""}, {"/live/a\x00b", ""}, {"/live/cam", "vhost=a/b"}, {"/live/cam", "vhost=.."},
	} {
		_, err := Request(httptest.NewRequest(http.MethodGet, "/x?"+bad.query, nil), auth.Publish, bad.path)
		require.ErrorIs(t, err, name.ErrName, bad)
	}
}

func TestRefuse(t *testing.T) {
	other := errors.New("other")
	for _, tt := range []struct {
		name   string
		req    auth.Request
		err    error
		status int // 0: it is not answered
	}{
		{"nothing said", auth.Request{}, auth.ErrDenied, 401},
		{"a token", auth.Request{Token: "t"}, fmt.Errorf("so: %w", auth.ErrDenied), 403},
		{"a user", auth.Request{User: "u"}, auth.ErrDenied, 403},
		{"elsewhere", auth.Request{Action: auth.Play}, &auth.Redirect{Location: "/there"}, 302},
		{"elsewhere with a body", auth.Request{Action: auth.Publish}, &auth.Redirect{Location: "/there"}, 307},
		{"other", auth.Request{}, other, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			answered := Refuse(w, httptest.NewRequest(http.MethodGet, "/live/cam", nil), &tt.req, tt.err)
			require.Equal(t, tt.status != 0, answered)
			if !answered {
				require.Zero(t, w.Body.Len())
				return
			}
			require.Equal(t, tt.status, w.Code)
			require.Equal(t, tt.status == 401, w.Header().Get("WWW-Authenticate") != "")
			if tt.status == 401 {
				require.Len(t, w.Header().Values("WWW-Authenticate"), 2)
			}
			if tt.status < 400 {
				require.Equal(t, "/there", w.Header().Get("Location"))
			}
		})
	}
}

// A redirect to a server keeps what the peer asked for, and leads nowhere else.
func TestRedirectToServer(t *testing.T) {
	for _, tt := range []struct{ method, asked, to, want string }{
		{"GET", "/live/cam.flv?token=a%2Fb", "https://b:8443?moved=1", "https://b:8443/live/cam.flv?token=a%2Fb&moved=1"},
		{"GET", "/live/cam.flv?moved=1&x=;&y", "https://b?moved=2", "https://b/live/cam.flv?x=;&y&moved=2"},
		{"GET", "/live/cam%20s.flv", "http://b", "http://b/live/cam%20s.flv"},
		{"GET", "//evil.example/cam.flv", "http://b?m=1", "http://b//evil.example/cam.flv?m=1"},
		{"GET", "/live/cam.flv?token=t", "https://c/else/cam.flv", "https://c/else/cam.flv"},
		{"GET", "http://proxy/live/cam.flv", "https://c", "https://c"},
		{"POST", "/whep/live/cam?token=t", "https://b", "https://b/whep/live/cam?token=t"},
	} {
		t.Run(tt.asked, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/stripped", nil)
			r.RequestURI = tt.asked
			w := httptest.NewRecorder()
			require.True(t, Refuse(w, r, &auth.Request{Action: auth.Play}, &auth.Redirect{Location: tt.to}))
			require.Equal(t, map[string]int{"GET": 302, "POST": 307}[tt.method], w.Code)
			require.Equal(t, tt.want, w.Header().Get("Location"))
		})
	}
}

// TestBrowser: a browser is told nothing that would make it ask its user.
func TestBrowser(t *testing.T) {
	for _, h := range [][2]string{{"User-Agent", "Mozilla/5.0 (X11)"}, {"Sec-Fetch-Mode", "cors"}, {"Accept", "text/html,*/*"}} {
		r := httptest.NewRequest(http.MethodGet, "/live/cam", nil)
		require.False(t, Browser(r))
		r.Header.Set(h[0], h[1])
		require.True(t, Browser(r), h)
		w := httptest.NewRecorder()
		require.True(t, Refuse(w, r, &auth.Request{}, auth.ErrDenied))
		require.Equal(t, []string{`Bearer realm="runnel"`}, w.Header().Values("WWW-Authenticate"))
	}
}
