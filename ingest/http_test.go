package ingest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/internal/memnet"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// flvFile is the beginning of an FLV stream with n frames.
func flvFile(t testing.TB, p *streamtest.Pattern, n int) []byte {
	b := flv.AppendFileHeader(nil, true, true)
	for _, track := range p.Tracks() {
		body, err := flv.AppendConfigBody(nil, track)
		require.NoError(t, err)
		b, err = flv.AppendTag(b, flv.TagType(track), 0, nil, body)
		require.NoError(t, err)
	}
	for f := range p.Frames(n) {
		header, err := flv.AppendFrameHeader(nil, f)
		require.NoError(t, err)
		b, err = flv.AppendTag(b, flv.TagType(f.Track), flv.Timestamp(f), header, f.Data)
		require.NoError(t, err)
	}
	return b
}

// An httpWorld is the handler behind a real HTTP server.
type httpWorld struct {
	t      *testing.T
	s      *Server
	client *http.Client
}

// newHTTPWorld serves HTTP/1.1, or HTTP/2 without TLS. Call it in a bubble.
func newHTTPWorld(t *testing.T, s *Server, h2 bool) *httpWorld {
	network := memnet.New()
	ln, err := network.Listen("server:80")
	require.NoError(t, err)
	var protocols http.Protocols
	protocols.SetHTTP1(!h2)
	protocols.SetUnencryptedHTTP2(h2)
	srv := &http.Server{Handler: s, Protocols: &protocols}
	go func() { _ = srv.Serve(ln) }()
	transport := &http.Transport{DialContext: network.Dial, Protocols: &protocols}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = srv.Close()
		_ = network.Close()
	})
	return &httpWorld{t, s, &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// post sends a request and returns the status.
func (w *httpWorld) post(path string, body io.Reader, header ...string) (int, error) {
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://server"+path, body)
	require.NoError(w.t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := w.client.Do(r)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode, nil
}

func both(t *testing.T, f func(t *testing.T, h2 bool)) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) { f(t, h2) })
	}
}

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestHTTPPublish(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) { synctest.Test(t, func(t *testing.T) { testHTTPPublish(t, h2) }) })
}

func testHTTPPublish(t *testing.T, h2 bool) {
	s := newServer()
	var asked auth.Request
	s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		asked = *r
		return nil, nil
	})
	w := newHTTPWorld(t, s, h2)
	pattern := &streamtest.Pattern{}
	in, out := io.Pipe()
	status := make(chan int, 1)
	go func() {
		code, err := w.post("/live/cam.flv?vhost=v.example&token=t", in, "Authorization", "Bearer b", "Content-Type", "video/x-flv")
		if err != nil {
			code = -1
		}
		status <- code
	}()
	_, err := out.Write(flvFile(t, pattern, 1))
	require.NoError(t, err)
	synctest.Wait()
	require.Equal(t, "http-flv", asked.Protocol)
	require.Equal(t, "b", asked.Token)
	require.Equal(t, "v.example/live/cam", asked.Stream)
	require.Equal(t, "vhost=v.example&token=t", asked.RawQuery)
	require.True(t, asked.Remote.IsValid())
	sub, err := s.Hub.Subscribe(t.Context(), "v.example/live/cam", nil)
	require.NoError(t, err)
	require.Equal(t, stream.H264, streamtest.Collect(t.Context(), t, sub, 1)[0].Track.Codec)
	require.NotZero(t, sessions(s.Hub)[0].Stats().BytesIn)

	// An hour of a frame every ten seconds, and the end.
	for range 360 {
		time.Sleep(10 * time.Second)
		tag, err := flv.AppendTag(nil, flv.TagAudio, 0, []byte{0xaf, 1}, make([]byte, 100))
		require.NoError(t, err)
		_, err = out.Write(tag)
		require.NoError(t, err)
	}
	require.NoError(t, out.Close())
	require.Equal(t, http.StatusNoContent, <-status)
	require.Empty(t, sessions(s.Hub))
}

