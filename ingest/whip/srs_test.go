package whip

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// srs serves a fixture's Handler as SRS has it.
func (f *fixture) srs(t *testing.T, s *SRS) (base string) {
	t.Helper()
	s.Handler = f.Handler
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	return web.URL
}

func TestSRSQuery(t *testing.T) {
	f := start(t)
	f.Transport.Setup = time.Minute
	base := f.srs(t, &SRS{VHost: func(host, named string) string { return strings.TrimPrefix(host, "127.0.0.1") + named }})
	for name, c := range map[string]struct {
		method, path, body string
		want               int
	}{
		"no token":   {"POST", "/rtc/v1/whip/?app=live&stream=a", offer, 401},
		"no stream":  {"POST", "/rtc/v1/whip/?app=live&token=sesame", offer, 404},
		"bad name":   {"POST", "/rtc/v1/whip/?app=live&stream=../a&token=sesame", offer, 404},
		"not SDP":    {"POST", "/rtc/v1/whip/?app=live&stream=a&token=sesame", "{}", 400},
		"empty":      {"POST", "/rtc/v1/whip/?app=live&stream=a&token=sesame", "", 400},
		"long":       {"POST", "/rtc/v1/whip/?app=live&stream=a&token=sesame", strings.Repeat("a=x\r\n", 20_000), 413},
		"delete":     {"DELETE", "/rtc/v1/whip/?action=delete&app=live&stream=a", "", 404},
		"guess":      {"DELETE", "/rtc/v1/whip/?action=delete&token=x", "", 404},
		"GET":        {"GET", "/rtc/v1/whip/?app=live&stream=a", "", 405},
		"no players": {"POST", "/rtc/v1/whip/?app=live&stream=a&action=play", offer, 404},
		"elsewhere":  {"POST", "/rtc/v1/nack/", "", 404},
		"preflight":  {"OPTIONS", "/rtc/v1/whip/", "", 204},
	} {
		r, body := f.do(t, c.method, base+c.path, c.body)
		require.Equal(t, c.want, r.StatusCode, "%s: %s", name, body)
	}
	require.Zero(t, f.Transport.Sessions())

	// Its clients say neither what the body is nor who they are, but in the query.
	r, answer := f.do(t, "POST", base+"/rtc/v1/whip/?app=live&stream=a&token=sesame&vhost=v", offer)
	require.Equal(t, 201, r.StatusCode, answer)
	require.Contains(t, answer, "a=setup:passive")
	require.NotNil(t, f.hub.Stream("v/live/a"))
	at, err := url.Parse(r.Header.Get("Location"))
	require.NoError(t, err)
	require.Equal(t, "/rtc/v1/whip/", at.Path)
	q := at.Query()
	require.Equal(t, []string{"delete", "live", "a"}, []string{q.Get("action"), q.Get("app"), q.Get("stream")})
	require.GreaterOrEqual(t, len(q.Get("token")), 32)
	require.NotEqual(t, "sesame", q.Get("token"))
	r, _ = f.do(t, "DELETE", base+at.String(), "")
	require.Equal(t, 200, r.StatusCode)
	require.Eventually(t, func() bool { return f.hub.Stream("v/live/a") == nil }, 10*time.Second, time.Millisecond)
}

func TestSRSJSON(t *testing.T) {
	f := start(t)
	f.Transport.Setup = time.Minute
	base := f.srs(t, &SRS{ServerID: "vid-1"})
	type answer struct {
		Code                         int
		Error, Server, SDP, PID      string
		SessionID                    string
		Simulator, Service, ClientIP string
	}
	post := func(body string) (a answer) {
		r, text := f.do(t, "POST", base+"/rtc/v1/publish/", body)
		require.Equal(t, 200, r.StatusCode)
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		require.NoError(t, json.Unmarshal([]byte(text), &a), text)
		require.Equal(t, "vid-1", a.Server)
		require.Equal(t, a.Code == 0, a.SDP != "")
		require.Equal(t, a.Code != 0, a.Error != "")
		return a
	}
	body := func(at, sdp string) string {
		b, err := json.Marshal(map[string]string{"api": "http://x/rtc/v1/publish/", "streamurl": at, "clientip": "192.0.2.9", "tid": "1", "sdp": sdp})
		require.NoError(t, err)
		return string(b)
	}
	for name, c := range map[string]struct {
		body string
		want int
	}{
		"not JSON":     {"v=0", 400},
		"list":         {"[]", 400},
		"no SDP":       {body("webrtc://h/live/a?token=sesame", ""), 400},
		"bad SDP":      {body("webrtc://h/live/a?token=sesame", "hello"), 400},
		"no URL":       {body("", offer), 400},
		"bad URL":      {body("webrtc://h:x/live/a", offer), 400},
		"no name":      {body("webrtc://h/live/?token=sesame", offer), 404},
		"no token":     {body("webrtc://h/live/a", offer), 401},
		"wrong token":  {body("webrtc://h/live/a?token=x", offer), 403},
		"without host": {body("/live/a?token=sesame", offer), 400},
		"long":         {body("webrtc://h/live/a?token=sesame", strings.Repeat("a=x\r\n", 30_000)), 413},
	} {
		require.Equal(t, c.want, post(c.body).Code, name)
	}
	require.Zero(t, f.Transport.Sessions())

	a := post(body("webrtc://h/live/a?token=sesame", offer))
	require.Zero(t, a.Code, a.Error)
	require.Contains(t, a.SDP, "a=setup:passive")
	require.GreaterOrEqual(t, len(a.SessionID), 32)
	for s := range f.hub.Sessions() {
		require.Equal(t, "127.0.0.1", s.Info().Remote.Addr().String(), "clientip is not believed")
	}
	require.Equal(t, http.StatusConflict, post(body("webrtc://h/live/a?token=sesame", offer)).Code)
	r, _ := f.do(t, "DELETE", base+"/rtc/v1/publish/?token="+a.SessionID, "")
	require.Equal(t, 200, r.StatusCode)
	require.Eventually(t, func() bool { return f.hub.Stream("live/a") == nil }, 10*time.Second, time.Millisecond)
}
