package record

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream/streamtest"
)

// recorded returns a small recording, as it was written and as it was completed.
func recorded(f *testing.F, format Format) (draft, final []byte) {
	f.Helper()
	p := &streamtest.Pattern{BFrames: 1, KeySize: 30, FrameSize: 20, AudioSize: 10}
	var out, rewritten bytes.Buffer
	w := bufio.NewWriter(&out)
	var m muxer = &mp4Writer{out: w, fragment: sec / 2, announced: p.Tracks}
	if format == FLV {
		m = &flvWriter{out: w, interval: sec / 2, announced: p.Tracks}
	}
	for frame := range until(p.Frames(-1), 1200*time.Millisecond) {
		require.Equal(f, take, m.takes(frame))
		require.NoError(f, m.write(frame))
	}
	require.NoError(f, m.flush(0))
	require.EqualValues(f, out.Len(), m.whole())
	require.NoError(f, m.rewrite(&rewritten, bytes.NewReader(out.Bytes())))
	return out.Bytes(), rewritten.Bytes()
}

// Whatever a file holds, reading it ends, and what was read can be written.
func FuzzScanMP4(f *testing.F) {
	draft, final := recorded(f, MP4)
	f.Add(draft)
	f.Add(final)
	f.Add(draft[:len(draft)*2/3])
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := scanMP4(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		n := 0
		for _, track := range x.tracks {
			if track.n > 1<<16 {
				return
			}
			for range track.samples() {
				n++
			}
			_ = track.info()
		}
		if n == 0 {
			return
		}
		var out bytes.Buffer
		if x.writePlain(&out, bytes.NewReader(b), time.Unix(0, 0)) == nil {
			again, err := scanMP4(bytes.NewReader(out.Bytes()), int64(out.Len()))
			if err != nil {
				t.Fatal(err)
			}
			if !again.plain || again.bytes != x.bytes {
				t.Fatalf("%d bytes, then %d", x.bytes, again.bytes)
			}
		}
		if v, err := newVOD(bytes.NewReader(b), int64(len(b))); err == nil {
			for i := range min(len(v.segments), 10) {
				_, _ = v.segment(bytes.NewReader(b), i)
			}
		}
	})
}

func FuzzScanFLV(f *testing.F) {
	draft, final := recorded(f, FLV)
	f.Add(draft)
	f.Add(final)
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := scanFLV(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if err := x.write(io.Discard, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzEncrypted(f *testing.F) {
	d := &Dir{Path: f.TempDir()}
	f.Cleanup(func() { d.Close() })
	s := Encrypt(d, testKeys)
	_, err := store(f.Context(), s, "a", func(w io.Writer) error { _, err := w.Write(make([]byte, 100)); return err })
	require.NoError(f, err)
	b, err := os.ReadFile(filepath.Join(d.Path, "a"))
	require.NoError(f, err)
	f.Add(b)
	f.Add(b[:cryptHeader])
	f.Fuzz(func(t *testing.T, got []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(d.Path, "a"), got, 0o600))
		content, err := readAll(t.Context(), s, "a")
		if err == nil && !bytes.Equal(content, make([]byte, 100)) {
			t.Fatalf("forged: %d bytes", len(content))
		}
	})
}
