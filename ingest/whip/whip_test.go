package whip

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// offer is one as browsers write them, for H.264 and Opus.
const offer = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n" +
	"m=video 9 UDP/TLS/RTP/SAVPF 102\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n" +
	"a=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n" +
	"a=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n" +
	"a=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=mid:1\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"

// a fixture is a Handler behind a server, which lets in who says "sesame".
type fixture struct {
	*Handler
	hub *stream.Hub
	url string
}

func start(t *testing.T) *fixture {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	hub := &stream.Hub{Log: log}
	in := &ingest.Server{Hub: hub, Log: log, Auth: auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		if r.Token != "sesame" || r.Protocol != "whip" || r.Action != auth.Publish {
			return nil, auth.ErrDenied
		}
		return &auth.Grant{User: "ali"}, nil
	})}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	tr := &Transport{Log: log, Setup: 300 * time.Millisecond}
	done := make(chan struct{})
	go func() { defer close(done); _ = tr.ServePacket(pc) }()
	h := &Handler{Server: in, Transport: tr, ICEServers: func(*http.Request) []string {
		return []string{`<stun:stun.example.org>; rel="ice-server"`}
	}}
	web := httptest.NewServer(http.StripPrefix("/whip", h))
	t.Cleanup(func() {
		web.Close()
		tr.Close()
		<-done
		in.Close()
		hub.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return &fixture{h, hub, web.URL + "/whip"}
}

// do sends a request and returns the answer with its body.
func (f *fixture) do(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	if !strings.HasPrefix(url, "http") {
		url = f.url + url
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	require.NoError(t, err)
	return a, string(b)
}

var sdp = []string{"Content-Type", "application/sdp", "Authorization", "Bearer sesame"}

func TestStatuses(t *testing.T) {
	f := start(t)
	long := strings.Repeat("a=x\r\n", 20_000)
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		want               int
	}{
		"no token":      {"POST", "/live/a", offer, sdp[:2], 401},
		"wrong token":   {"POST", "/live/a?token=simsim", offer, sdp[:2], 403},
		"not SDP":       {"POST", "/live/a", "hello", sdp, 400},
		"no type":       {"POST", "/live/a", offer, sdp[2:], 415},
		"JSON":          {"POST", "/live/a", "{}", []string{"Content-Type", "application/json"}, 415},
		"too long":      {"POST", "/live/a", offer + long, sdp, 413},
		"1 MB":          {"POST", "/live/a", offer + strings.Repeat("a=x\r\n", 1<<20/5), sdp, 413},
		"1000 media":    {"POST", "/live/a", offer + strings.Repeat("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", 1000), sdp, 400},
		"no ufrag":      {"POST", "/live/a", strings.ReplaceAll(offer, "a=ice-ufrag:abcd\r\n", ""), sdp, 400},
		"no password":   {"POST", "/live/a", strings.ReplaceAll(offer, "a=ice-pwd:0123456789012345678901\r\n", ""), sdp, 400},
		"SHA-1":         {"POST", "/live/a", strings.ReplaceAll(offer, "sha-256", "sha-1"), sdp, 400},
		"nothing sent":  {"POST", "/live/a", strings.ReplaceAll(offer, "sendonly", "recvonly"), sdp, 400},
		"bad name":      {"POST", "/live/../etc", offer, sdp, 404},
		"no codec":      {"POST", "/live/a", strings.NewReplacer("H264", "Cinepak", "opus", "speex").Replace(offer), sdp, 400},
		"GET":           {"GET", "/live/a", "", nil, 405},
		"another site":  {"POST", "/live/a", offer, append([]string{"Sec-Fetch-Site", "cross-site"}, sdp[:2]...), 403},
		"no session":    {"DELETE", "/_session/guess", "", nil, 404},
		"GET a session": {"GET", "/_session/guess", "", nil, 404},
		"preflight":     {"OPTIONS", "/live/a", "", nil, 204},
	} {
		r, body := f.do(t, c.method, c.path, c.body, c.header...)
		require.Equal(t, c.want, r.StatusCode, "%s: %s", name, body)
		require.Equal(t, "*", r.Header.Get("Access-Control-Allow-Origin"))
		require.NotEmpty(t, body+r.Header.Get("Accept-Post"), name)
	}
	require.Zero(t, f.Transport.Sessions(), "who is refused leaves nothing")
	for range f.hub.Sessions() {
		t.Fatal("a session of a refused peer")
	}
	require.Nil(t, f.hub.Stream("live/a"))
}

func TestResource(t *testing.T) {
	f := start(t)
	f.Transport.Setup = time.Minute
	r, answer := f.do(t, "POST", "/live/a", offer, sdp...)
	require.Equal(t, 201, r.StatusCode, answer)
	require.Equal(t, "application/sdp", r.Header.Get("Content-Type"))
	require.Equal(t, `<stun:stun.example.org>; rel="ice-server"`, r.Header.Get("Link"))
	require.Contains(t, answer, "a=setup:passive")
	require.Contains(t, answer, "a=recvonly")
	require.Contains(t, answer, "a=ice-lite")
	at, tag := r.Header.Get("Location"), r.Header.Get("ETag")
	require.True(t, strings.HasPrefix(at, "/whip/_session/"), at)
	require.Greater(t, len(at), len("/whip/_session/")+30, "it can't be guessed")
	require.NotNil(t, f.hub.Stream("live/a"))
	for s := range f.hub.Sessions() {
		require.Equal(t, "ali", s.Info().User)
		require.NotContains(t, at, s.ID(), "who sees sessions can't end them by that")
	}

	r, _ = f.do(t, "POST", "/live/a", offer, sdp...)
	require.Equal(t, 409, r.StatusCode)
	at = strings.TrimPrefix(at, "/whip")
	frag := []string{"Content-Type", "application/trickle-ice-sdpfrag"}
	r, _ = f.do(t, "PATCH", at, "a=ice-ufrag:abcd\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n", append(frag, "If-Match", tag)...)
	require.Equal(t, 204, r.StatusCode)
	r, _ = f.do(t, "PATCH", at, "a=x\r\n", append(frag, "If-Match", `"other"`)...)
	require.Equal(t, 412, r.StatusCode)
	r, _ = f.do(t, "PATCH", at, "a=x\r\n", "Content-Type", "application/json")
	require.Equal(t, 415, r.StatusCode)
	r, _ = f.do(t, "GET", at, "")
	require.Equal(t, 405, r.StatusCode)
	r, _ = f.do(t, "OPTIONS", at, "")
	require.Equal(t, "DELETE, PATCH, OPTIONS", r.Header.Get("Allow"))
	r, _ = f.do(t, "DELETE", at, "")
	require.Equal(t, 200, r.StatusCode)
	require.Eventually(t, func() bool { return f.hub.Stream("live/a") == nil }, 10*time.Second, time.Millisecond)
	r, _ = f.do(t, "DELETE", at, "")
	require.Equal(t, 404, r.StatusCode)
}

// A publisher that never connects, or is kicked, leaves nothing.
func TestEnds(t *testing.T) {
	f := start(t)
	r, _ := f.do(t, "POST", "/live/a", offer, sdp...)
	require.Equal(t, 201, r.StatusCode)
	gone := func() bool { return f.hub.Stream("live/a") == nil && f.Transport.Sessions() == 0 }
	require.Eventually(t, gone, 10*time.Second, time.Millisecond)

	f.Transport.Setup = time.Minute
	r, _ = f.do(t, "POST", "/live/a", offer, sdp...)
	require.Equal(t, 201, r.StatusCode)
	for s := range f.hub.Sessions() {
		require.True(t, s.Kick(stream.ErrKicked))
	}
	require.Eventually(t, gone, 10*time.Second, time.Millisecond)
}

// An address has as many sessions as it may, and its next offers leave nothing.
func TestLimit(t *testing.T) {
	f := start(t)
	f.Transport.Setup = time.Minute
	limits := &limit.Limiter{}
	limits.SetPolicy(&limit.Policy{SessionsPerAddr: 1})
	f.Server.Limits = limits
	r, answer := f.do(t, "POST", "/live/a", offer, sdp...)
	require.Equal(t, 201, r.StatusCode, answer)
	at := strings.TrimPrefix(r.Header.Get("Location"), "/whip")
	r, _ = f.do(t, "POST", "/live/b", offer, sdp...)
	require.Equal(t, 503, r.StatusCode)
	require.NotEmpty(t, r.Header.Get("Retry-After"))
	require.Equal(t, 1, f.Transport.Sessions())
	r, _ = f.do(t, "DELETE", at, "")
	require.Equal(t, 200, r.StatusCode)
	require.Eventually(t, func() bool {
		r, _ = f.do(t, "POST", "/live/b", offer, sdp...)
		return r.StatusCode == 201
	}, 10*time.Second, 10*time.Millisecond)
}
