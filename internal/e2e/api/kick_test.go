package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api"
	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/turnapi"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/turn"
)

// process runs a peer that is a program.
func process(start func(t *testing.T, m *mediaserver) *peer.Process) func(*testing.T, *mediaserver) func() bool {
	return func(t *testing.T, m *mediaserver) func() bool {
		p := start(t, m)
		return func() bool { return !p.Running() }
	}
}

// download reads a URL until it ends.
func download(name string) func(*testing.T, *mediaserver) func() bool {
	return func(t *testing.T, m *mediaserver) func() bool {
		r, err := http.Get("http://" + m.http + "/live/demo." + name)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, r.StatusCode)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(io.Discard, r.Body)
		}()
		t.Cleanup(func() { r.Body.Close(); <-done })
		return func() bool {
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
	}
}

// reload asks for a playlist or manifest, again and again, until it is refused.
func reload(name string) func(*testing.T, *mediaserver) func() bool {
	return func(t *testing.T, m *mediaserver) func() bool {
		client := &http.Client{}
		url := "http://" + m.http + "/live/demo." + name
		ask := func() (int, string) {
			req, err := http.NewRequest("GET", url, nil)
			require.NoError(t, err)
			req.Header.Set("User-Agent", "player of "+t.Name())
			r, err := client.Do(req)
			require.NoError(t, err)
			defer r.Body.Close()
			text, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			return r.StatusCode, string(text)
		}
		var text string
		peer.Eventually(t, live, url, func() bool {
			code, body := ask()
			text = body
			return code == http.StatusOK
		})
		// A master playlist leads to the one of the media, which a player reloads.
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' && strings.Contains(line, ".m3u8") {
				url = "http://" + m.http + "/live/" + line
				break
			}
		}
		peer.Eventually(t, live, url, func() bool { code, _ := ask(); return code == http.StatusOK })
		return func() bool {
			code, _ := ask()
			return code == http.StatusForbidden || code == http.StatusGone || code == http.StatusNotFound
		}
	}
}

// webrtcPeer builds the program that speaks WebRTC, a module of its own.
func webrtcPeer(t *testing.T) string {
	t.Helper()
	return lab.File(t, "webrtcpeer.exe", func(path string) {
		peer.Run(t, 5*time.Minute, "go", "build", "-C", "../webrtcpeer", "-o", path, ".")
	})
}

// overWebRTC publishes or plays by WHIP or WHEP.
func overWebRTC(path, command string, more ...string) func(*testing.T, *mediaserver) func() bool {
	return func(t *testing.T, m *mediaserver) func() bool {
		p := peer.Start(t, webrtcPeer(t), append([]string{command, "-url", "http://" + m.http + "/" + path, "-for", "10m"}, more...)...)
		peer.Eventually(t, live, "a connection", func() bool { return strings.Contains(p.Log(), "ing\n") }) // "publishing", "playing"
		return func() bool { return !p.Running() || strings.Contains(p.Log(), "webrtcpeer: connection") }
	}
}

// overWebSocket plays by WebSocket.
func overWebSocket(t *testing.T, m *mediaserver) func() bool {
	c, _, err := websocket.Dial(t.Context(), "ws://"+m.http+"/live/demo.flv", nil)
	require.NoError(t, err)
	c.SetReadLimit(-1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, _, err := c.Read(context.Background()); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = c.CloseNow(); <-done })
	return func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

