package mediaapi

import (
	"bufio"
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/tokens"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// serve serves h in memory.
func serve(t *testing.T, h http.Handler) (*http.Server, *http.Client) {
	t.Helper()
	var n streamtest.Net
	l, err := n.Listen("localhost:80")
	require.NoError(t, err)
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { _ = srv.Serve(l); close(done) }()
	client := n.HTTPClient()
	t.Cleanup(func() {
		client.CloseIdleConnections()
		_ = srv.Close()
		_ = n.Close()
		<-done
	})
	return srv, client
}

// next reads one event.
func next(t *testing.T, r *bufio.Reader) (kind string, data map[string]any) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		line = strings.TrimSuffix(line, "\n")
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			kind = v
		} else if v, ok := strings.CutPrefix(line, "data: "); ok {
			require.NoError(t, json.Unmarshal([]byte(v), &data))
		} else if line == "" && kind != "" {
			document(t).Schema(t, "Event", data)
			return kind, data
		}
	}
}

// TestEvents follows a stream of the embedded clip from its start to its end.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &stream.Hub{}
		defer hub.Close()
		h := newHandler(hub)
		h.MaxEvents = 2
		srv, client := serve(t, h)
		srv.RegisterOnShutdown(func() { _ = h.Close() })

		all, err := client.Get("http://localhost/api/v2/events")
		require.NoError(t, err)
		require.Equal(t, "text/event-stream", all.Header.Get("Content-Type"))
		some, err := client.Get("http://localhost/api/v2/events?stream=live/x%22&type=session_opened,stream_ended")
		require.NoError(t, err)
		third, err := client.Get("http://localhost/api/v2/events")
		require.NoError(t, err)
		require.Equal(t, 503, third.StatusCode)
		third.Body.Close()

		require.NoError(t, (&streamtest.Source{Duration: 2 * time.Second}).Run(t.Context(), hub, "live/cam"))
		s, _ := open(hub, stream.RolePlay, "hls", "live/cam", "<b>\nevent: forged\n\n", "192.0.2.1:5")
		s.Close(stream.ErrSlow)

		r := bufio.NewReader(all.Body)
		var kinds []string
		for {
			kind, data := next(t, r)
			require.Equal(t, "live/cam", data["stream"])
			kinds = append(kinds, kind)
			switch kind {
			case "tracks_changed":
				require.Len(t, data["tracks"], 2)
			case "stream_ended":
				require.InDelta(t, 2, data["stats"].(map[string]any)["duration"], 0.1)
			}
			if kind == "session_closed" {
				require.Equal(t, "slow", data["reason"])
				require.Equal(t, "<b>\nevent: forged\n\n", data["session"].(map[string]any)["user"])
				break
			}
		}
		require.Equal(t, []string{"stream_started", "tracks_changed", "stream_ended", "session_opened", "session_closed"}, kinds)

		// A ping keeps the connection known to be alive.
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, ": ping\n", line)

		// Shutdown does not wait for those who follow.
		began := time.Now()
		require.NoError(t, srv.Shutdown(t.Context()))
		require.Less(t, time.Since(began), time.Minute)
		all.Body.Close()
		some.Body.Close()
	})
}

// TestEventsFilter: only what is asked for arrives.
func TestEventsFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &stream.Hub{}
		defer hub.Close()
		_, client := serve(t, newHandler(hub))
		resp, err := client.Get("http://localhost/api/v2/events?stream=live/b&type=session_opened")
		require.NoError(t, err)
		defer resp.Body.Close()
		for _, name := range []string{"live/a", "live/b"} {
			s, _ := open(hub, stream.RolePlay, "hls", name, "", "192.0.2.1:5")
			s.Close(nil)
		}
		kind, data := next(t, bufio.NewReader(resp.Body))
		require.Equal(t, "session_opened", kind)
		require.Equal(t, "live/b", data["stream"])
		refused(t, ask(newHandler(hub), "GET", "/api/v2/events?type=bogus", ""), 400)
	})
}

