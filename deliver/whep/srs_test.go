package whep

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// send sends a request to the server at base.
func send(t *testing.T, method, url, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	a, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	require.NoError(t, err)
	return a, string(b)
}

func TestSRS(t *testing.T) {
	f := start(t)
	f.publish(t, "v/live/a", vp8, opus)
	web := httptest.NewServer(&SRS{Handler: f.Handler, VHost: func(host, named string) string {
		if host == "v.example" {
			return "v"
		}
		return named
	}})
	defer web.Close()
	for path, want := range map[string]int{
		"/rtc/v1/whep/?app=live&stream=a&vhost=v":                      401,
		"/rtc/v1/whep/?app=live&stream=a&token=sesame":                 404, // it is another virtual host's
		"/rtc/v1/whep/?app=live&stream=a&vhost=v&token=x":              403,
		"/rtc/v1/whep/?app=live&stream=a&vhost=v&token=sesame":         201,
		"/rtc/v1/whip-play/?app=live&stream=a&vhost=v&token=sesame":    201,
		"/rtc/v1/whip/?app=live&stream=a&vhost=v&token=sesame":         201,
		"/rtc/v1/whep/other/?app=live&stream=a&vhost=v&token=sesame":   404,
		"/rtc/v1/whip-play/?app=live&stream=&vhost=v&token=sesame":     404,
		"/rtc/v1/whip-play/?app=live&stream=a%2F..&vhost=v&token=sesa": 404,
	} {
		r, body := send(t, "POST", web.URL+path, offer)
		require.Equal(t, want, r.StatusCode, "%s: %s", path, body)
		if want != 201 {
			continue
		}
		at := r.Header.Get("Location")
		require.NotContains(t, at, "/rtc/v1/whip/", "that is the publishers'")
		before := f.Transport.Sessions()
		r, _ = send(t, "DELETE", web.URL+at, "")
		require.Equal(t, 200, r.StatusCode)
		require.Equal(t, before-1, f.Transport.Sessions())
	}
	body, err := json.Marshal(map[string]string{"streamurl": "webrtc://v.example:1985/live/a?token=sesame", "clientip": "192.0.2.9", "sdp": offer})
	require.NoError(t, err)
	r, text := send(t, "POST", web.URL+"/rtc/v1/play/", string(body))
	require.Equal(t, 200, r.StatusCode)
	var a struct {
		Code           int
		SDP, SessionID string
	}
	require.NoError(t, json.Unmarshal([]byte(text), &a))
	require.Zero(t, a.Code, text)
	require.Contains(t, a.SDP, "a=sendonly")
	require.Equal(t, 1, f.Transport.Sessions())
}

// Who wants to be told how many viewers there are is told, until its session ends.
func TestViewerCount(t *testing.T) {
	f := start(t)
	f.publish(t, "live/a", vp8, opus)
	f.publish(t, "live/b", vp8, opus)
	r, answer := f.post(t, "/live/a?token=sesame", offer)
	require.Equal(t, 201, r.StatusCode, answer)
	at := regexp.MustCompile(`<(.*)>; rel="urn:ietf:params:whep:ext:core:server-sent-events"; events="layers,viewercount"`).FindStringSubmatch(r.Header.Get("Link"))
	require.NotNil(t, at, r.Header.Get("Link"))
	url := strings.TrimSuffix(f.url, "/whep") + at[1]
	resource := strings.TrimSuffix(f.url, "/whep") + r.Header.Get("Location")

	for body, want := range map[string]int{`["scte35"]`: 422, `{}`: 400, strings.Repeat(" ", 5000): 400} {
		r, _ = send(t, "POST", url, body)
		require.Equal(t, want, r.StatusCode, body)
	}
	r, _ = send(t, "POST", url, `["viewercount","active"]`)
	require.Equal(t, 201, r.StatusCode)
	require.Equal(t, at[1], r.Header.Get("Location"))
	r, _ = send(t, "PATCH", url, "")
	require.Equal(t, 405, r.StatusCode)
	r, _ = send(t, "GET", strings.Replace(url, "/_session/", "/_session/x", 1), "")
	require.Equal(t, 404, r.StatusCode)

	q, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	require.NoError(t, err)
	events, err := http.DefaultClient.Do(q)
	require.NoError(t, err)
	defer events.Body.Close()
	require.Equal(t, "text/event-stream", events.Header.Get("Content-Type"))
	lines := bufio.NewScanner(events.Body)
	next := func() string {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return data
			}
		}
		return "the end"
	}
	require.Equal(t, `{"viewercount":1}`, next())
	f.post(t, "/live/b?token=sesame", offer)
	f.post(t, "/live/a?token=sesame", offer)
	require.Equal(t, `{"viewercount":2}`, next())
	r, _ = send(t, "DELETE", resource, "")
	require.Equal(t, 200, r.StatusCode)
	require.Equal(t, "the end", next())
	require.Eventually(t, func() bool { return f.Transport.Sessions() == 2 }, 10*time.Second, time.Millisecond)
}
