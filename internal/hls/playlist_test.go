package hls

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/Eyevinn/hls-m3u8/m3u8"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares text with testdata/name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run go test -update, and look")
}

func TestGolden(t *testing.T) {
	known := func(c Config) *session {
		s := newSession(t, c)
		s.p.secret = "abcdefghijklmnopqrst2345"
		return s
	}
	t.Run("plain", func(t *testing.T) {
		s := known(Config{MediaPrefix: "../", FirstSequence: 40, TS: newFakeTS, TSAlways: true})
		p := &streamtest.Pattern{FPS: 30, KeyInterval: 60}
		s.feedPattern(p, ms(25030))
		golden(t, "video.m3u8", []byte(s.text(Video)))
		golden(t, "audio.m3u8", []byte(s.text(Audio)))
		golden(t, "ts.m3u8", []byte(s.text(TS)))
		golden(t, "delta.m3u8", s.p.out[Video].snap.Load().page(true).Text)
		m, err := s.p.Multivariant(t.Context(), noAddr, MultivariantOptions{Prefix: "cam/_hls/TOKEN/", AudioVariant: true})
		require.NoError(t, err)
		golden(t, "multivariant.m3u8", m)
	})
	t.Run("encrypted, a republish with another codec, the end", func(t *testing.T) {
		s := known(Config{Encrypt: true, KeySegments: 3})
		s.untimed = true
		s.feedPattern(&streamtest.Pattern{}, ms(7020))
		next := &streamtest.Pattern{Video: stream.H265, Start: ms(7060)}
		s.shift = time.Second
		s.p.SetTracks(next.Tracks()...)
		first := true
		for f := range until(next.Frames(-1), ms(14000)) {
			f.Discontinuity, first = first, false
			s.add(f)
		}
		golden(t, "encrypted.m3u8", []byte(s.text(Video)))
		s.end()
		golden(t, "ended.m3u8", []byte(s.text(Video)))
	})
}

func TestMultivariant(t *testing.T) {
	for _, tt := range []struct {
		name    string
		p       *streamtest.Pattern
		o       MultivariantOptions
		c       Config
		codecs  []string
		uris    []string
		group   bool
		lacking string
	}{
		{name: "both", p: &streamtest.Pattern{}, codecs: []string{"avc1.4d400c,mp4a.40.2"}, uris: []string{"v.m3u8"}, group: true},
		{name: "with audio alone", p: &streamtest.Pattern{}, o: MultivariantOptions{AudioVariant: true},
			codecs: []string{"avc1.4d400c,mp4a.40.2", "mp4a.40.2"}, uris: []string{"v.m3u8", "a.m3u8"}, group: true},
		{name: "audio alone", p: &streamtest.Pattern{}, o: MultivariantOptions{AudioOnly: true}, codecs: []string{"mp4a.40.2"}, uris: []string{"a.m3u8"}},
		{name: "audio", p: &streamtest.Pattern{NoVideo: true, Audio: stream.Opus}, codecs: []string{"opus"}, uris: []string{"a.m3u8"}},
		{name: "video", p: &streamtest.Pattern{NoAudio: true, Video: stream.AV1}, uris: []string{"v.m3u8"}},
		{name: "audio that MP4 cannot carry", p: &streamtest.Pattern{Audio: stream.PCMA}, codecs: []string{"avc1.4d400c"}, uris: []string{"v.m3u8"}},
		{name: "video that MP4 cannot carry", p: &streamtest.Pattern{Video: stream.VP8}, codecs: []string{"mp4a.40.2"}, uris: []string{"a.m3u8"}},
		{name: "ts", p: &streamtest.Pattern{}, o: MultivariantOptions{TS: true}, c: Config{TS: newFakeTS, TSAlways: true},
			codecs: []string{"avc1.4d400c,mp4a.40.2"}, uris: []string{"ts.m3u8"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Prefix, tt.o.Suffix = "cam/_hls/", "?t=1"
			s := newSession(t, tt.c)
			s.feedPattern(tt.p, ms(11000))
			text, err := s.p.Multivariant(t.Context(), noAddr, tt.o)
			require.NoError(t, err)
			variants, media, found := hlscheck.Multivariant(text)
			s.accept(found, text)
			require.Len(t, variants, len(tt.uris))
			for i, v := range variants {
				require.Equal(t, "cam/_hls/"+tt.uris[i]+"?t=1", v.URI)
				if tt.codecs != nil {
					require.Equal(t, tt.codecs[i], v.Attributes["CODECS"])
				}
				require.Equal(t, v.URI[len("cam/_hls/")] != 'a', v.Attributes["RESOLUTION"] == "320x180", "%s", text)
			}
			if tt.group {
				require.Len(t, media, 1)
				require.Equal(t, "cam/_hls/a.m3u8?t=1", media[0]["URI"])
				require.Equal(t, "2", media[0]["CHANNELS"])
			} else {
				require.Empty(t, media)
			}
			require.Contains(t, string(text), "#EXT-X-INDEPENDENT-SEGMENTS\n")
			pl, kind, err := m3u8.DecodeFrom(bytes.NewReader(text), true)
			require.NoError(t, err)
			require.Equal(t, m3u8.MASTER, kind)
			require.Len(t, pl.(*m3u8.MasterPlaylist).Variants, len(tt.uris))
		})
	}
}

