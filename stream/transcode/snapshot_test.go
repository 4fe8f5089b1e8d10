package transcode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// studio is a Snapshot whose encoder takes a second and counts.
type studio struct {
	Snapshot
	mu            sync.Mutex
	runs, running int
	most          int
	err           error
}

func newStudio(hub *stream.Hub) *studio {
	s := &studio{Snapshot: Snapshot{Hub: hub, Log: quiet}}
	s.encode = func(ctx context.Context, f *stream.Frame, image Image) ([]byte, error) {
		s.mu.Lock()
		s.runs++
		s.running++
		s.most = max(s.most, s.running)
		err := s.err
		s.mu.Unlock()
		time.Sleep(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
		return fmt.Appendf(nil, "%v %v", image, f.DTS), err
	}
	return s
}

func (s *studio) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs
}

// broadcast publishes streams until the bubble's test ends.
func broadcast(t *testing.T, hub *stream.Hub, names ...string) {
	t.Helper()
	for _, name := range names {
		pub, err := hub.Publish(t.Context(), name, nil)
		require.NoError(t, err)
		p := &streamtest.Pattern{}
		require.NoError(t, pub.SetTracks(p.Tracks()...))
		go func() { _ = streamtest.Feed(t.Context(), pub, p.Frames(-1), 1) }() // ends with the hub
	}
	time.Sleep(time.Second / 2)
}

func TestSnapshotCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub stream.Hub
		broadcast(t, &hub, "live/a")
		s := newStudio(&hub)
		var waiting sync.WaitGroup
		for range 50 {
			waiting.Go(func() {
				p, err := s.Picture(t.Context(), "live/a", PNG)
				require.NoError(t, err)
				require.Equal(t, "png 0s", string(p.Data))
				require.Equal(t, "live/a", p.Stream)
			})
		}
		waiting.Wait()
		require.Equal(t, 1, s.count(), "one run for all")

		time.Sleep(8 * time.Second)
		_, err := s.Picture(t.Context(), "live/a", PNG)
		require.NoError(t, err)
		require.Equal(t, 1, s.count(), "it is not ten seconds old")
		time.Sleep(2 * time.Second)
		p, err := s.Picture(t.Context(), "live/a", PNG)
		require.NoError(t, err)
		require.Equal(t, "png 11s", string(p.Data), "the newest key frame")

		s.err = errors.New("broken")
		_, err = s.Picture(t.Context(), "live/a", WebP)
		require.ErrorIs(t, err, s.err)
		n := s.count()
		_, err = s.Picture(t.Context(), "live/a", WebP)
		require.ErrorIs(t, err, s.err)
		require.Equal(t, n, s.count(), "not again at once")
		s.err = nil
		time.Sleep(2 * time.Second)
		_, err = s.Picture(t.Context(), "live/a", WebP)
		require.NoError(t, err)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.Picture(ctx, "live/a", JPEG)
		require.ErrorIs(t, err, context.Canceled)
		_, err = s.Picture(t.Context(), "live/none", JPEG)
		require.ErrorIs(t, err, stream.ErrNotFound)
		_, err = s.Picture(t.Context(), "live/a", Image(9))
		require.Error(t, err)

		hub.Stream("live/a").End(nil)
		_, err = s.Picture(t.Context(), "live/a", PNG)
		require.ErrorIs(t, err, stream.ErrNotFound)
		broadcast(t, &hub, "live/b")
		_, err = s.Picture(t.Context(), "live/b", PNG)
		require.NoError(t, err)
		require.Len(t, s.kept, 1, "what has ended is kept no longer")
		hub.Close()
		synctest.Wait()
	})
}

// So many runs at once, and no more; others wait.
func TestSnapshotRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub stream.Hub
		names := []string{"live/a", "live/b", "live/c", "live/d", "live/e"}
		broadcast(t, &hub, append(names, "live/other")...)
		s := newStudio(&hub)
		s.MaxRuns = 2
		s.Every = 20 * time.Second
		s.Match = func(name string) bool { return name != "live/other" }
		got := make(map[string][]time.Duration)
		s.OnPicture = func(p *Picture) { got[p.Stream] = append(got[p.Stream], p.PTS) }
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- s.Run(ctx) }()
		time.Sleep(50 * time.Second)
		cancel()
		require.ErrorIs(t, <-ran, context.Canceled)
		require.Equal(t, 2, s.most)
		require.Len(t, got, len(names))
		for _, at := range got {
			require.Len(t, at, 3)
			require.InDelta(t, 20*time.Second, at[1]-at[0], float64(3*time.Second))
		}
		hub.Close()
		synctest.Wait()
	})
}

