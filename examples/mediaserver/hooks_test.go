package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/hooks"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// TestHooks: the flags' services decide who publishes, in the place of the rule
// that only this machine may, and hear of the end before the program ends.
func TestHooks(t *testing.T) {
	var mu sync.Mutex
	var actions []string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Action, Stream string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		mu.Lock()
		actions = append(actions, body.Action)
		mu.Unlock()
		code := "0"
		if body.Stream == "bad" {
			code = "1"
		}
		_, _ = io.WriteString(w, code)
	}))
	defer service.Close()
	o, err := parse([]string{"-hook-url", "on_publish=" + service.URL, "-hook-url", "on_unpublish=" + service.URL, "-record-dir", "rec"})
	require.NoError(t, err)
	require.True(t, o.hooks.decidesPublish())
	hub := &stream.Hub{}
	a, stop := o.hooks.start(o, hub, allow{hooks: true}, nil)
	require.Equal(t, "rec/a.mp4", a.(*hooks.Callbacks).File("a", "a.mp4"))
	r := &auth.Request{Action: auth.Publish, Protocol: "rtmp", Session: "s", Remote: netip.MustParseAddrPort("192.0.2.1:5"), Stream: "live/bad", App: "live", Name: "bad"}
	_, err = a.Authorize(t.Context(), r)
	require.ErrorIs(t, err, auth.ErrDenied)
	r.Stream, r.Name = "live/good", "good"
	_, err = a.Authorize(t.Context(), r)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // Run listens by then
		hub.OpenSession(stream.SessionInfo{ID: "s", Role: stream.RolePublish, Stream: r.Stream}, nil).Close(nil)
		mu.Lock()
		defer mu.Unlock()
		return len(actions) > 2
	}, 20*time.Second, 10*time.Millisecond)
	stop()
	require.Equal(t, "on_unpublish", actions[len(actions)-1])

	for _, bad := range []string{"on_x=http://h/", "on_play=h"} {
		_, err := parse([]string{"-hook-url", bad})
		require.Error(t, err)
	}
	o, err = parse(nil)
	require.NoError(t, err)
	a, stop = o.hooks.start(o, hub, allow{}, nil)
	stop()
	require.Equal(t, allow{}, a)
}