// TestKick ends a peer of every protocol by the API: its session leaves the
// list, and the peer finds out.
func TestKick(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, "localhost")
	m := startMediaserver(t, "-webrtc", peer.FreeAddr(t), "-public-ip", "127.0.0.1", "-cert", cert, "-key", key)
	player := func(url func(*mediaserver) string) func(*testing.T, *mediaserver) func() bool {
		return process(func(t *testing.T, m *mediaserver) *peer.Process { return play(t, url(m)) })
	}
	publisher := func(format string, url func(*mediaserver) string) func(*testing.T, *mediaserver) func() bool {
		return process(func(t *testing.T, m *mediaserver) *peer.Process { return push(t, format, url(m)) })
	}
	for _, c := range []struct {
		protocol, role, stream string
		start                  func(*testing.T, *mediaserver) (ended func() bool)
	}{
		{"rtmp", "play", "live/demo", player(func(m *mediaserver) string { return "rtmp://" + m.rtmp + "/live/demo" })},
		{"rtmp", "publish", "live/a", publisher("flv", func(m *mediaserver) string { return "rtmp://" + m.rtmp + "/live/a" })},
		{"srt", "play", "live/demo", player(func(m *mediaserver) string { return "srt://" + m.srt + "?streamid=#!::r=live/demo,m=request" })},
		{"srt", "publish", "live/b", publisher("mpegts", func(m *mediaserver) string { return "srt://" + m.srt + "?streamid=#!::r=live/b,m=publish" })},
		{"rtmps", "play", "live/demo", player(func(m *mediaserver) string { return "rtmps://" + m.rtmps + "/live/demo" })},
		{"rtmps", "publish", "live/e", publisher("flv", func(m *mediaserver) string { return "rtmps://" + m.rtmps + "/live/e" })},
		{"whip", "publish", "live/f", overWebRTC("whip/live/f", "publish")},
		{"whep", "play", "live/demo", overWebRTC("whep/live/demo", "view", "-settle", "0s")},
		{"http-flv", "play", "live/demo", download("flv")},
		{"http-flv", "publish", "live/c", publisher("flv", func(m *mediaserver) string { return "http://" + m.http + "/live/c.flv" })},
		{"http-ts", "play", "live/demo", download("ts")},
		{"http-ts", "publish", "live/d", publisher("mpegts", func(m *mediaserver) string { return "http://" + m.http + "/live/d.ts" })},
		{"http-mp4", "play", "live/demo", download("mp4")},
		{"http-aac", "play", "live/demo", download("aac")},
		{"ws-flv", "play", "live/demo", overWebSocket},
		{"hls", "play", "live/demo", reload("m3u8")},
		{"dash", "play", "live/demo", reload("mpd")},
	} {
		t.Run(c.protocol+" "+c.role, func(t *testing.T) {
			t.Parallel()
			ended := c.start(t, m)
			var list struct{ Sessions []struct{ ID string } }
			query := fmt.Sprintf("/api/v2/sessions?protocol=%s&role=%s&stream=%s", c.protocol, c.role, c.stream)
			peer.Eventually(t, live, "its session", func() bool {
				require.Equal(t, 200, m.call(t, "GET", query, "", &list))
				return len(list.Sessions) == 1
			})
			require.False(t, ended())
			id := "/api/v2/sessions/" + list.Sessions[0].ID
			require.Equal(t, 204, m.call(t, "DELETE", id, "", nil))
			peer.Eventually(t, live, "the end of the session", func() bool { return m.call(t, "GET", id, "", nil) == 404 })
			peer.Eventually(t, live, "the end of the peer", ended)
		})
	}
}

// TestKickTURN ends an allocation by the API that is joined with the media's.
func TestKickTURN(t *testing.T) {
	t.Parallel()
	users := &turnauth.Users{}
	require.NoError(t, users.Put(turnauth.User{Name: "ann", Password: "password"}))
	s := &turn.Server{Realm: "example.org", Auth: users}
	l := peer.Listen(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	defer func() { s.Close(); <-served }()
	web := httptest.NewServer(&api.Handler{TURN: &turnapi.Handler{Server: s, Gate: &access.Gate{Auth: auth.AllowAll, Insecure: true}}})
	defer web.Close()
	m := &mediaserver{http: strings.TrimPrefix(web.URL, "http://"), token: "any of 16 letters"}

	p, err := (&turn.Client{Server: l.Addr().String(), Transport: "tcp", Username: "ann", Password: "password"}).Allocate(t.Context(), nil)
	require.NoError(t, err)
	defer p.Close()
	var list struct{ Sessions []turn.AllocationInfo }
	require.Equal(t, 200, m.call(t, "GET", "/api/v2/turn/sessions?user=ann", "", &list))
	require.Len(t, list.Sessions, 1)
	id := fmt.Sprintf("/api/v2/turn/sessions/%d", list.Sessions[0].ID)
	require.Equal(t, 204, m.call(t, "DELETE", id, "", nil))
	require.Equal(t, 404, m.call(t, "GET", id, "", nil))
	require.Error(t, p.Permit(t.Context(), list.Sessions[0].Relayed[0].Addr()))
}
