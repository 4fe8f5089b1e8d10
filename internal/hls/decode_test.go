package hls

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// Initialization segment and parts hold the frames that went in, no matter how
// they were cut.
func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name string
		src  interface {
			Tracks() []*stream.Track
		}
		frames func(n int) []*stream.Frame
	}{
		{"clip", &streamtest.Source{}, nil},
		{"clip with B-frames", &streamtest.Source{BFrames: true}, nil},
		{"HEVC and Opus", &streamtest.Pattern{Video: stream.H265, Audio: stream.Opus, FPS: 30}, nil},
		{"AV1 and MP3", &streamtest.Pattern{Video: stream.AV1, Audio: stream.MP3, FPS: 24}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession(t, Config{})
			s.p.SetTracks(tt.src.Tracks()...)
			want := map[stream.Kind][]*stream.Frame{}
			frames := (&streamtest.Source{}).Frames()
			switch src := tt.src.(type) {
			case *streamtest.Source:
				frames = src.Frames()
			case *streamtest.Pattern:
				frames = src.Frames(-1)
			}
			for f := range until(frames, 9*time.Second) {
				want[f.Track.Kind()] = append(want[f.Track.Kind()], f)
				s.add(f)
			}
			s.end()
			for r, kind := range map[Rendition]stream.Kind{Video: stream.Video, Audio: stream.Audio} {
				var b []byte
				for i, seg := range s.playlist(r).Segments {
					if i == 0 {
						b = append(b, s.open(seg.Map)...)
					}
					b = append(b, s.open(seg.URI)...)
				}
				f, err := mp4.DecodeFile(bytes.NewReader(b))
				require.NoError(t, err)
				require.Len(t, f.Init.Moov.Traks, 1)
				trex := f.Init.Moov.Mvex.Trex
				rate := int(f.Init.Moov.Trak.Mdia.Mdhd.Timescale)
				n := 0
				end := uint64(0)
				for _, segment := range f.Segments {
					for _, fragment := range segment.Fragments {
						samples, err := fragment.GetFullSamples(trex)
						require.NoError(t, err)
						for _, sample := range samples {
							w := want[kind][n]
							require.EqualValues(t, stream.Ticks(w.DTS, rate), sample.DecodeTime)
							require.Equal(t, stream.Ticks(w.PTS, rate), sample.PresentationTime())
							require.Equal(t, w.Data, sample.Data)
							require.True(t, n == 0 || end == sample.DecodeTime, "frame %d: the one before ends at %d, it begins at %d", n, end, sample.DecodeTime)
							end = sample.DecodeTime + uint64(sample.Dur)
							n++
						}
					}
				}
				require.Len(t, want[kind], n)
			}
		})
	}
}

// dump writes a presentation to a directory as a web server would show it.
func (s *session) dump(dir string, ts bool) {
	write := func(name string, b []byte) {
		name = filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(s.t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(s.t, os.WriteFile(name, b, 0o600))
	}
	m, err := s.p.Multivariant(s.t.Context(), noAddr, MultivariantOptions{TS: ts, Prefix: "list/"})
	require.NoError(s.t, err)
	write("index.m3u8", m)
	for _, r := range usual {
		if s.full[r] == nil || ts != (r == TS) {
			continue
		}
		write("list/"+r.String()+".m3u8", []byte(s.text(r)))
		for _, seg := range s.playlist(r).Segments {
			for _, uri := range append([]string{seg.Map, seg.URI}, partURIs(seg.Parts)...) {
				if uri != "" && !seg.Gap {
					write(strings.TrimPrefix(uri, "../"), s.open(uri))
				}
			}
			if seg.Key.URI != "" {
				key, err := s.p.Key(seg.Key.URI)
				require.NoError(s.t, err)
				write("list/"+seg.Key.URI, key.Bytes[:])
			}
		}
	}
}

// ffmpeg plays what we make, clear and encrypted, CMAF and TS, and finds every
// frame, without a complaint.
func TestFFmpeg(t *testing.T) {
	needTools(t, exec.LookPath, "ffmpeg", "ffprobe")
	for _, tt := range []struct {
		name string
		c    Config
		src  streamtest.Source
		ts   bool
		cut  bool // a republish in the middle
	}{
		{name: "CMAF"},
		{name: "CMAF with B-frames", src: streamtest.Source{BFrames: true}},
		{name: "CMAF encrypted", c: Config{Encrypt: true, KeySegments: 2}},
		{name: "audio only", src: streamtest.Source{NoVideo: true}},
		{name: "video only", src: streamtest.Source{NoAudio: true}},
		{name: "CMAF after a republish", cut: true},
		{name: "CMAF encrypted after a republish", cut: true, c: Config{Encrypt: true, KeySegments: 2}},
		{name: "TS", ts: true},
		{name: "TS with B-frames", ts: true, src: streamtest.Source{BFrames: true}},
		{name: "TS encrypted", ts: true, c: Config{Encrypt: true, KeySegments: 2}},
		{name: "TS after a republish", ts: true, cut: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.MediaPrefix, tt.c.TSAlways = "../", true
			tt.c.TS = func() TSMuxer { return &mpegts.Muxer{} }
			s := newSession(t, tt.c)
			s.untimed = tt.cut
			s.p.SetTracks(tt.src.Tracks()...)
			var want [2]int
			count := func(f *stream.Frame) {
				want[f.Track.Kind()-stream.Video]++
				s.add(f)
			}
			const length = 12 * time.Second
			for f := range until(tt.src.Frames(), length) {
				count(f)
			}
			if tt.cut {
				again := streamtest.Source{Start: length + 40*time.Millisecond}
				first := true
				for f := range until(again.Frames(), 2*length) {
					f.Discontinuity, first = first, false
					count(f)
				}
			}
			s.end()
			dir := t.TempDir()
			s.dump(dir, tt.ts)
			out, err := exec.Command("ffmpeg", "-nostdin", "-v", "warning", "-allowed_extensions", "ALL", "-i", filepath.Join(dir, "index.m3u8"),
				"-map", "0", "-f", "framehash", "-hash", "md5", "-").CombinedOutput()
			require.NoError(t, err, "%s", out)
			var got [2]int
			streams := 0
			kinds := map[string]int{}
			for line := range strings.Lines(string(out)) {
				line = strings.TrimSpace(line)
				switch {
				case strings.HasPrefix(line, "#media_type"):
					var n, kind string
					_, err := fmt.Sscanf(strings.NewReplacer(":", "", ",", "").Replace(line), "#media_type %s %s", &n, &kind)
					require.NoError(t, err)
					kinds[n] = strings.Index("va", kind[:1])
					streams++
				case strings.HasPrefix(line, "#"), line == "":
				default:
					n, _, ok := strings.Cut(line, ",")
					k, known := kinds[strings.TrimSpace(n)]
					require.True(t, ok && known, "ffmpeg says: %s", line)
					got[k]++
				}
			}
			require.Equal(t, btoi(want[0] > 0)+btoi(want[1] > 0), streams)
			require.Equal(t, want[0], got[0], "pictures")
			// An AAC decoder puts out what it was primed with, or leaves it out.
			require.InDelta(t, want[1], got[1], 2, "sound")
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