// TestEventsEnd: a follower whose right ends is ended, and a follower that goes
// leaves nothing behind.
func TestEventsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &stream.Hub{}
		defer hub.Close()
		h := &Handler{Hub: hub, Gate: &access.Gate{Log: slog.New(slog.DiscardHandler), Auth: auth.Func(func(context.Context, *auth.Request) (*auth.Grant, error) {
			return &auth.Grant{User: "ann", Expires: time.Now().Add(time.Minute)}, nil
		})}}
		_, client := serve(t, h)
		began := time.Now()
		resp, err := client.Get("http://localhost/api/v2/events")
		require.NoError(t, err)
		r := bufio.NewReader(resp.Body)
		for err == nil {
			_, err = r.ReadString('\n')
		}
		require.Equal(t, time.Minute, time.Since(began))
		resp.Body.Close()

		resp, err = client.Get("http://localhost/api/v2/events")
		require.NoError(t, err)
		resp.Body.Close()
		time.Sleep(30 * time.Second) // the next ping finds out
		require.Zero(t, h.following.Load())
	})
}

// TestEventSources: what happens elsewhere arrives in the same stream.
func TestEventSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &stream.Hub{}
		defer hub.Close()
		h := newHandler(hub)
		elsewhere := make(chan string)
		h.Events = []EventSource{{Kinds: []string{"turn_created", "turn_ended"}, Listen: func(ctx context.Context) iter.Seq2[string, any] {
			return func(yield func(string, any) bool) {
				for {
					select {
					case kind := <-elsewhere:
						if !yield(kind, map[string]string{"reason": "error"}) {
							return
						}
					case <-ctx.Done():
						return
					}
				}
			}
		}}}
		_, client := serve(t, h)
		resp, err := client.Get("http://localhost/api/v2/events?type=turn_ended,stream_declared")
		require.NoError(t, err)
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		elsewhere <- "turn_created"
		elsewhere <- "turn_ended"
		kind, _ := next(t, r)
		require.Equal(t, "turn_ended", kind)
		require.NoError(t, hub.Declare("live/a", &stream.Declaration{Title: "a"}))
		kind, data := next(t, r)
		require.Equal(t, "stream_declared", kind)
		require.Equal(t, "a", data["title"])
		refused(t, ask(newHandler(hub), "GET", "/api/v2/events?type=turn_ended", ""), 400)
	})
}

// TestEventsRevoked: a follower whose token is revoked is ended soon.
func TestEventsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &stream.Hub{}
		defer hub.Close()
		store := &tokens.Store{}
		_, _, err := store.Add("bob", access.Admin, time.Time{})
		require.NoError(t, err)
		ann, secret, err := store.Add("ann", access.Viewer, time.Time{})
		require.NoError(t, err)
		_, client := serve(t, &Handler{Hub: hub, Gate: &access.Gate{Auth: store, Insecure: true, Log: slog.New(slog.DiscardHandler)}})
		req, err := http.NewRequest("GET", "http://localhost/api/v2/events", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+secret)
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		r := bufio.NewReader(resp.Body)
		time.Sleep(time.Minute) // it follows on
		began := time.Now()
		_, err = store.Revoke(func(i tokens.Info) bool { return i.ID == ann.ID })
		require.NoError(t, err)
		for err == nil {
			_, err = r.ReadString('\n')
		}
		require.LessOrEqual(t, time.Since(began), 15*time.Second)
		resp.Body.Close()
	})
}

// TestEventsOfMedia: stored segments and sound that is missing are told too.
func TestEventsOfMedia(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	_, client := serve(t, newHandler(hub))
	r, err := client.Get("http://localhost/api/v2/events?type=segment_stored,sound_missing")
	require.NoError(t, err)
	defer r.Body.Close()
	lines := bufio.NewReader(r.Body)
	_, err = lines.ReadString('\n')
	require.NoError(t, err)
	hub.ReportSegment(stream.SegmentStored{Time: time.Now(), Stream: "live/cam", Name: "live/cam/v0.m4s", Playlist: "live/cam/video.m3u8", Duration: 2 * time.Second})
	hub.ReportSoundMissing(stream.SoundMissing{Stream: "live/cam", Codec: stream.AAC, Wanted: stream.Opus})
	kind, data := next(t, lines)
	require.Equal(t, "segment_stored", kind)
	require.Equal(t, []any{"live/cam", "live/cam/v0.m4s", "live/cam/video.m3u8", 0., 2.},
		[]any{data["stream"], data["file"], data["playlist"], data["sequence"], data["duration"]})
	kind, data = next(t, lines)
	require.Equal(t, "sound_missing", kind)
	require.Equal(t, []any{stream.AAC.String(), stream.Opus.String()}, []any{data["codec"], data["wanted"]})
}
