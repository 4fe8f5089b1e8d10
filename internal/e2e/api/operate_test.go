package api

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// TestDeclare: with -declared-only a stream is published with the key that its
// declaration has, and by nothing else; a restart keeps that.
func TestDeclare(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffmpeg")
	flags := []string{"-demo=false", "-declared-only", "-api-state", filepath.Join(t.TempDir(), "state")}
	m := startMediaserver(t, flags...)
	publish := func(name string) *peer.Process { return push(t, "flv", "rtmp://"+m.rtmp+"/live/"+name) }

	require.Error(t, publish("cam").Wait(t, live), "it is not declared")
	var made struct {
		Key string `json:"publish_key"`
	}
	require.Equal(t, 201, m.call(t, "POST", "/api/v2/streams", `{"name": "live/cam", "title": "The camera", "new_publish_key": true}`, &made))
	require.NotEmpty(t, made.Key)
	require.Error(t, publish("cam").Wait(t, live))
	require.Error(t, publish("cam?token=wrong").Wait(t, live))

	require.NoError(t, m.Stop(t, live))
	m = startMediaserver(t, flags...)
	p := publish("cam?token=" + made.Key)
	var s struct {
		Live        bool
		Title       string
		Declaration struct {
			HasKey bool `json:"has_publish_key"`
		}
	}
	peer.Eventually(t, live, "the stream", func() bool {
		require.Equal(t, 200, m.call(t, "GET", "/api/v2/streams/live/cam", "", &s))
		return s.Live
	})
	require.Equal(t, "The camera", s.Title)
	require.True(t, s.Declaration.HasKey)
	require.Equal(t, 204, m.call(t, "DELETE", "/api/v2/streams/live/cam", "", nil))
	peer.Eventually(t, live, "the publisher's end", func() bool { return !p.Running() })
	require.Error(t, publish("cam?token="+made.Key).Wait(t, live), "the key went with the declaration")
	require.Equal(t, 404, m.call(t, "GET", "/api/v2/streams/live/cam", "", nil))

	require.Equal(t, 200, m.call(t, "PATCH", "/api/v2/config", `{"declared_only": false}`, nil))
	publish("cam")
	peer.Eventually(t, live, "the stream", func() bool { return m.call(t, "GET", "/api/v2/streams/live/cam", "", nil) == 200 })
}

// TestTokens: the first token closes the API to all who have none, also after a
// restart.
func TestTokens(t *testing.T) {
	t.Parallel()
	flags := []string{"-demo=false", "-api-state", filepath.Join(t.TempDir(), "state")}
	m := startMediaserver(t, flags...)
	var admin, viewer struct{ ID, Secret string }
	require.Equal(t, 201, m.call(t, "POST", "/api/v2/tokens", `{"user": "ann", "role": "admin"}`, &admin))
	require.GreaterOrEqual(t, len(admin.Secret), access.MinSecret)
	require.Equal(t, 401, m.call(t, "GET", "/api/v2/streams", "", nil))
	m.token = admin.Secret
	require.Equal(t, 201, m.call(t, "POST", "/api/v2/tokens", `{"user": "bob", "role": "viewer"}`, &viewer))

	require.NoError(t, m.Stop(t, live))
	m = startMediaserver(t, flags...)
	require.Equal(t, 401, m.call(t, "GET", "/api/v2/streams", "", nil))
	m.token = viewer.Secret
	require.Equal(t, 200, m.call(t, "GET", "/api/v2/streams", "", nil))
	require.Equal(t, 403, m.call(t, "GET", "/api/v2/tokens", "", nil))
	m.token = admin.Secret
	require.Equal(t, 204, m.call(t, "DELETE", "/api/v2/tokens/"+viewer.ID, "", nil))
	m.token = viewer.Secret
	require.Equal(t, 401, m.call(t, "GET", "/api/v2/streams", "", nil))
	require.NotContains(t, m.Log(), admin.Secret)
	require.NotContains(t, m.Log(), viewer.Secret)
}

// TestRefusesToStart: tokens are not to be sent in the clear by mistake.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	exe := program(t, "mediaserver")
	_, log, err := peer.Try(t, live, exe, "-rtmp", "", "-srt", "", "-webrtc", "", "-http", "0.0.0.0:0", "-api-token", "0123456789abcdef")
	require.Error(t, err)
	require.Contains(t, log, "-api-insecure")
}

// TestRecordings: recording starts and stops by the API, a clip is made of what
// is live, and what came of it can be played where the API says.
func TestRecordings(t *testing.T) {
	t.Parallel()
	m := startMediaserver(t, "-record", "none/*", "-record-dir", t.TempDir())
	type recording struct {
		Name     string
		Duration float64
		PlayURL  string `json:"play_url"`
	}
	var list struct{ Recordings []recording }
	require.Equal(t, 200, m.call(t, "GET", "/api/v2/recordings", "", &list))
	require.Empty(t, list.Recordings)
	const at = "/api/v2/recorders/live/demo"
	require.Equal(t, 200, m.call(t, "PUT", at, `{"recording": true}`, nil))
	files := 1 // the recording, and each of the clips
	peer.Eventually(t, live, "a second of clip", func() bool {
		var clip recording
		if m.call(t, "POST", "/api/v2/clips", `{"stream": "live/demo", "last": 1}`, &clip) != 201 {
			return false
		}
		files++
		return clip.Duration >= 1
	})
	var now struct{ Recording bool }
	require.Equal(t, 200, m.call(t, "GET", at, "", &now))
	require.True(t, now.Recording)
	require.Equal(t, 200, m.call(t, "PUT", at, `{"recording": false}`, nil))
	peer.Eventually(t, live, "all files", func() bool {
		require.Equal(t, 200, m.call(t, "GET", "/api/v2/recordings?stream=live/demo&limit=1000", "", &list))
		return len(list.Recordings) == files
	})
	for _, r := range list.Recordings {
		require.Equal(t, 200, m.call(t, "GET", "/api/v2/recordings/"+r.Name, "", &r))
		resp, err := http.Get("http://" + m.http + r.PlayURL)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode, r.PlayURL)
		require.Equal(t, "video/mp4", resp.Header.Get("Content-Type"))
		require.Equal(t, 204, m.call(t, "DELETE", "/api/v2/recordings/"+r.Name+"?reason=test", "", nil))
	}
	require.Equal(t, 200, m.call(t, "GET", "/api/v2/recordings?stream=live/demo", "", &list))
	require.Empty(t, list.Recordings)
}
