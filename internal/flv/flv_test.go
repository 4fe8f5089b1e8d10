package flv_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/stream"
)

// The clips were made by
//
//	ffmpeg -f lavfi -i testsrc2=s=96x64:r=25 -f lavfi -i sine=440:r=44100 -t 0.6 -c:v libx264 -preset veryfast -g 10 -bf 2 -b:v 40k -pix_fmt yuv420p -c:a aac -b:a 24k -ac 2 avc_aac.flv
//	ffmpeg -f lavfi -i testsrc2=s=100x50:r=25 -t 0.2 -c:v libx264 -profile:v high422 -pix_fmt yuv422p10le -flags +ildct+ilme -x264-params interlaced=1 avc422i.flv
//	ffmpeg -f lavfi -i sine=440:r=44100 -t 0.2 -c:a libmp3lame -b:a 32k -ac 1 mp3.flv
func clip(t testing.TB, name string) []byte {
	b, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return b
}

// ivf returns the frames of an IVF file.
func ivf(t testing.TB, name string) (frames [][]byte) {
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	for b = b[32:]; len(b) > 0; {
		n := 12 + binary.LittleEndian.Uint32(b)
		frames, b = append(frames, b[12:n]), b[n:]
	}
	return frames
}

// hevc returns the access units of an H.265 clip, which begin with a delimiter.
func hevc(t testing.TB, name string) (aus [][]byte) {
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	for u := range nal.Units(nal.AppendFromAnnexB(nil, b)) {
		if h265.Type(u) == h265.TypeAUD {
			aus = append(aus, nil)
		}
		aus[len(aus)-1] = nal.Append(aus[len(aus)-1], u)
	}
	return aus
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// sink keeps what it is given.
type sink struct {
	sets     [][]*stream.Track // of every SetTracks
	metadata []stream.Metadata
	frames   []*stream.Frame
	err      error // to return
}

func (s *sink) SetTracks(tracks ...*stream.Track) error {
	s.sets = append(s.sets, tracks)
	return s.err
}
func (s *sink) SetMetadata(m stream.Metadata) { s.metadata = append(s.metadata, m) }
func (s *sink) Write(f *stream.Frame) error {
	s.frames = append(s.frames, f)
	return s.err
}

// tracks returns those in force.
func (s *sink) tracks() []*stream.Track {
	if len(s.sets) == 0 {
		return nil
	}
	return s.sets[len(s.sets)-1]
}

var epoch = time.Unix(1700000000, 0)

// read demuxes a whole FLV stream.
func read(t testing.TB, b []byte) (*sink, *flv.Demuxer) {
	s := &sink{}
	d := &flv.Demuxer{Sink: s}
	r := flv.Reader{R: bytes.NewReader(b), Demuxer: d, Now: func() time.Time { return epoch }}
	require.NoError(t, r.ReadAll())
	return s, d
}

// write muxes what a sink has into an FLV stream, a sequence header wherever a
// track appears.
func write(t testing.TB, o flv.Options, s *sink) []byte {
	b := flv.AppendFileHeader(nil, true, true)
	body, err := flv.AppendMetadataBody(nil, o.MetadataFor(s.tracks(), nil))
	require.NoError(t, err)
	b, err = flv.AppendTag(b, flv.TagData, 0, nil, body)
	require.NoError(t, err)
	sent := map[uint8]*stream.Track{}
	for _, f := range s.frames {
		if sent[f.Track.ID] != f.Track {
			sent[f.Track.ID] = f.Track
			config, err := o.AppendConfigBody(nil, f.Track)
			require.NoError(t, err)
			if config != nil {
				b, err = flv.AppendTag(b, flv.TagType(f.Track), flv.Timestamp(f), nil, config)
				require.NoError(t, err)
			}
		}
		b, err = o.AppendFrameTag(b, f)
		require.NoError(t, err)
	}
	return b
}

// requireSame requires that two sinks have the same frames of equal tracks.
func requireSame(t testing.TB, want, got *sink) {
	t.Helper()
	require.Len(t, got.frames, len(want.frames))
	for i, f := range want.frames {
		g := *got.frames[i]
		require.True(t, f.Track.Same(g.Track), "frame %d: %+v became %+v", i, f.Track, g.Track)
		w := *f
		w.Track, g.Track, w.Time, g.Time = nil, nil, epoch, epoch
		require.Equal(t, w, g, "frame %d", i)
	}
}

func TestClip(t *testing.T) {
	s, d := read(t, clip(t, "avc_aac.flv"))
	require.Zero(t, d.Dropped())

	tracks := s.tracks()
	require.Len(t, s.sets, 2)
	require.Len(t, tracks, 2)
	require.Same(t, s.sets[0][0], tracks[0], "unchanged tracks keep their pointer")
	require.Equal(t, "avc1.64000a", tracks[0].CodecString())
	require.Equal(t, "mp4a.40.2", tracks[1].CodecString())
	require.Equal(t, 44100, tracks[1].Rate)
	require.Equal(t, 2, tracks[1].Channels)

	require.Len(t, s.metadata, 1)
	require.Equal(t, 96., s.metadata[0]["width"])
	require.Contains(t, s.metadata[0]["encoder"], "Lavf", "nothing else is lost")

	// ffprobe -show_packets says the same.
	var keys []time.Duration
	var pictures, sounds, free, late int
	for _, f := range s.frames {
		require.Equal(t, epoch, f.Time)
		if f.Track == tracks[1] {
			sounds++
			require.True(t, f.Key)
			require.Equal(t, f.DTS, f.PTS)
			continue
		}
		pictures++
		if f.Key {
			keys = append(keys, f.PTS)
		}
		if f.Discardable {
			free++
		}
		if f.PTS > f.DTS {
			late++
		}
	}
	require.Equal(t, 15, pictures)
	require.Equal(t, 27, sounds)
	require.Equal(t, []time.Duration{80 * time.Millisecond, 480 * time.Millisecond}, keys)
	require.Positive(t, free)
	require.Positive(t, late)

	again, _ := read(t, write(t, flv.Options{}, s))
	requireSame(t, s, again)
}

// TestRoundTrips demuxes what was muxed, for every codec and both dialects.
func TestRoundTrips(t *testing.T) {
	video := func(codec stream.Codec, data [][]byte, first func([]byte) bool) *sink {
		// The demuxer finds the configuration in the frames.
		s := &sink{}
		d := &flv.Demuxer{Sink: s}
		for i, b := range data {
			f := &stream.Frame{Track: &stream.Track{ID: 1, Codec: codec}, DTS: time.Duration(i) * 40 * time.Millisecond, Key: first(b), Data: b}
			f.PTS = f.DTS
			if codec == stream.H265 {
				f.PTS += time.Duration(i%3-1) * 40 * time.Millisecond
			}
			head, err := flv.AppendFrameHeader(nil, f)
			require.NoError(t, err)
			require.NoError(t, d.Tag(flv.TagVideo, int64(40*i), append(head, b...), epoch))
		}
		require.Zero(t, d.Dropped())
		require.Len(t, s.frames, len(data))
		return s
	}
	no := func([]byte) bool { return false }
	audio := func(track *stream.Track, data [][]byte) *sink {
		s := &sink{}
		require.NoError(t, s.SetTracks(track))
		for i, b := range data {
			dts := time.Duration(i) * 20 * time.Millisecond
			s.frames = append(s.frames, &stream.Frame{Track: track, DTS: dts, PTS: dts, Key: true, Data: b})
		}
		return s
	}
	mp3, _ := read(t, clip(t, "mp3.flv"))
	require.Equal(t, &stream.Track{ID: 2, Codec: stream.MP3, Rate: 44100, Channels: 1}, mp3.tracks()[0])
	interlaced, _ := read(t, clip(t, "avc422i.flv"))
	head := unhex(t, "4f707573486561640102380180bb0000000000")

	for name, c := range map[string]struct {
		s     *sink
		codec string
		o     flv.Options
		keys  int
	}{
		"H265":               {s: video(stream.H265, hevc(t, "../h265/testdata/main.h265"), no), codec: "hvc1.1.6.L30.90", keys: 2},
		"H265 legacy":        {s: video(stream.H265, hevc(t, "../h265/testdata/main.h265"), no), codec: "hvc1.1.6.L30.90", keys: 2, o: flv.Options{LegacyHEVC: true}},
		"H265 layers":        {s: video(stream.H265, hevc(t, "../h265/testdata/layers10.h265"), no), codec: "hvc1.2.4.L30.90", keys: 2},
		"H264 10 bits":       {s: interlaced, codec: "avc1.7a0015", keys: 1},
		"AV1":                {s: video(stream.AV1, ivf(t, "../av1/testdata/aom.ivf"), no), codec: "av01.0.00M.08", keys: 2},
		"AV1 of another one": {s: video(stream.AV1, ivf(t, "../av1/testdata/rav1e.ivf"), no), codec: "av01.0.31M.08", keys: 2},
		"VP9":                {s: video(stream.VP9, ivf(t, "../vpx/testdata/vp9.ivf"), no), codec: "vp09.00.10.08", keys: 2},
		"VP9 profile 3":      {s: video(stream.VP9, ivf(t, "../vpx/testdata/vp9p3.ivf"), no), codec: "vp09.03.10.10", keys: 2},
		"VP8":                {s: video(stream.VP8, ivf(t, "../vpx/testdata/vp8.ivf"), no), codec: "vp8", keys: 2},
		"MP3":                {s: mp3, codec: "mp4a.6B"},
		"Opus":               {s: audio(&stream.Track{ID: 2, Codec: stream.Opus, Rate: 48000, Channels: 2, Config: head}, [][]byte{{0xfc, 1}, {0xfc, 2}}), codec: "opus"},
		"AC3":                {s: audio(&stream.Track{ID: 2, Codec: stream.AC3, Rate: 48000, Channels: 2}, [][]byte{clip(t, "../../ac3/testdata/sine.ac3")[:256]}), codec: "ac-3"},
		"A-law":              {s: audio(&stream.Track{ID: 2, Codec: stream.PCMA, Rate: 8000, Channels: 1}, [][]byte{{1, 2, 3}}), codec: ""},
		"µ-law":              {s: audio(&stream.Track{ID: 2, Codec: stream.PCMU, Rate: 8000, Channels: 2}, [][]byte{{1, 2, 3}}), codec: ""},
	} {
		t.Run(name, func(t *testing.T) {
			require.NotEmpty(t, c.s.frames)
			require.Len(t, c.s.tracks(), 1)
			require.Equal(t, c.codec, c.s.tracks()[0].CodecString())
			if c.keys > 0 {
				n := 0
				for _, f := range c.s.frames {
					if f.Key {
						n++
					}
				}
				require.Equal(t, c.keys, n)
			}
			got, d := read(t, write(t, c.o, c.s))
			require.Zero(t, d.Dropped())
			requireSame(t, c.s, got)
			require.Len(t, got.metadata, 1)
		})
	}
}