func TestHTTPStatuses(t *testing.T) {
	file := flvFile(t, &streamtest.Pattern{}, 20)
	ts := tsFile(t, &streamtest.Pattern{}, 100)
	unsupported := append(flv.AppendFileHeader(nil, true, false), 8, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0xb2, 0, 0, 0, 0, 13) // Speex
	both(t, func(t *testing.T, h2 bool) {
		for _, c := range []struct {
			name   string
			auth   auth.Authorizer
			path   string
			body   []byte
			header []string
			want   int
		}{
			{"fine", auth.AllowAll, "/live/cam.flv", file, nil, 204},
			{"fine, from curl", auth.AllowAll, "/live/cam.flv", file, []string{"Content-Type", "application/x-www-form-urlencoded"}, 204},
			{"no token", nil, "/live/cam.flv", file, nil, 401},
			{"bad token", nil, "/live/cam.flv?token=t", file, nil, 403},
			{"bad bearer", nil, "/live/cam.flv", file, []string{"Authorization", "Bearer t"}, 403},
			{"bad password", nil, "/live/cam.flv", file, []string{"Authorization", "Basic YTpi"}, 403},
			{"redirected", grant(nil, &auth.Redirect{Location: "http://other/live/cam.flv"}), "/live/cam.flv", file, nil, 307},
			{"broken authorizer", grant(nil, errors.New("broken")), "/live/cam.flv", file, nil, 500},
			{"not a stream", auth.AllowAll, "/live/cam", file, nil, 404},
			{"bad name", auth.AllowAll, "/live/%2e%2e/cam.flv", file, nil, 404},
			{"reserved name", auth.AllowAll, "/live/_cam.flv", file, nil, 404},
			{"backslash", auth.AllowAll, "/live/a%5cb.flv", file, nil, 404},
			{"vhost of two segments", auth.AllowAll, "/live/cam.flv?vhost=a/b", file, nil, 404},
			{"busy", auth.AllowAll, "/live/busy.flv", file, nil, 409},
			{"not FLV", auth.AllowAll, "/live/cam.flv", []byte("hello, this is not FLV at all"), nil, 400},
			{"empty", auth.AllowAll, "/live/cam.flv", nil, nil, 400},
			{"cut off", auth.AllowAll, "/live/cam.flv", file[:len(file)-50], nil, 400},
			{"codec", auth.AllowAll, "/live/cam.flv", unsupported, nil, 415},
			{"TS", auth.AllowAll, "/live/cam.ts", ts, nil, 204},
			{"TS by its type", auth.AllowAll, "/live/cam", ts, []string{"Content-Type", "video/mp2t"}, 204},
			{"not TS", auth.AllowAll, "/live/cam.ts", file, nil, 400},
			{"empty TS", auth.AllowAll, "/live/cam.ts", nil, nil, 400},
			{"TS without rights", nil, "/live/cam.ts", ts, nil, 401},
			{"TS as FLV", auth.AllowAll, "/live/cam.flv", ts, []string{"Content-Type", "video/mp2t"}, 415},
			{"type", auth.AllowAll, "/live/cam.flv", file, []string{"Content-Type", "text/plain"}, 415},
			{"malformed type", auth.AllowAll, "/live/cam.flv", file, []string{"Content-Type", ";"}, 415},
			{"another site's page", auth.AllowAll, "/live/cam.flv", file, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		} {
			bubble(t, c.name, func(t *testing.T) {
				s := newServer()
				s.Auth = c.auth
				_, err := s.Hub.Publish(t.Context(), "live/busy", nil)
				require.NoError(t, err)
				w := newHTTPWorld(t, s, h2)
				code, err := w.post(c.path, bytes.NewReader(c.body), c.header...)
				require.NoError(t, err)
				require.Equal(t, c.want, code)
				require.Empty(t, sessions(s.Hub))
				synctest.Wait()
				require.Nil(t, s.Hub.Stream("live/cam"))
			})
		}
	})
}

func TestHTTPMethods(t *testing.T) {
	s := newServer()
	for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS"} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(method, "/live/cam.flv", nil))
		require.Equal(t, http.StatusMethodNotAllowed, w.Code)
		require.Equal(t, "POST, PUT", w.Header().Get("Allow"))
	}
	// Behind what has no deadlines it works all the same.
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("PUT", "/live/cam.flv", bytes.NewReader(flvFile(t, &streamtest.Pattern{}, 5))))
	require.Equal(t, http.StatusNoContent, w.Code)
	w = httptest.NewRecorder()
	s.Auth = nil
	s.ServeHTTP(w, httptest.NewRequest("PUT", "/live/cam.flv", strings.NewReader("")))
	require.Equal(t, http.StatusUnauthorized, w.Code)
	require.Contains(t, w.Header().Get("WWW-Authenticate"), "Bearer")
}

// Uploads that fall silent, are kicked, or meet the end of the server.
func TestHTTPEnds(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		for _, c := range []struct {
			name  string
			start int // frames
			end   func(t *testing.T, s *Server)
			want  int
			after time.Duration
		}{
			{"silent", 5, nil, 408, 15 * time.Second},
			{"silent from the start", -1, nil, 408, 20 * time.Second},
			{"kicked", 5, func(t *testing.T, s *Server) { sessions(s.Hub)[0].Kick(nil) }, 403, 0},
			{"replaced", 5, func(t *testing.T, s *Server) {
				_, err := s.Hub.Publish(t.Context(), "live/cam", &stream.PublishOptions{Replace: true})
				require.NoError(t, err)
			}, 409, 0},
			{"server closed", 5, func(t *testing.T, s *Server) { require.NoError(t, s.Close()) }, 503, 0},
			{"server shut down", 5, func(t *testing.T, s *Server) {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
			}, 503, 3 * time.Second},
		} {
			bubble(t, c.name, func(t *testing.T) {
				s := newServer()
				w := newHTTPWorld(t, s, h2)
				in, out := io.Pipe()
				at := time.Now()
				type result struct {
					code  int
					err   error
					after time.Duration
				}
				done := make(chan result, 1)
				go func() {
					code, err := w.post("/live/cam.flv?token=t", in)
					done <- result{code, err, time.Since(at)}
				}()
				if c.start >= 0 {
					_, err := out.Write(flvFile(t, &streamtest.Pattern{}, c.start))
					require.NoError(t, err)
				}
				synctest.Wait()
				if c.end != nil {
					c.end(t, s)
				}
				r := <-done
				require.NoError(t, r.err)
				require.Equal(t, c.want, r.code)
				require.Equal(t, c.after, r.after)
				_ = out.Close()
				synctest.Wait()
				require.Empty(t, sessions(s.Hub))
				require.Empty(t, s.uploads)
			})
		}
	})
}

// A server that is shutting down takes no more.
func TestHTTPClosed(t *testing.T) {
	s := newServer()
	require.NoError(t, s.Shutdown(t.Context()))
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", "/live/cam.flv", strings.NewReader("FLV")))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.ErrorIs(t, ErrServerClosed, stream.ErrClosed)
}