// The bit rates are those of the media.
func TestBandwidth(t *testing.T) {
	s := newSession(t, Config{})
	// 8000 + 24*1000 bytes a second of picture, 46.875 * 200 of sound, and the boxes.
	s.feedPattern(&streamtest.Pattern{}, ms(20500))
	v, a := s.p.View(Video), s.p.View(Audio)
	require.InDelta(t, 256_000, v.Average, 10000)
	require.InDelta(t, 75_000, a.Average, 10000)
	require.InDelta(t, v.Average, v.Bandwidth, 3000)
	text, err := s.p.Multivariant(t.Context(), noAddr, MultivariantOptions{})
	require.NoError(t, err)
	variants, _, _ := hlscheck.Multivariant(text)
	require.Equal(t, "25.000", variants[0].Attributes["FRAME-RATE"])
}

func TestView(t *testing.T) {
	s := newSession(t, Config{})
	require.Empty(t, s.p.View(Video).Segments)
	require.Nil(t, s.p.View(Audio).Init)
	p := &streamtest.Pattern{BFrames: 2}
	s.feedPattern(p, ms(10500))
	v := s.p.View(Video)
	require.Equal(t, p.Tracks()[0], v.Track)
	require.Equal(t, 2*time.Second, v.TargetDuration)
	require.Len(t, v.Segments, 5)
	for i, seg := range v.Segments {
		require.EqualValues(t, i, seg.Sequence)
		require.Equal(t, time.Duration(i)*2*time.Second, seg.Start)
		require.Equal(t, seg.Start+40*time.Millisecond, seg.PTS)
		require.Equal(t, v.Init, seg.Init)
		require.True(t, seg.Time.Equal(epoch.Add(seg.PTS)))
		require.Equal(t, s.open(s.p.Secret()+"/"+seg.Name()), bytes.Join(seg.Content().Data, nil))
		require.Len(t, seg.Parts, 10)
		require.Equal(t, seg.Parts[0].Name()[:2], "vp")
		require.Equal(t, "vi0.mp4", seg.Init.Name())
	}
	require.False(t, v.Ended)
	s.end()
	require.True(t, s.p.View(Video).Ended)
	require.Empty(t, s.p.View(TS).Segments)
	require.Empty(t, s.p.View(Rendition(9)).Segments)
}

func TestPlaylistIsCached(t *testing.T) {
	s := newSession(t, Config{})
	s.feedPattern(&streamtest.Pattern{}, ms(20500))
	get := func(d Directives) *Playlist {
		pl, err := s.p.Playlist(t.Context(), Video, d, noAddr)
		require.NoError(t, err)
		return pl
	}
	full, delta := get(Directives{}), get(Directives{Skip: true})
	require.Same(t, full, get(Directives{}))
	require.NotEqual(t, full.ETag, delta.ETag)
	require.Regexp(t, `^"[0-9a-f]{10}-v[0-9]+-f"$`, full.ETag)
	for _, pl := range []*Playlist{full, delta} {
		z, err := gzip.NewReader(bytes.NewReader(pl.Gzip()))
		require.NoError(t, err)
		text, err := io.ReadAll(z)
		require.NoError(t, err)
		require.Equal(t, pl.Text, text)
		require.Less(t, len(pl.Gzip()), len(pl.Text)/2)
		require.Equal(t, &pl.Gzip()[0], &pl.Gzip()[0])
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { get(Directives{Skip: true}) }))
	s.feed(from(until(sameTracks((&streamtest.Pattern{}).Frames(-1), s.p.announced), ms(20900)), ms(20500)))
	require.NotEqual(t, full.ETag, get(Directives{}).ETag)
}

func TestSeconds(t *testing.T) {
	for _, tt := range []struct {
		d        time.Duration
		decimals int
		want     string
	}{
		{0, 3, "0.000"}, {time.Second, 3, "1.000"}, {ms(216), 3, "0.216"}, {ms(20), 5, "0.02000"},
		{1999999 * time.Microsecond, 3, "2.000"}, {time.Second + 4999*time.Nanosecond, 5, "1.00000"}, {time.Second + 5*time.Microsecond, 5, "1.00001"},
		{3 * time.Hour, 3, "10800.000"}, {33366667 * time.Nanosecond, 5, "0.03337"},
	} {
		var w writer
		require.Equal(t, tt.want, string(w.seconds(tt.d, tt.decimals).b))
	}
}

// Without parts there is nothing of low latency in a playlist.
func TestNoParts(t *testing.T) {
	s := newSession(t, Config{Part: -1})
	s.feedPattern(&streamtest.Pattern{}, ms(20500))
	require.NotContains(t, s.text(Video), "PART")
	require.NotContains(t, s.text(Video), "LAST-PART")
	require.Contains(t, s.text(Video), "CAN-BLOCK-RELOAD=YES")
	require.Len(t, s.playlist(Video).Segments, 10)
	_, err := s.p.Open(t.Context(), s.p.Secret()+"/vp1.m4s", noAddr)
	require.ErrorIs(t, err, stream.ErrNotFound)
	require.Zero(t, s.parts)
}
