package record

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/record/storagetest"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

var testKeys = StaticKeys{{"new", bytes.Repeat([]byte{1}, 32)}, {"old", bytes.Repeat([]byte{2}, 32)}}

func TestEncrypted(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) stream.Storage {
		d := &Dir{Path: t.TempDir()}
		t.Cleanup(func() { d.Close() })
		return Encrypt(d, testKeys)
	})
}

func TestEncryptedTampering(t *testing.T) {
	d := &Dir{Path: t.TempDir()}
	defer d.Close()
	old := Encrypt(d, testKeys[1:])
	s := Encrypt(d, testKeys)
	plain := bytes.Repeat([]byte("0123456789abcdef"), 3*chunkSize/16)
	for name, n := range map[string]int{"empty": 0, "one": 1, "full": chunkSize, "more": chunkSize + 1, "three": 3 * chunkSize} {
		_, err := store(t.Context(), old, name, func(w io.Writer) error { _, err := w.Write(plain[:n]); return err })
		require.NoError(t, err)
		got, err := readAll(t.Context(), s, name) // with the old key
		require.NoError(t, err)
		require.True(t, bytes.Equal(plain[:n], got))
		raw, err := os.ReadFile(filepath.Join(d.Path, name))
		require.NoError(t, err)
		require.NotContains(t, string(raw), "0123456789")
	}
	_, err := store(t.Context(), s, "new", func(w io.Writer) error { return nil })
	require.NoError(t, err)
	_, err = old.Open(t.Context(), "new")
	require.ErrorIs(t, err, errNoKey)

	file := filepath.Join(d.Path, "three")
	good, err := os.ReadFile(file)
	require.NoError(t, err)
	for what, bad := range map[string][]byte{
		"cut at a chunk": good[:cryptHeader+2*sealedSize],
		"cut":            good[:len(good)-1],
		"header":         good[:50],
		"extended":       append(bytes.Clone(good), good[cryptHeader:cryptHeader+sealedSize]...),
		"flipped":        flip(good, cryptHeader+20),
		"salt":           flip(good, 90),
		"swapped":        append(append(bytes.Clone(good[:cryptHeader]), good[cryptHeader+sealedSize:cryptHeader+2*sealedSize]...), append(bytes.Clone(good[cryptHeader:cryptHeader+sealedSize]), good[cryptHeader+2*sealedSize:]...)...),
	} {
		require.NoError(t, os.WriteFile(file, bad, 0o600))
		_, err := readAll(t.Context(), s, "three")
		require.ErrorIs(t, err, ErrTampered, what)
	}
	require.NoError(t, os.WriteFile(filepath.Join(d.Path, "other"), good, 0o600))
	_, err = readAll(t.Context(), s, "other")
	require.ErrorIs(t, err, ErrTampered, "renamed")
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

// An encrypted draft that ends anywhere is as good as one in the clear.
func TestEncryptedDraft(t *testing.T) {
	plain := make([]byte, 300_000)
	for i := range plain {
		plain[i] = byte(i ^ i>>8)
	}
	for _, lost := range []int64{0, 1, 10, 100, sealedSize + 5, 200_000} {
		d := &Dir{Path: t.TempDir()}
		s := Encrypt(d, testKeys).(DraftStorage)
		draft, err := s.CreateDraft(t.Context(), "a", []byte("note"))
		require.NoError(t, err)
		for at := 0; at < len(plain); at += 10_000 {
			_, err := draft.Write(plain[at : at+10_000])
			require.NoError(t, err)
			require.EqualValues(t, at+10_000, draft.Size())
		}
		r, err := draft.Reader(t.Context())
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.True(t, bytes.Equal(plain, got))
		require.NoError(t, draft.Leave())
		files, err := filepath.Glob(filepath.Join(d.Path, incoming, "*"+draftSuffix))
		require.NoError(t, err)
		info, err := os.Stat(files[0])
		require.NoError(t, err)
		require.NoError(t, os.Truncate(files[0], info.Size()-lost))
		found := 0
		for draft, err := range s.Drafts(t.Context()) {
			require.NoError(t, err)
			found++
			require.Equal(t, "note", string(draft.Note()))
			size := draft.Size()
			require.GreaterOrEqual(t, size, int64(len(plain))-lost-chunkSize)
			require.NoError(t, draft.Truncate(size/2))
			_, err = draft.Write([]byte("end"))
			require.NoError(t, err)
			require.NoError(t, draft.Publish(t.Context()))
			got, err := readAll(t.Context(), s, "a")
			require.NoError(t, err)
			require.True(t, bytes.Equal(append(bytes.Clone(plain[:size/2]), "end"...), got))
		}
		require.Equal(t, 1, found)
		require.NoError(t, d.Close())
	}
}

// What a Recorder writes into an encrypted storage is what it writes in the clear.
func TestRecordEncrypted(t *testing.T) {
	for _, fragmented := range []bool{false, true} {
		inBed(t, func(r *Recorder) {
			r.Storage, r.Fragmented, r.Name = Encrypt(r.Storage, testKeys), fragmented, "a"
		}, func(t *testing.T, b *bed) {
			p := &streamtest.Pattern{}
			b.publish("live/cam", p.Tracks(), until(p.Frames(-1), 5*sec))
			info, err := Verify(t.Context(), b.Storage, "a.mp4")
			require.NoError(t, err)
			require.InDelta(t, 5*sec, info.Duration, float64(50*time.Millisecond))
			content, err := readAll(t.Context(), b.Storage, "a.mp4")
			require.NoError(t, err)
			x, err := scanMP4(bytes.NewReader(content), int64(len(content)))
			require.NoError(t, err)
			require.Equal(t, 125, x.tracks[0].n)
			raw, err := os.ReadFile(filepath.Join(b.path, "a.mp4"))
			require.NoError(t, err)
			require.NotContains(t, string(raw), "moov")
		})
	}
}
