package deliver

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestRefusals(t *testing.T) {
	denied := auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		switch {
		case r.Token == "good", r.User == "me" && r.Password == "secret":
			return nil, nil
		case r.Token == "elsewhere":
			return nil, &auth.Redirect{Location: "https://other.example/live/x.flv"}
		case r.Token == "broken":
			return nil, errors.New("the database is away: password=hunter2")
		}
		return nil, auth.ErrDenied
	})
	hub := &stream.Hub{}
	defer hub.Close()
	publish(t, hub, "live/x", &streamtest.Pattern{}).write(100)
	publish(t, hub, "a/b/c/x", &streamtest.Pattern{}).write(100)
	publish(t, hub, "v.example/live/x", &streamtest.Pattern{}).write(100)
	publish(t, hub, "live/vp8", &streamtest.Pattern{Video: stream.VP8, NoAudio: true}).write(100)
	publish(t, hub, "live/vp8aac", &streamtest.Pattern{Video: stream.VP8}).write(100)
	empty, err := hub.Publish(t.Context(), "live/empty", nil)
	require.NoError(t, err)
	defer empty.Close()

	const ok = http.StatusOK
	for _, tt := range []struct {
		method, path string
		header       string
		status       int
	}{
		{"GET", "/live/x.flv?token=good", "", ok},
		{"HEAD", "/live/x.flv?token=good", "", ok},
		{"GET", "/live/x.mp4?token=good", "", ok},
		{"GET", "/live/x.flv", "Authorization: Bearer good", ok},
		{"GET", "/live/x.flv", "Authorization: bearer  good", ok},
		{"GET", "/live/x.flv", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("me:secret")), ok},
		{"GET", "/a/b/c/x.flv?token=good", "", ok},
		{"GET", "/live/x.flv?token=good&vhost=v.example", "", ok},
		{"GET", "/live/x.flv?token=good&vhost=__defaultVhost__", "", ok},
		{"GET", "/live/empty.flv?token=good", "", ok}, // it may yet turn out to be playable
		{"GET", "/live%2Fx.flv?token=good", "", ok},
		{"GET", "/live/vp8aac.mp4?token=good", "", ok}, // without the picture

		{"GET", "/live/x.flv", "", 401},
		{"HEAD", "/live/x.flv", "", 401},
		{"GET", "/live/x.flv?token=bad", "", 403},
		{"GET", "/live/x.flv", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("me:guess")), 403},
		{"GET", "/live/nothing.flv", "", 401}, // strangers do not learn what there is
		{"GET", "/live/nothing.flv?token=good", "", 404},
		{"GET", "/live/x.flv?token=good&vhost=other.example", "", 404},
		{"HEAD", "/live/nothing.flv?token=good", "", 404},
		{"GET", "/live/vp8.mp4?token=good", "", 415},
		{"HEAD", "/live/vp8.mp4?token=good", "", 415},
		{"GET", "/live/x.flv?token=elsewhere", "", 302},
		{"GET", "/live/x.flv?token=broken", "", 503},

		{"GET", "/live/x.ogg?token=good", "", 404},
		{"GET", "/live/x?token=good", "", 404},
		{"GET", "/?token=good", "", 404},
		{"POST", "/live/x.flv?token=good", "", 405},
		{"DELETE", "/live/x.flv?token=good", "", 405},
		{"OPTIONS", "/live/x.flv", "", 204},

		{"GET", "/.flv?token=good", "", 400},
		{"GET", "/live/.flv?token=good", "", 400},
		{"GET", "/live/../x.flv?token=good", "", 400},
		{"GET", "/live/%2e%2e/x.flv?token=good", "", 400},
		{"GET", "/live/..%2fx.flv?token=good", "", 400},
		{"GET", "/live/%252e%252e/x.flv?token=good", "", 400},
		{"GET", "/live//x.flv?token=good", "", 400},
		{"GET", "//live/x.flv?token=good", "", 400},
		{"GET", "/live/x%00.flv?token=good", "", 400},
		{"GET", "/live/a%0ab.flv?token=good", "", 400},
		{"GET", "/live/a%5cb.flv?token=good", "", 400},
		{"GET", "/live/%ff.flv?token=good", "", 400},
		{"GET", "/live/_hls.flv?token=good", "", 400},
		{"GET", "/live/x.flv?token=good&vhost=../etc", "", 400},
		{"GET", "/live/" + strings.Repeat("x", 300) + ".flv?token=good", "", 400},
	} {
		t.Run(tt.method+tt.path, func(t *testing.T) {
			var logged strings.Builder
			s := &Server{Hub: hub, Auth: denied, Log: slog.New(slog.NewTextHandler(&logged, nil))}
			ctx, cancel := context.WithCancel(t.Context())
			r := httptest.NewRequestWithContext(ctx, tt.method, "http://host/", nil)
			r.RequestURI = tt.path
			var err error
			r.URL, err = url.ParseRequestURI(tt.path) // as net/http does
			require.NoError(t, err)
			if k, v, found := strings.Cut(tt.header, ": "); found {
				r.Header.Set(k, v)
			}
			w := leavingRecorder{httptest.NewRecorder(), cancel}
			if strings.Contains(tt.path, "empty") {
				time.AfterFunc(50*time.Millisecond, cancel)
			}
			s.ServeHTTP(w, r)
			require.Equal(t, tt.status, w.Code)
			require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
			require.NotContains(t, w.Body.String(), "hunter2", "peers do not see foreign errors")
			require.Equal(t, tt.status == 503, strings.Contains(logged.String(), "hunter2"), logged.String())
			require.Equal(t, tt.status == 401, w.Header().Get("WWW-Authenticate") != "")
			switch {
			case tt.status == 302:
				require.Equal(t, "https://other.example/live/x.flv", w.Header().Get("Location"))
			case tt.status == ok:
				require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
				require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
				require.Equal(t, tt.method == "HEAD" || strings.Contains(tt.path, "empty"), w.Body.Len() == 0)
			}
		})
	}
}

