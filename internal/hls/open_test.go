package hls

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestNames(t *testing.T) {
	for s, want := range map[string]name{
		"v0.m4s":                {Video, kindSegment, 0},
		"a12.m4s":               {Audio, kindSegment, 12},
		"ts3.ts":                {TS, kindSegment, 3},
		"vp98.m4s":              {Video, kindPart, 98},
		"ai1.mp4":               {Audio, kindInit, 1},
		"v3.key":                {Video, kindKey, 3},
		"ts123456789012345.key": {TS, kindKey, 123456789012345},
		"v999999999999999.m4s":  {Video, kindSegment, 999999999999999},
		"ap100000000000000.m4s": {Audio, kindPart, 100000000000000},
		"ts1.key":               {TS, kindKey, 1},
		"vi0.mp4":               {Video, kindInit, 0},
	} {
		n, ok := parseName(s)
		require.True(t, ok, s)
		require.Equal(t, want, n, s)
		require.Equal(t, s, n.String())
	}
	for _, s := range []string{
		"", ".", "v", "v.m4s", "v1", "v01.m4s", "v-1.m4s", "v1.ts", "ts1.m4s", "tsp1.ts", "tsi1.mp4", "vp1.mp4", "vi1.m4s", "vp1.key",
		"z1.m4s", "1.m4s", "v1.m4s.m4s", "v1..m4s", "v1.m4s/", "../v1.m4s", "v1.M4S", "v1 .m4s", "v1000000000000000.m4s", "v٣.m4s", "vv1.m4s",
		"vpp1.m4s", "v1.m4s\x00", "t1.ts", "s1.ts", "%761.m4s",
	} {
		_, ok := parseName(s)
		require.False(t, ok, s)
	}
	for r := range renditions {
		got, ok := ParsePlaylistName(r.String() + ".m3u8")
		require.True(t, ok)
		require.Equal(t, r, got)
	}
	_, ok := ParsePlaylistName("z.m3u8")
	require.False(t, ok)
	require.Equal(t, "Rendition(7)", Rendition(7).String())
}

// Only what appendName writes is a name.
func FuzzName(f *testing.F) {
	for _, s := range []string{"v12.m4s", "ts3.ts", "vp98.m4s", "ai1.mp4", "a3.key", "../v1.m4s", "v00.m4s", ""} {
		f.Add(s)
	}
	p := begun(Config{}, ms(5000))
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := parseName(s); ok && n.String() != s {
			t.Fatalf("%q is read as %q", s, n)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := p.Open(ctx, s, netip.Addr{}); err == nil {
			t.Fatalf("%q is open without the secret", s)
		}
		c, err := p.Open(ctx, p.Secret()+"/"+s, netip.Addr{})
		if err == nil && c.Size == 0 || err != nil && !errors.Is(err, stream.ErrNotFound) && !errors.Is(err, context.Canceled) {
			t.Fatalf("%q: %v", s, err)
		}
		_, _ = p.Key(s)
	})
}

func TestOpen(t *testing.T) {
	s := newSession(t, Config{TS: newFakeTS, TSAlways: true, MediaPrefix: "../"})
	s.feedPattern(&streamtest.Pattern{}, ms(10500))
	for _, r := range usual {
		p := s.playlist(r)
		etags := map[string]bool{}
		for _, seg := range p.Segments {
			require.True(t, r == TS || strings.HasPrefix(seg.Map, "../"+s.p.Secret()+"/"))
			if r != TS {
				require.Equal(t, "ftyp", string(s.open(seg.Map)[4:8]))
			}
			var parts []byte
			for _, part := range seg.Parts {
				parts = append(parts, s.open(part.URI)...)
			}
			if !seg.Complete() {
				continue
			}
			b := s.open(seg.URI)
			if len(seg.Parts) > 0 {
				require.Equal(t, parts, b, "a segment is its parts")
			}
			c, err := s.p.Open(t.Context(), strings.TrimPrefix(seg.URI, "../"), netip.Addr{})
			require.NoError(t, err)
			require.False(t, etags[c.ETag])
			etags[c.ETag] = true
			require.Equal(t, map[Rendition]string{Video: "video/mp4", Audio: "audio/mp4", TS: "video/mp2t"}[r], c.Type)
		}
	}
	secret := s.p.Secret()
	require.Len(t, secret, 24)
	require.NotEqual(t, secret, New(Config{}).Secret())
	for _, path := range []string{
		"", "/", secret, secret + "/", "v1.m4s", "/v1.m4s", strings.Repeat("a", 24) + "/v1.m4s", secret[1:] + "/v1.m4s", strings.ToUpper(secret) + "/v1.m4s",
		secret + "//v1.m4s", secret + "/../v1.m4s", secret + "/v99.m4s", secret + "/vi9.mp4", secret + "/vp9999.m4s", secret + "/v0.key", secret + "/v.m3u8",
	} {
		_, err := s.p.Open(t.Context(), path, netip.Addr{})
		require.ErrorIs(t, err, stream.ErrNotFound, path)
	}
}

func TestWriteRange(t *testing.T) {
	c := Content{Data: [][]byte{[]byte("ab"), []byte("cdef"), {}, []byte("g")}, Size: 7}
	whole := "abcdefg"
	for from := range len(whole) + 1 {
		for to := from; to <= len(whole); to++ {
			var b bytes.Buffer
			n, err := c.WriteRange(&b, int64(from), int64(to-from))
			require.NoError(t, err)
			require.EqualValues(t, to-from, n)
			require.Equal(t, whole[from:to], b.String())
		}
	}
	_, err := c.WriteRange(io.Discard, 5, 3)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	n, err := c.WriteTo(&failing{after: 4})
	require.EqualError(t, err, "full")
	require.EqualValues(t, 4, n)
}

