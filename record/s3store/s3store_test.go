package s3store

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/record/storagetest"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestStore(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) stream.Storage { return newFake(t).store() })
}

func TestParse(t *testing.T) {
	s, err := Parse("https://KEY:SE%2FCRET@s3.example.com:9000/bucket/a/b?region=eu-1&sse=aws:kms&kms=k")
	require.NoError(t, err)
	require.Equal(t, "s3.example.com:9000", s.Endpoint)
	require.Equal(t, "a/b/", s.Prefix)
	require.Equal(t, "SE/CRET", s.SecretKey)
	require.Equal(t, "aws:kms", s.Encryption)
	require.False(t, s.Plain)
	for _, bad := range []string{"", "s3://b", "https://host", "https://host/", "https://h/b?x=1", "http://SECRET:%zz@h/b", "ftp://h/b"} {
		_, err := Parse(bad)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "SECRET:")
	}
	_, err = (&Store{Endpoint: "h", Bucket: "b", Encryption: "rot13"}).Open(t.Context(), "a")
	require.ErrorContains(t, err, "rot13")
}

func content(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func put(t *testing.T, s *Store, name string, b []byte) error {
	t.Helper()
	w, err := s.Create(t.Context(), name)
	require.NoError(t, err)
	defer w.Abort()
	if _, err := io.Copy(w, bytes.NewReader(b)); err != nil {
		return err
	}
	return w.Close()
}

// A large file goes in parts, is aborted without a trace, and can be read anywhere.
func TestMultipart(t *testing.T) {
	f := newFake(t)
	s := f.store()
	s.PartSize, s.Encryption = 1<<20, "AES256"
	want := content(5<<20 + 12345)
	require.NoError(t, put(t, s, "live/a.mp4", want))
	require.Equal(t, 6, f.asked["part"])
	require.Equal(t, []string{"AES256"}, f.sse)
	r, err := s.Open(t.Context(), "live/a.mp4")
	require.NoError(t, err)
	defer r.Close()
	require.EqualValues(t, len(want), r.Info().Size)
	for _, at := range []int64{0, 300_000, 310_000, 5 << 20, 1 << 20, head - 1, head, int64(len(want)) - 3} {
		_, err := r.Seek(at, io.SeekStart)
		require.NoError(t, err)
		b := make([]byte, min(5000, len(want)-int(at)))
		_, err = io.ReadFull(r, b)
		require.NoError(t, err)
		require.Equal(t, want[at:at+int64(len(b))], b)
	}
	// Far into a file that was replaced, reading fails rather than to mix the two.
	require.NoError(t, put(t, s, "live/a.mp4", content(4<<20)))
	_, err = r.Seek(2<<20, io.SeekStart)
	require.NoError(t, err)
	_, err = io.ReadAll(r)
	require.Error(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	w, err := s.Create(ctx, "live/b.mp4")
	require.NoError(t, err)
	_, err = w.Write(want)
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, w.Close(), context.Canceled)
	require.Empty(t, f.uploads, "aborted, though the context had ended")
	_, err = s.Open(t.Context(), "live/b.mp4")
	require.ErrorIs(t, err, fs.ErrNotExist)

	w, err = s.Create(t.Context(), "live/c.mp4") // of a process that is killed
	require.NoError(t, err)
	_, err = w.Write(want)
	require.NoError(t, err)
	require.Len(t, f.uploads, 1)
	n, err := s.Clean(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = s.Clean(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Empty(t, f.uploads)
}

// A server that fails half the requests loses nothing.
func TestHalfFails(t *testing.T) {
	f := newFake(t)
	n := 0
	f.fail = func(*http.Request) int {
		if n++; n%2 == 1 {
			return http.StatusServiceUnavailable
		}
		return 0
	}
	s := f.store()
	s.PartSize = 1 << 20
	want := content(2<<20 + 1)
	require.NoError(t, put(t, s, "a", want))
	r, err := s.Open(t.Context(), "a")
	require.NoError(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))

	// One that refuses all of them fails, and leaves nothing once it is back.
	f.fail = func(r *http.Request) int {
		if r.URL.Query().Has("partNumber") {
			return http.StatusForbidden
		}
		return 0
	}
	require.Error(t, put(t, s, "b", want))
	require.Empty(t, f.uploads)
}

// A Recorder sends its files while it writes them, and they are plain in the end.
func TestRecorder(t *testing.T) {
	f := newFake(t)
	s := f.store()
	s.PartSize = 256 << 10
	hub := &stream.Hub{}
	defer hub.Close()
	quiet := slog.New(slog.DiscardHandler)
	r := &record.Recorder{Hub: hub, Storage: s, Log: quiet, Match: func(string) bool { return true }, Name: "{stream}"}
	events := hub.Events(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	p := &streamtest.Pattern{FrameSize: 20_000}
	pub, err := hub.Publish(t.Context(), "live/cam", nil)
	require.NoError(t, err)
	require.NoError(t, pub.SetTracks(p.Tracks()...))
	go func() {
		_ = streamtest.Feed(t.Context(), pub, p.Frames(4*72), 4)
		pub.Close()
	}()
	for e := range events {
		if e, ok := e.(stream.RecordingEnded); ok {
			require.NoError(t, e.Err)
			break
		}
	}
	info, err := record.Verify(t.Context(), s, "live/cam.mp4")
	require.NoError(t, err)
	require.Greater(t, info.Size, int64(1<<20))
	require.Greater(t, f.asked["part"], 4)
	file, err := s.Open(t.Context(), "live/cam.mp4")
	require.NoError(t, err)
	start := make([]byte, 44)
	_, err = io.ReadFull(file, start)
	require.NoError(t, err)
	require.Contains(t, string(start), "moov")
	cancel()
	require.ErrorIs(t, <-ran, context.Canceled)
}
