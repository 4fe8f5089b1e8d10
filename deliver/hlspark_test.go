package deliver

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls/hlscheck"
)

// states counts what an http.Server says of its connections.
type states struct {
	mu sync.Mutex
	n  map[http.ConnState]int
}

func (s *states) watch(web *http.Server) {
	s.n = make(map[http.ConnState]int)
	web.ConnState = func(_ net.Conn, to http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.n[to]++
	}
}

func (s *states) count(of http.ConnState) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n[of]
}

// A wire is a bare connection to the bed's server.
type wire struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (b *hlsBed) wire() *wire {
	c, err := b.net.Dial(b.t.Context(), "tcp", "server:80")
	require.NoError(b.t, err)
	return &wire{b.t, c, bufio.NewReader(c)}
}

func (w *wire) ask(method, ref string, header ...string) {
	_, err := fmt.Fprintf(w, "%s %s HTTP/1.1\r\nHost: server\r\nUser-Agent: test\r\n%s\r\n", method, ref, strings.Join(append(header, ""), "\r\n"))
	require.NoError(w.t, err)
}

func (w *wire) answer(method string) reply {
	w.t.Helper()
	res, err := http.ReadResponse(w.r, &http.Request{Method: method})
	require.NoError(w.t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	return reply{res.StatusCode, res.Header, body}
}

// next returns the reload that the next segment answers.
func (b *hlsBed) next(video string) string {
	p, _ := hlscheck.Media(b.get(video).body)
	return fmt.Sprintf("%s?_HLS_msn=%d", video, p.Segments[len(p.Segments)-1].Sequence+1)
}

// A reload that waits leaves its http.Server and comes back: the connection goes
// on as if it had not.
func TestHLSParked(t *testing.T) {
	var seen states
	inHLSBed(t, func(b *hlsBed) { seen.watch(b.web) }, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		video, _ := b.playlists("/live/x.m3u8")
		w := b.wire()
		defer w.Close()
		for i := range 3 {
			w.ask("GET", b.next(video), "Accept-Encoding: gzip")
			a := w.answer("GET")
			require.Equal(t, 200, a.status)
			require.Equal(t, "gzip", a.header.Get("Content-Encoding"))
			require.Equal(t, "*", a.header.Get("Access-Control-Allow-Origin"))
			require.NotEmpty(t, a.header.Get("Date"))
			require.Equal(t, 2*i+1, seen.count(http.StateHijacked))

			w.ask("GET", "/nothing")
			require.Equal(t, 404, w.answer("GET").status)
			w.ask("HEAD", b.next(video))
			a = w.answer("HEAD")
			require.Equal(t, 200, a.status)
			require.NotEqual(t, "0", a.header.Get("Content-Length"))
		}
		require.Equal(t, 6, seen.count(http.StateHijacked))
		require.Len(t, b.sessions(), 1)
		time.Sleep(15 * time.Second)
		require.Empty(t, b.sessions(), "none of its requests is under way")
	})
}

// What a peer sends while its reload waits is its next requests, within bounds.
func TestHLSParkedPipeline(t *testing.T) {
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		video, _ := b.playlists("/live/x.m3u8")
		w := b.wire()
		defer w.Close()
		next := b.next(video)
		w.ask("GET", next) // net/http may have read the second by then, or not
		w.ask("GET", next+"&_HLS_skip=YES")
		synctest.Wait()
		w.ask("GET", "/nothing")
		w.ask("GET", b.next(video))
		for _, status := range []int{200, 200, 404, 200} {
			require.Equal(t, status, w.answer("GET").status)
		}
		w.ask("GET", b.next(video))
		synctest.Wait()
		_, err := w.Write(make([]byte, maxEarly+1))
		require.NoError(t, err)
		_, err = w.r.ReadByte()
		require.ErrorIs(t, err, io.EOF, "that is not a player")
	})
}