type failing struct{ after int }

func (f *failing) Write(b []byte) (int, error) {
	n := min(f.after, len(b))
	if f.after -= n; n < len(b) {
		return n, errors.New("full")
	}
	return n, nil
}

// Serving allocates nothing that grows with the size.
func TestServingAllocs(t *testing.T) {
	for _, size := range []int{100, 100_000} {
		p := New(Config{})
		src := &streamtest.Pattern{KeySize: size, FrameSize: size}
		p.SetTracks(src.Tracks()...)
		for f := range until(src.Frames(-1), ms(5000)) {
			p.Add(f)
		}
		var served int64
		serve := func() {
			for _, file := range []string{"/v1.m4s", "/vp11.m4s", "/vi0.mp4"} {
				c, err := p.Open(context.Background(), p.Secret()+file, netip.Addr{})
				require.NoError(t, err)
				n, _ := c.WriteTo(io.Discard)
				served += n
			}
		}
		const runs = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			serve()
		}
		runtime.ReadMemStats(&after)
		require.Less(t, (after.TotalAlloc-before.TotalAlloc)/runs, uint64(2000))
		require.Greater(t, served, int64(runs*size*50/10))
	}
}

// decrypt is the other end of a sealer.
func decrypt(t *testing.T, key *Key, seq uint64, b []byte) []byte {
	t.Helper()
	require.NotEmpty(t, b)
	require.Zero(t, len(b)%aes.BlockSize)
	block, err := aes.NewCipher(key.Bytes[:])
	require.NoError(t, err)
	iv := make([]byte, 16)
	binary.BigEndian.PutUint64(iv[8:], seq)
	out := make([]byte, len(b))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, b)
	pad := int(out[len(out)-1])
	require.Positive(t, pad)
	require.LessOrEqual(t, pad, 16)
	for _, c := range out[len(out)-pad:] {
		require.EqualValues(t, pad, c)
	}
	return out[:len(out)-pad]
}

func TestSealer(t *testing.T) {
	key := newKey(Video, 1)
	plain := make([]byte, 100)
	for i := range plain {
		plain[i] = byte(i)
	}
	for size := range len(plain) {
		for _, step := range []int{1, 5, 16, 33, 100} {
			s := newSealer(key, 7)
			var out []byte
			for piece := range slices.Chunk(plain[:size], step) {
				out = append(out, s.seal(piece, false)...)
			}
			out = append(out, s.seal(nil, true)...)
			require.Equal(t, plain[:size], decrypt(t, key, 7, out), "%d by %d", size, step)
			require.Equal(t, out, newSealer(key, 7).seal(plain[:size], true))
		}
	}
}

// What is encrypted decrypts to what would have been sent in the clear.
func TestEncryption(t *testing.T) {
	clear := newSession(t, Config{TS: newFakeTS, TSAlways: true})
	clear.feedPattern(&streamtest.Pattern{}, ms(30500))
	s := newSession(t, Config{TS: newFakeTS, TSAlways: true, Encrypt: true, KeySegments: 3})
	s.feedPattern(&streamtest.Pattern{}, ms(30500))
	for _, r := range usual {
		p, keys := s.playlist(r), map[string]bool{}
		for i, seg := range p.Segments {
			require.Equal(t, "AES-128", seg.Key.Method)
			require.Empty(t, seg.Key.IV, "it is the Media Sequence Number")
			require.Equal(t, fmt.Sprintf("%s%d.key", r, seg.Sequence/3), seg.Key.URI)
			require.Empty(t, seg.MapKey, "initialization segments are clear")
			key, err := s.p.Key(seg.Key.URI)
			require.NoError(t, err)
			keys[string(key.Bytes[:])] = true
			want := clear.playlist(r).Segments[i]
			if seg.Map != "" {
				require.Equal(t, clear.open(want.Map), s.open(seg.Map))
			}
			for k, part := range seg.Parts {
				require.Equal(t, clear.open(want.Parts[k].URI), decrypt(t, key, seg.Sequence, s.open(part.URI)))
			}
			if seg.Complete() {
				require.Equal(t, clear.open(want.URI), decrypt(t, key, seg.Sequence, s.open(seg.URI)))
			}
		}
		want := 6
		if r == TS {
			want = 5 // its segment in the making is not listed
		}
		require.Len(t, keys, want)
		require.Equal(t, want, strings.Count(s.text(r), "METHOD=AES-128"))
	}
	// Parts take memory of their own for no longer than they may be asked for.
	held, parts := int64(0), 0
	for _, seg := range s.p.out[Video].snap.Load().segs {
		held += seg.held
		for _, part := range seg.Parts {
			if part.data != nil {
				parts++
			}
		}
	}
	require.InDelta(t, 70, parts, 10) // seven target durations
	for _, file := range []string{"v99.key", "v0.m4s", "vp0.m4s", "", "x"} {
		_, err := s.p.Key(file)
		require.ErrorIs(t, err, stream.ErrNotFound)
	}
	_, err := clear.p.Key("v0.key")
	require.ErrorIs(t, err, stream.ErrNotFound)
	require.Positive(t, held)
}
