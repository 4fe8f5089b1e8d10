package mediaapi

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/stream"
)

// TestTraversal: no path leads out of the API, none is redirected, and none is
// shown as more than text.
func TestTraversal(t *testing.T) {
	h := newHandler(&stream.Hub{})
	for _, target := range []string{
		"/api/v2/streams/../../etc/passwd",
		"/api/v2/streams/%2e%2e/%2e%2e/etc/passwd",
		"/api/v2/streams/..%2f..%2fetc%2fpasswd",
		"/api/v2/streams//evil.example",
		"//evil.example/api/v2/streams",
		"/api/v2/streams/",
		"/api/v2/streams/%00",
		"/api/v2/streams/%ff%fe",
		"/api/v2/streams/a%5c..%5cb",
		"/api/v2/streams/%3Cscript%3Ealert(1)%3C/script%3E",
		"/api/v2/sessions/..",
		"/api/v2/%3Cimg%20src=x%3E",
	} {
		w := ask(h, "GET", "http://localhost"+target, "")
		detail := refused(t, w, 404)
		require.NotContains(t, detail, "evil")
		require.Empty(t, w.Header().Get("Location"))
		require.NotContains(t, w.Body.String(), "<")
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	}
}

// TestNames: names that hold markup pass through as text.
func TestNames(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	const nasty = "live/it's-&-{alert(1)}"
	publish(t, hub, nasty, nil)
	open(hub, stream.RolePlay, "hls", nasty, "<img src=x onerror=alert(1)>", "192.0.2.1:5")
	h := newHandler(hub)
	for _, target := range []string{"/api/v2/streams", "/api/v2/sessions", "/api/v2/publishers"} {
		w := ask(h, "GET", target, "")
		require.Equal(t, 200, w.Code)
		require.NotContains(t, w.Body.String(), "<img")
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
	}
	require.Equal(t, nasty, get(t, h, "/api/v2/streams/{name}", "/api/v2/streams/live/it%27s-&-%7Balert(1)%7D")["name"])
}

// TestForgery: a page elsewhere cannot make a browser on this machine change
// anything.
func TestForgery(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	s, kicked := open(hub, stream.RolePlay, "hls", "live/a", "", "192.0.2.1:5")
	h := newHandler(hub)
	refused(t, ask(h, "DELETE", "/api/v2/sessions/"+s.ID(), "", "Origin", "https://evil.example"), 403)
	refused(t, ask(h, "DELETE", "/api/v2/sessions/"+s.ID(), "", "Sec-Fetch-Site", "cross-site"), 403)
	refused(t, ask(h, "DELETE", "/api/v2/sessions/"+s.ID(), "x=1", "Content-Type", "text/plain"), 415)
	refused(t, ask(h, "PUT", "/api/v2/log-level", `{"level":"debug"}`, "Content-Type", "text/plain"), 415)
	refused(t, ask(h, "GET", "/api/v2/sessions", "", "X-Forwarded-For", "127.0.0.1"), 403)
	refused(t, ask(h, "GET", "/api/v2/sessions?_method=DELETE", ""), 400)
	require.Equal(t, 200, ask(h, "GET", "/api/v2/sessions", "", "X-HTTP-Method-Override", "DELETE").Code)
	require.Empty(t, kicked)
	w := ask(h, "GET", "/api/v2/sessions", "", "Origin", "https://evil.example")
	require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
}

// TestBodies: bodies are bounded in size and time, even those that nobody reads.
func TestBodies(t *testing.T) {
	h := newHandler(&stream.Hub{})
	h.bodyTime = 200 * time.Millisecond
	refused(t, ask(h, "PUT", "/api/v2/log-level", `{"level":"`+strings.Repeat("x", rest.MaxBody)+`"}`), 413)

	srv := httptest.NewServer(h)
	defer srv.Close()
	slow := func(head string) *http.Response {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", head)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		// The connection does not outlive the body that never comes.
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		return resp
	}
	require.Equal(t, 408, slow("PUT /api/v2/log-level").StatusCode)
	require.Equal(t, 404, slow("DELETE /api/v2/sessions/x").StatusCode)
	require.Equal(t, slog.LevelInfo, h.LogLevel.Level())
}

// TestAudit: what was done is written down with who did it, and no secret.
func TestAudit(t *testing.T) {
	const secret = "0123456789abcdef"
	token, err := access.ParseToken("operator:" + secret)
	require.NoError(t, err)
	token.User = "ann"
	var log bytes.Buffer
	hub := &stream.Hub{}
	defer hub.Close()
	s, _ := open(hub, stream.RolePlay, "hls", "live/a", "", "192.0.2.1:5")
	h := &Handler{Hub: hub, LogLevel: &slog.LevelVar{}, Gate: &access.Gate{Auth: access.Tokens{token}, Log: slog.New(slog.NewTextHandler(&log, nil))}}
	require.Equal(t, 204, ask(h, "DELETE", "/api/v2/sessions/"+s.ID(), "", "Authorization", "Bearer "+secret).Code)
	require.Contains(t, log.String(), "by=ann role=operator from=127.0.0.1:4000 method=DELETE path=/api/v2/sessions/"+s.ID()+" status=204")
	require.Equal(t, 200, ask(h, "DELETE", "/api/v2/sessions?stream=live/a", "", "Authorization", "Bearer "+secret).Code)
	require.Contains(t, log.String(), `status=200 filter="stream=live%2Fa" ended=0`)
	refused(t, ask(h, "DELETE", "/api/v2/sessions?token="+secret, "", "Authorization", "Bearer "+secret), 400)
	require.NotContains(t, log.String(), secret)
	log.Reset()
	refused(t, ask(h, "PUT", "/api/v2/log-level", `{"level":"debug"}`, "Authorization", "Bearer "+secret), 403)
	require.Contains(t, log.String(), "level=WARN")
	require.Contains(t, log.String(), "status=403")
	refused(t, ask(h, "GET", "/api/v2/streams", "", "Authorization", "Bearer wrong"+secret), 401)
	require.NotContains(t, log.String(), secret)
}

// TestChangesForged: no change at all is taken from a page of another origin, as
// a form, or by a proxy's word.
func TestChangesForged(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	h := newHandler(hub)
	n := 0
	for _, rt := range h.routes() {
		if rt.Method == "GET" {
			continue
		}
		n++
		target := strings.NewReplacer("{name}", "live/x", "{id}", "x").Replace(rt.Path)
		refused(t, ask(h, rt.Method, target, "{}", "Origin", "https://evil.example"), 403)
		refused(t, ask(h, rt.Method, target, "{}", "Sec-Fetch-Site", "same-site"), 403)
		refused(t, ask(h, rt.Method, target, "{}", "X-Forwarded-Host", "localhost"), 403)
		refused(t, ask(h, rt.Method, target, "name=live/x", "Content-Type", "application/x-www-form-urlencoded"), 415)
		r := httptest.NewRequest(rt.Method, target, strings.NewReader("{}"))
		r.Host, r.RemoteAddr = "rebound.example", "127.0.0.1:4000"
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		refused(t, w, 403)
		r.Host, r.RemoteAddr = "localhost", "192.0.2.1:4000"
		w = httptest.NewRecorder()
		h.ServeHTTP(w, r)
		refused(t, w, 403)
	}
	require.Greater(t, n, 12)
	for range hub.Declarations() {
		t.Fatal("something was declared")
	}
}