// leavingRecorder is a client that leaves when it has got something.
type leavingRecorder struct {
	*httptest.ResponseRecorder
	leave func()
}

func (w leavingRecorder) Write(b []byte) (int, error) {
	defer w.leave()
	return w.ResponseRecorder.Write(b)
}

func TestNilAuth(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	publish(t, hub, "live/x", &streamtest.Pattern{})
	s := &Server{Hub: hub}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/live/x.flv?token=x", nil))
	require.Equal(t, 403, w.Code)
	require.ErrorIs(t, s.ServePlay(t.Context(), nil, &auth.Request{Stream: "live/x"}), auth.ErrDenied)
}

func TestHeaders(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	publish(t, hub, "live/x", &streamtest.Pattern{}).write(1)
	publish(t, hub, "live/a", &streamtest.Pattern{NoVideo: true}).write(1)
	publish(t, hub, "live/vp8aac", &streamtest.Pattern{Video: stream.VP8}).write(1)
	empty, err := hub.Publish(t.Context(), "live/empty", nil)
	require.NoError(t, err)
	defer empty.Close()
	head := func(s *Server, path string) http.Header {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("HEAD", path, nil))
		require.Equal(t, 200, w.Code)
		return w.Header()
	}
	s := &Server{Hub: hub, Auth: auth.AllowAll}
	for path, want := range map[string]string{
		"/live/x.flv":       "video/x-flv",
		"/live/x.mp4":       `video/mp4; codecs="avc1.4d400c,mp4a.40.2"`,
		"/live/a.mp4":       `audio/mp4; codecs="mp4a.40.2"`,
		"/live/vp8aac.mp4":  `audio/mp4; codecs="mp4a.40.2"`,
		"/live/empty.mp4":   "video/mp4",
		"/live/vp8aac.flv":  "video/x-flv",
		"/live/x.flv?foo=/": "video/x-flv",
	} {
		require.Equal(t, want, head(s, path).Get("Content-Type"), path)
	}
	require.Empty(t, ContentType(hub.Stream("live/x"), "ogg"))
	require.Equal(t, "video/x-flv", ContentType(hub.Stream("live/x"), "flv"))
	require.Equal(t, `video/mp4; codecs="avc1.4d400c,mp4a.40.2"`, ContentType(hub.Stream("live/x"), "mp4"))

	s.AllowOrigin = "https://page.example"
	h := head(s, "/live/x.flv")
	require.Equal(t, "https://page.example", h.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "Origin", h.Get("Vary"))
	s.AllowOrigin = "-"
	require.NotContains(t, head(s, "/live/x.flv"), "Access-Control-Allow-Origin")

	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("OPTIONS", "/live/x.flv", nil))
	require.Contains(t, w.Header().Get("Access-Control-Allow-Methods"), "GET")
	require.Contains(t, w.Header().Get("Access-Control-Allow-Headers"), "Authorization")
	require.Empty(t, s.feeds)
}

// The authorizer gets to know all that there is to know.
func TestRequest(t *testing.T) {
	var got *auth.Request
	s := &Server{Hub: &stream.Hub{}, Auth: auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		got = r
		return nil, auth.ErrDenied
	})}
	r := httptest.NewRequest("GET", "https://host/a/b/x.flv?vhost=v&token=t&x=1", nil)
	r.RemoteAddr = "[::ffff:10.1.2.3]:4567"
	r.Header.Set("Origin", "https://page.example")
	r.Header.Set("Referer", "https://page.example/p")
	s.ServeHTTP(httptest.NewRecorder(), r)
	require.Equal(t, auth.Play, got.Action)
	require.Equal(t, "http-flv", got.Protocol)
	require.Equal(t, "10.1.2.3:4567", got.Remote.String())
	require.Equal(t, []string{"v/a/b/x", "v", "a/b", "x"}, []string{got.Stream, got.VHost, got.App, got.Name})
	require.Equal(t, "vhost=v&token=t&x=1", got.RawQuery)
	require.Equal(t, "https://page.example/p", got.PageURL)
	require.Equal(t, "https://page.example", got.Origin)
	require.Equal(t, "t", got.Token)
	require.NotNil(t, got.TLS)
	require.Nil(t, got.Accept)
}

