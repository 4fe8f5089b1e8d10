package hls

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/Eyevinn/hls-m3u8/m3u8"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// The stored playlists list all there was, obey the rules, and only grow.
func TestArchive(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypt=%t", encrypt), func(t *testing.T) {
			s := newSession(t, Config{Encrypt: encrypt, KeySegments: 3, FirstSequence: 7, FirstDiscontinuity: 2})
			s.feedPattern(&streamtest.Pattern{}, ms(11000))
			next := &streamtest.Pattern{Video: stream.H265, Start: ms(12000)}
			s.p.SetTracks(next.Tracks()...)
			s.shift, s.untimed = time.Second, true
			first := true
			for f := range until(next.Frames(-1), ms(20000)) {
				f.Discontinuity, first = first, false
				s.add(f)
			}
			s.end()

			var a Archive
			require.Nil(t, a.Playlist(Video, true))
			require.Nil(t, a.Multivariant(""))
			for _, r := range []Rendition{Video, Audio} {
				reloads := hlscheck.Reloads{Grows: true}
				for i, seg := range s.segments[r] {
					a.Add(seg, i != 2)
					ended := i == len(s.segments[r])-1
					text := a.Playlist(r, ended)
					require.Empty(t, reloads.Add(epoch, text), "%s", text)
					p := reloads.Playlist()
					require.Equal(t, ended, p.Ended)
					require.Equal(t, "EVENT", p.Type)
					require.Len(t, p.Segments, i+1)
					require.Equal(t, a.Len(r), i+1)
					require.EqualValues(t, 7, p.MediaSequence)
					require.EqualValues(t, 2, p.DiscontinuitySequence)
					last := p.Segments[i]
					require.Equal(t, seg.Name(), last.URI)
					require.Equal(t, i == 2, last.Gap)
					require.Equal(t, seg.Init.Name(), last.Map)
					require.Equal(t, encrypt, last.Key.URI != "")
					if encrypt {
						require.Equal(t, seg.Key.Name(), last.Key.URI)
					}
					require.Equal(t, seg.Sequence, last.Sequence)
					require.Equal(t, seg.DiscontinuitySequence, last.DiscontinuitySequence)
				}
			}
			text := a.Multivariant("there/")
			variants, media, found := hlscheck.Multivariant(text)
			require.Empty(t, found, "%s", text)
			require.Len(t, variants, 1)
			require.Equal(t, "there/v.m3u8", variants[0].URI)
			require.Equal(t, "there/a.m3u8", media[0]["URI"])
			_, kind, err := m3u8.DecodeFrom(bytes.NewReader(a.Playlist(Video, true)), true)
			require.NoError(t, err)
			require.Equal(t, m3u8.MEDIA, kind)
		})
	}
}

// Without a picture, and with nothing that could be stored.
func TestArchiveOfLittle(t *testing.T) {
	s := newSession(t, Config{})
	s.feedPattern(&streamtest.Pattern{NoVideo: true, Audio: stream.Opus}, ms(5000))
	s.end()
	var a Archive
	a.Add(s.segments[Audio][0], false)
	require.Nil(t, a.Multivariant(""))
	require.Contains(t, string(a.Playlist(Audio, false)), "#EXT-X-GAP\n")
	a.Add(s.segments[Audio][1], true)
	variants, media, found := hlscheck.Multivariant(a.Multivariant(""))
	require.Empty(t, found)
	require.Empty(t, media)
	require.Equal(t, "a.m3u8", variants[0].URI)
}

// What is to be stored keeps no media alive.
func TestBare(t *testing.T) {
	s := newSession(t, Config{})
	s.feedPattern(&streamtest.Pattern{}, ms(5000))
	b := s.segments[Video][0].Bare()
	require.Equal(t, s.segments[Video][0].Name(), b.Name())
	require.Empty(t, b.Content().Data)
	require.Empty(t, b.Parts)
}