// A peer that leaves is noticed at once, and a stream that stands still ends the
// wait.
func TestHLSParkedInVain(t *testing.T) {
	var seen states
	inHLSBed(t, func(b *hlsBed) {
		seen.watch(b.web)
		b.hub.Grace = time.Minute
	}, func(t *testing.T, b *hlsBed) {
		stop := b.source("live/x")
		video, _ := b.playlists("/live/x.m3u8")
		waiters := func() int {
			synctest.Wait()
			return b.srv.hls.runs["live/x"].pack.Stats().Waiters
		}
		w := b.wire()
		w.ask("GET", b.next(video))
		require.Equal(t, 1, waiters())
		require.NoError(t, w.Close())
		require.Zero(t, waiters())

		stop() // the publisher may come back
		w = b.wire()
		defer w.Close()
		for range 2 {
			w.ask("GET", b.next(video)+"&_HLS_part=3")
		}
		at := time.Now()
		require.Equal(t, 1, waiters())
		for i := range 2 {
			require.Equal(t, 503, w.answer("GET").status)
			require.Equal(t, time.Duration(i+1)*6*time.Second, time.Since(at), "three target durations")
		}
		require.Equal(t, 3, seen.count(http.StateHijacked))
	})
}

// Who cannot be taken from its server waits there.
func TestHLSNotParked(t *testing.T) {
	for name, change := range map[string]func(*hlsBed){
		"option":  func(b *hlsBed) { b.srv.HLS.NoHijack = true },
		"wrapper": func(b *hlsBed) { b.web.Handler = plainResponses(b.srv) },
	} {
		t.Run(name, func(t *testing.T) {
			var seen states
			inHLSBed(t, func(b *hlsBed) {
				change(b)
				seen.watch(b.web)
			}, func(t *testing.T, b *hlsBed) {
				defer b.source("live/x")()
				video, _ := b.playlists("/live/x.m3u8")
				require.Equal(t, 200, b.do("GET", b.next(video)).status)
				require.Zero(t, seen.count(http.StateHijacked))
			})
		})
	}
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		video, _ := b.playlists("/live/x.m3u8")
		r := httptest.NewRequest("GET", b.next(video), nil)
		w := httptest.NewRecorder()
		b.srv.ServeHTTP(w, r)
		require.Equal(t, 200, w.Code, "without an http.Server")
	})
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		video, _ := b.playlists("/live/x.m3u8")
		for _, head := range []string{"HTTP/1.0\r\n\r\n", "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"} {
			w := b.wire()
			_, err := fmt.Fprintf(w, "GET %s %s", b.next(video), head)
			require.NoError(t, err)
			require.Equal(t, 200, w.answer("GET").status)
			_, err = w.r.ReadByte()
			require.ErrorIs(t, err, io.EOF)
			w.Close()
		}
	})
}

// plainResponses hides what responses can do beside being written to.
func plainResponses(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	})
}

// Shutdown answers those who wait before it returns, and a server that is shut down
// does not get connections back.
func TestHLSParkedShutdown(t *testing.T) {
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		video, _ := b.playlists("/live/x.m3u8")
		w := b.wire()
		defer w.Close()
		w.ask("GET", b.next(video))
		synctest.Wait()
		require.NoError(t, b.web.Shutdown(t.Context()), "it does not know of those who wait")
		require.Equal(t, 200, w.answer("GET").status)
		_, err := w.r.ReadByte()
		require.ErrorIs(t, err, io.EOF)
	})
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		video, _ := b.playlists("/live/x.m3u8")
		w := b.wire()
		defer w.Close()
		w.ask("GET", b.next(video))
		synctest.Wait()
		at := time.Now()
		require.NoError(t, b.srv.Shutdown(t.Context()))
		require.Less(t, time.Since(at), 100*time.Millisecond)
		require.Equal(t, 503, w.answer("GET").status)
		w.ask("GET", video)
		require.Equal(t, 503, w.answer("GET").status, "the connection is its server's again")
	})
}