// A player may wait for its stream.
func TestWait(t *testing.T) {
	for _, k := range kinds {
		if !k.memory {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, k, func(_ *stream.Hub, s *Server) { s.Wait = 10 * time.Second })
				began := time.Now()
				p, err := b.play("live/never")
				if k.rtmp {
					err = <-p.done
				}
				require.Error(t, err)
				require.Equal(t, 10*time.Second, time.Since(began).Truncate(time.Second))

				var src *source
				time.AfterFunc(5*time.Second, func() {
					src = publish(t, b.hub, "live/x", &streamtest.Pattern{})
					src.write(1)
				})
				began = time.Now()
				p = b.must("")
				p.waitFrames(t, 1)
				require.Equal(t, 5*time.Second, time.Since(began).Truncate(time.Second))
			})
		})
	}
}

// A client that is gone before its stream comes is not worth a line in the log.
func TestGoneWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged strings.Builder
		s := &Server{Hub: &stream.Hub{}, Auth: auth.AllowAll, Wait: time.Hour, Log: slog.New(slog.NewTextHandler(&logged, nil))}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/live/x.flv", nil))
		require.Empty(t, logged.String())
		require.Empty(t, s.players)
	})
}

// A Source fetches a stream while there are players.
func TestSource(t *testing.T) {
	for _, k := range kinds {
		if !k.memory {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				fetches := 0
				b := newBed(t, k, func(h *stream.Hub, _ *Server) {
					h.Linger = 3 * time.Second
					h.Source = fetchFunc(func(ctx context.Context, h *stream.Hub, key string) error {
						if key != "live/x" {
							return stream.ErrNotFound
						}
						mu.Lock()
						fetches++
						mu.Unlock()
						time.Sleep(time.Second)
						return (&streamtest.Source{}).Run(ctx, h, key)
					})
				})
				p := b.must("")
				p.waitFrames(t, 30)
				q := b.must("")
				q.waitFrames(t, 30)
				p.leave()
				q.waitFrames(t, 100)
				q.leave()
				b.idle()
				time.Sleep(5 * time.Second)
				require.Nil(t, b.hub.Stream("live/x"), "nobody looks any more")
				mu.Lock()
				require.Equal(t, 1, fetches)
				mu.Unlock()
				_, err := b.play("live/y")
				require.Error(t, err)
			})
		})
	}
}

type fetchFunc func(ctx context.Context, h *stream.Hub, key string) error

func (f fetchFunc) Fetch(ctx context.Context, h *stream.Hub, key string) error { return f(ctx, h, key) }

func TestExpires(t *testing.T) {
	for _, k := range kinds {
		if !k.memory {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, k, nil)
				b.srv.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
					return &auth.Grant{User: "me", Expires: time.Now().Add(7 * time.Second), Labels: map[string]string{"a": "b"}}, nil
				})
				src := publish(t, b.hub, "live/x", &streamtest.Pattern{})
				defer src.run()()
				began := time.Now()
				p := b.must("")
				p.waitFrames(t, 10)
				for s := range b.hub.Sessions() {
					require.Equal(t, "me", s.Info().User)
					require.Equal(t, "b", s.Info().Labels["a"])
					require.Equal(t, b.kind.protocol(), s.Info().Protocol)
				}
				p.end(t)
				require.Equal(t, 7*time.Second, time.Since(began).Truncate(time.Second))
				b.idle()
			})
		})
	}
}

func (k kind) protocol() string {
	switch {
	case k.rtmp:
		return "rtmp"
	case k.ws:
		return "ws-" + string(k.container)
	}
	return "http-" + string(k.container)
}

// Requests that are made for us to do something else with the connection.
func TestOddRequests(t *testing.T) {
	b := newBed(t, kind{container: containerFLV}, nil)
	publish(t, b.hub, "live/x", &streamtest.Pattern{}).write(100)
	addr := strings.TrimPrefix(b.base, "http://")
	for name, request := range map[string]string{
		"HTTP/1.0":  "GET /live/x.flv HTTP/1.0\r\n\r\n",
		"pipelined": "GET /live/x.flv HTTP/1.1\r\nHost: h\r\n\r\nGET /live/x.flv HTTP/1.1\r\nHost: h\r\n\r\n",
		"body":      "GET /live/x.flv HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			defer c.Close()
			_, err = c.Write([]byte(request))
			require.NoError(t, err)
			head := make([]byte, 15)
			_, err = io.ReadFull(c, head)
			require.NoError(t, err)
			require.Equal(t, "HTTP/1.1 200 OK", string(head))
			c.Close()
			b.idle()
		})
	}
	t.Run("chatter", func(t *testing.T) {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer c.Close()
		_, err = c.Write([]byte("GET /live/x.flv HTTP/1.1\r\nHost: h\r\n\r\n"))
		require.NoError(t, err)
		eventually(t, func() bool { return b.playing() == 1 }, "the player")
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(10*time.Second)))
		for err == nil { // until we are cut off
			_, err = c.Write(make([]byte, 10_000))
		}
		b.idle()
	})
}