// A stream of sound has no picture, and one that has yet to begin none yet.
func TestSnapshotNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub stream.Hub
		s := newStudio(&hub)
		pub, err := hub.Publish(t.Context(), "live/a", nil)
		require.NoError(t, err)
		_, err = s.Picture(t.Context(), "live/a", JPEG)
		require.ErrorIs(t, err, stream.ErrNotFound)
		require.NoError(t, pub.SetTracks((&streamtest.Pattern{NoVideo: true}).Tracks()...))
		time.Sleep(retryImage)
		_, err = s.Picture(t.Context(), "live/a", JPEG)
		require.ErrorIs(t, err, stream.ErrUnsupported)
		require.Zero(t, s.count())
		hub.Close()
	})
}

func TestSnapshotHTTP(t *testing.T) {
	var hub stream.Hub
	defer hub.Close()
	p := &streamtest.Pattern{}
	pub, err := hub.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err)
	require.NoError(t, pub.SetTracks(p.Tracks()...))
	for f := range p.Frames(5) {
		require.NoError(t, pub.Write(f))
	}
	s := newStudio(&hub)
	s.encode = func(context.Context, *stream.Frame, Image) ([]byte, error) { return []byte("a picture"), nil }
	s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		require.Equal(t, auth.Play, r.Action)
		switch r.Token {
		case "secret":
			return nil, nil
		case "broken":
			return nil, errors.New("no database")
		}
		return nil, auth.ErrDenied
	})
	get := func(method, target string, header ...string) *http.Response {
		r := httptest.NewRequest(method, target, nil)
		if len(header) > 0 {
			r.Header.Set(header[0], header[1])
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Result()
	}
	for extension, mediaType := range map[string]string{"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"} {
		r := get("GET", "/live/a."+extension+"?token=secret")
		require.Equal(t, http.StatusOK, r.StatusCode)
		require.Equal(t, mediaType, r.Header.Get("Content-Type"))
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, "a picture", string(body))
		r = get("GET", "/live/a."+extension+"?token=secret", "If-None-Match", r.Header.Get("ETag"))
		require.Equal(t, http.StatusNotModified, r.StatusCode)
	}
	for target, code := range map[string]int{
		"/live/a.jpg?token=wrong":     http.StatusForbidden,
		"/live/a.jpg":                 http.StatusUnauthorized,
		"/live/a.jpg?token=broken":    http.StatusServiceUnavailable,
		"/live/none.jpg?token=secret": http.StatusNotFound,
		"/live/a.gif?token=secret":    http.StatusNotFound,
		"/live/_a.jpg?token=secret":   http.StatusNotFound,
		"/live/a?token=secret":        http.StatusNotFound,
	} {
		require.Equal(t, code, get("GET", target).StatusCode, target)
	}
	require.Equal(t, http.StatusMethodNotAllowed, get("POST", "/live/a.jpg?token=secret").StatusCode)
	s.Auth = nil
	require.Equal(t, http.StatusForbidden, get("GET", "/live/a.jpg?token=secret").StatusCode, "deny by default")
}

func TestImage(t *testing.T) {
	for _, i := range []Image{JPEG, PNG, WebP} {
		text, err := i.MarshalText()
		require.NoError(t, err)
		var back Image
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, i, back)
	}
	require.Error(t, new(Image).UnmarshalText([]byte("gif")))
	require.Equal(t, "Image(9)", Image(9).String())
}

// The command of a picture: limits are set if the host says nothing, and what ffmpeg
// gives is bounded and must be there.
func TestSnapshotFFmpeg(t *testing.T) {
	p := &streamtest.Pattern{NoAudio: true}
	var f *stream.Frame
	for f = range p.Frames(1) {
	}
	s := &Snapshot{FFmpeg: fakeFFmpeg("args"), Width: 640, Height: 360}
	got, err := s.ffmpeg(t.Context(), f, WebP)
	require.NoError(t, err)
	for _, part := range []string{`"-protocol_whitelist" "pipe"`, `"-frames:v" "1"`, `"scale=w=640:h=360:force_original_aspect_ratio=decrease"`, `"libwebp"`, `"-f" "image2pipe" "pipe:1"`} {
		require.Contains(t, string(got), part)
	}
	s = &Snapshot{FFmpeg: fakeFFmpeg("args"), Height: 360}
	got, err = s.ffmpeg(t.Context(), f, JPEG)
	require.NoError(t, err)
	require.Contains(t, string(got), `"scale=w=-2:h=360"`)
	s.FFmpeg = fakeFFmpeg("dumb")
	_, err = s.ffmpeg(t.Context(), f, JPEG)
	require.ErrorIs(t, err, errExited, "nothing is no picture")
	s.FFmpeg = fakeFFmpeg("crash")
	_, err = s.ffmpeg(t.Context(), f, JPEG)
	require.ErrorContains(t, err, "no such encoder")
	s.FFmpeg = fakeFFmpeg("deaf")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.ffmpeg(ctx, f, JPEG)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
