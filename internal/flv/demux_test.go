package flv_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/stream"
)

const (
	avcC  = "014d4028ffe10018674d4028eca03c0113f2e022000007d20001d4c01e30632c01000568ebe3cb20"
	avcC2 = "01640028ffe1001967640028acd940780227e5c04400000fa40003a9803c60c65801000668ebe3cb22c0fdf8f800"
	idr   = "00000002" + "6588"
	slice = "00000002" + "4188"
	asc   = "1210"
	hevcC = "0101600000009000000000001ef000fcfdf8f800000f03" +
		"a00001001840010c01ffff01600000030090000003000003001e959809" +
		"a10001002842010101600000030090000003000003001ea030810596566924caf0168080000003008000000c84" +
		"a2000100074401c172b42240"
	four = "61766331" // avc1
	hvc1 = "68766331"
	mp4a = "6d703461"
	opus = "4f707573"
)

// feed gives tags, written in hexadecimal behind their type ("v", "a" or "d")
// to a new Demuxer, one a millisecond.
func feed(t *testing.T, tags ...string) (*sink, *flv.Demuxer) {
	t.Helper()
	s := &sink{}
	d := &flv.Demuxer{Sink: s}
	for i, tag := range tags {
		require.NoError(t, one(t, d, int64(i), tag), "tag %d", i)
	}
	return s, d
}

func one(t *testing.T, d *flv.Demuxer, ts int64, tag string) error {
	t.Helper()
	typ := map[byte]byte{'v': flv.TagVideo, 'a': flv.TagAudio, 'd': flv.TagData, 'x': 15}[tag[0]]
	return d.Tag(typ, ts, unhex(t, strings.ReplaceAll(tag[1:], " ", "")), epoch)
}

func TestTags(t *testing.T) {
	const ms = time.Millisecond
	type frame struct {
		dts, pts time.Duration
		data     string
		key      bool
	}
	for _, c := range []struct {
		name    string
		tags    []string
		tracks  string // codec strings in force at the end
		sets    int    // calls of SetTracks
		frames  []frame
		dropped uint64
	}{
		{"nothing", []string{"v", "a", "d", "x00"}, "", 0, nil, 0},
		{"empty legacy bodies", []string{"v17", "v1701", "v1701000000", "v1700000000", "aaf", "aaf00", "aaf01"}, "", 0, nil, 0},
		{"AVC and AAC", []string{"v17 00 000000" + avcC, "aaf 00" + asc, "v17 01 000000" + idr, "aaf 01 21", "v27 01 000028" + slice},
			"avc1.4d4028 mp4a.40.2", 2, []frame{{2 * ms, 2 * ms, idr, true}, {3 * ms, 3 * ms, "21", true}, {4 * ms, 44 * ms, slice, false}}, 0},
		{"negative composition time", []string{"v17 00 000000" + avcC, "v27 01 ffffff" + slice, "v27 01 800000" + slice},
			"avc1.4d4028", 1, []frame{{1 * ms, 0, slice, false}, {2 * ms, 2*ms - 8388608*ms, slice, false}}, 0},
		{"frames before their config", []string{"v17 01 000000" + idr, "aaf 01 21", "v17 00 000000" + avcC, "v17 01 000000" + idr},
			"avc1.4d4028", 1, []frame{{3 * ms, 3 * ms, idr, true}}, 2},
		{"the same config again", []string{"v17 00 000000" + avcC, "v17 00 000000" + avcC, "aaf 00" + asc, "aaf 00" + asc}, "avc1.4d4028 mp4a.40.2", 2, nil, 0},
		{"another config", []string{"v17 00 000000" + avcC, "v17 00 000000" + avcC2, "aaf 00" + asc, "aaf 00 1190"}, "avc1.640028 mp4a.40.2", 4, nil, 0},
		{"another codec", []string{"v17 00 000000" + avcC, "v90" + hvc1 + hevcC, "v27 01 000000" + slice}, "hvc1.1.6.L30.90", 2, nil, 1},
		{"IDR without the flag", []string{"v17 00 000000" + avcC, "v27 01 000000" + idr}, "avc1.4d4028", 1, []frame{{1 * ms, 1 * ms, idr, true}}, 0},
		{"recovery point with the flag", []string{"v17 00 000000" + avcC, "v17 01 000000" + slice}, "avc1.4d4028", 1, []frame{{1 * ms, 1 * ms, slice, true}}, 0},
		{"lengths past the end", []string{"v17 00 000000" + avcC, "v27 01 000000 00000003 4188"}, "avc1.4d4028", 1, nil, 1},
		{"no picture", []string{"v17 00 000000" + avcC, "v27 01 000000 00000002 0601"}, "avc1.4d4028", 1, nil, 1},
		{"start codes in place of lengths", []string{"v17 00 000000" + avcC, "v17 01 000000 00000001 09f0 000001 6588"},
			"avc1.4d4028", 1, []frame{{1 * ms, 1 * ms, "00000002 09f0" + idr, true}}, 0},
		{"end of sequence, command", []string{"v17 00 000000" + avcC, "v17 02 000000", "v57 00", "v92" + four, "vd1 00"}, "avc1.4d4028", 1, nil, 0},
		{"legacy HEVC", []string{"v1c 00 000000" + hevcC, "v1c 01 000001 00000003 260188", "v2c 01 000000 00000003 020188"},
			"hvc1.1.6.L30.90", 1, []frame{{1 * ms, 2 * ms, "00000003 260188", true}, {2 * ms, 2 * ms, "00000003 020188", false}}, 0},
		{"enhanced AVC", []string{"v90" + four + avcC, "v91" + four + "000005" + idr, "va3" + four + slice},
			"avc1.4d4028", 1, []frame{{1 * ms, 6 * ms, idr, true}, {2 * ms, 2 * ms, slice, false}}, 0},
		{"enhanced AVC, cut", []string{"v90" + four + avcC, "v91" + four + "0000", "v91 6176", "v91", "v97 0300"}, "avc1.4d4028", 1, nil, 4},
		{"metadata frame, MPEG-2 TS descriptor", []string{"v94" + hvc1 + "0200", "v95 61763031 00", "vd4" + hvc1 + "0200"}, "", 0, nil, 0},
		{"enhanced AAC", []string{"a90" + mp4a + asc, "a91" + mp4a + "21", "a92" + mp4a, "a94" + mp4a + "0002"}, "mp4a.40.2", 1, []frame{{1 * ms, 1 * ms, "21", true}}, 0},
		{"AAC of unknown channels", []string{"aaf 00 1180", "aaf 01 21"}, "mp4a.40.2", 1, []frame{{1 * ms, 1 * ms, "21", true}}, 0},
		{"Opus", []string{"a90" + opus + "4f707573486561640102380180bb0000000000", "a90" + opus + "4f70757354616773", "a91" + opus + "fc01"},
			"opus", 1, []frame{{2 * ms, 2 * ms, "fc01", true}}, 0},
		{"Opus without header", []string{"a91" + opus + "fc01"}, "opus", 1, []frame{{0, 0, "fc01", true}}, 0},
		{"MP3, 8 kHz MP3, G.711", []string{"a2f fffb90c4", "ae6 ffe328c4", "a73 d5d5", "a82 ff", "a83"}, "", 4,
			[]frame{{0, 0, "fffb90c4", true}, {1 * ms, 1 * ms, "ffe328c4", true}, {2 * ms, 2 * ms, "d5d5", true}, {3 * ms, 3 * ms, "ff", true}}, 0},
		{"MP3 and AC-3 without header", []string{"a2f 0000", "a91 61632d33 0b77", "a91 2e6d7033 ff"}, "", 0, nil, 3},
		{"ModEx", []string{"a90" + mp4a + asc, "a97 02 00f423 01" + mp4a + "21", "a97 ff 0002 000001 01" + mp4a + "21", "a97 00 00 07 02 000002 01" + mp4a + "21"},
			"mp4a.40.2", 1, []frame{{ms + 62499, ms + 62499, "21", true}, {2*ms + 1, 2*ms + 1, "21", true}, {3*ms + 2, 3*ms + 2, "21", true}}, 0},
		{"ModEx of another type, too short, cut", []string{"a90" + mp4a + asc, "a97 02 000001 11" + mp4a + "21", "a97 01 0001 01" + mp4a + "21", "a97 03 000001", "a97 ff 00", "a97 ff ffff 01"},
			"mp4a.40.2", 1, []frame{{1 * ms, 1 * ms, "21", true}, {2 * ms, 2 * ms, "21", true}}, 3},
		{"ModEx of video", []string{"v90" + four + avcC, "v97 02 000064 01" + four + "000000" + idr}, "avc1.4d4028", 1, []frame{{ms + 100, ms + 100, idr, true}}, 0},
		{"one of many tracks", []string{"v96 00" + four + "00" + avcC, "v96 01" + four + "00 000000" + idr, "v96 01" + four + "01 000000" + idr, "va6 03" + four + "00" + slice},
			"avc1.4d4028", 1, []frame{{1 * ms, 1 * ms, idr, true}, {3 * ms, 3 * ms, slice, false}}, 0},
		{"many tracks", []string{"a95 10" + mp4a + "01 000002 1190 00 000002" + asc, "a95 11" + mp4a + "00 000001 21 01 000002 4242", "a95 11" + mp4a + "01 000001 21"},
			"mp4a.40.2", 1, []frame{{1 * ms, 1 * ms, "21", true}}, 0},
		{"many tracks and codecs", []string{"a95 20 664c6143 01 000001 00" + mp4a + "00 000002" + asc, "a95 21" + mp4a + "00 000001 21"},
			"mp4a.40.2", 1, []frame{{1 * ms, 1 * ms, "21", true}}, 0},
		{"malformed multitrack", []string{"a95", "a95 31" + mp4a, "a95 15" + mp4a + "00", "a95 11 6d70", "a95 11" + mp4a + "00 0000", "a95 11" + mp4a + "00 000002 21", "a95 21 6d70", "a95 21" + mp4a, "a95 17" + mp4a},
			"", 0, nil, 9},
		{"data", []string{"d02 0006 6f6e54657874 05", "d02 000d 40736574446174614672616d65 02 0006 6f6e54657874 02 0001 61", "d02 0011 7c52746d7053616d706c65416363657373 0100 0100"},
			"", 1, []frame{{0, 0, "02 0006 6f6e54657874 05", true}, {1 * ms, 1 * ms, "02 0006 6f6e54657874 02 0001 61", true}}, 0},
		{"malformed data", []string{"d00", "d02", "d02 0005 61", "d02 0000", "d02 0001 61 ff", "d03"}, "", 0, nil, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, d := feed(t, c.tags...)
			var names []string
			for _, tr := range s.tracks() {
				if n := tr.CodecString(); n != "" {
					names = append(names, n)
				}
			}
			if c.tracks != "" {
				require.Equal(t, c.tracks, strings.Join(names, " "))
			}
			require.Len(t, s.sets, c.sets)
			require.Len(t, s.frames, len(c.frames))
			for i, f := range c.frames {
				got := s.frames[i]
				require.Equal(t, f, frame{got.DTS, got.PTS, f.data, got.Key})
				require.Equal(t, unhex(t, strings.ReplaceAll(f.data, " ", "")), got.Data)
				require.NotNil(t, got.Track)
			}
			require.Equal(t, c.dropped, d.Dropped())
		})
	}
}

func TestErrors(t *testing.T) {
	for _, tag := range []string{
		"v12 00", "v14 00", "a0f 00", "abf 00", "a60 00", // Sorenson, VP6, PCM, Speex, Nellymoser
		"v90 76766331 00", "a90 664c6143 00", "a90 65632d33 00", // VVC, FLAC, E-AC-3
	} {
		s := &sink{}
		d := &flv.Demuxer{Sink: s}
		require.ErrorIs(t, one(t, d, 0, tag), stream.ErrUnsupported, tag)
		require.NoError(t, one(t, d, 1, tag), "once is enough")
		require.EqualValues(t, 2, d.Dropped())
		require.NoError(t, one(t, d, 2, "aaf 00"+asc), "the other track goes on")
		require.NoError(t, one(t, d, 2, "v17 00 000000"+avcC))
		require.Len(t, s.tracks(), 2)
	}
	for _, tag := range []string{
		"v17 00 000000 02", "v1c 00 000000 0101", "v90 61763031 00", "v90 76703039 00", "aaf 00 00", "a90" + opus + "4f",
		"aaf 00 1210" + strings.Repeat("00", 1<<16), "v17 00 000000" + avcC + strings.Repeat("00", 1<<16),
		"a90" + opus + "4f707573486561640102380180bb0000000000" + strings.Repeat("00", 1<<16),
	} {
		s := &sink{}
		require.ErrorIs(t, one(t, &flv.Demuxer{Sink: s}, 0, tag), flv.ErrMalformed, tag[:min(len(tag), 20)])
		require.Empty(t, s.sets)
	}
	broken := errors.New("broken")
	for _, tags := range [][]string{
		{"v17 00 000000" + avcC}, {"aaf 00" + asc}, {"d02 0006 6f6e54657874 05"}, {"a73 d5"}, {"a2f fffb90c4"}, {"a91" + opus + "fc"},
		{"!v17 00 000000" + avcC, "v27 01 000000" + slice}, {"!aaf 00" + asc, "aaf 01 21"},
	} {
		s := &sink{}
		d := &flv.Demuxer{Sink: s}
		for i, tag := range tags {
			if tag[0] == '!' {
				require.NoError(t, one(t, d, 0, tag[1:]))
				continue
			}
			s.err = broken
			require.ErrorIs(t, one(t, d, int64(i), tag), broken)
		}
	}
}

// TestLengthSizes checks that NAL units behind other lengths than 4 bytes, and
// the configuration that announces them, come out with 4.
func TestLengthSizes(t *testing.T) {
	for size, au := range map[byte]string{1: "026588", 2: "0002 6588", 3: "000002 6588"} {
		record := unhex(t, avcC)
		record[4] = 0xfc | (size - 1)
		s := &sink{}
		d := &flv.Demuxer{Sink: s}
		require.NoError(t, d.Tag(flv.TagVideo, 0, append(unhex(t, "1700000000"), record...), epoch))
		require.Equal(t, unhex(t, avcC), s.tracks()[0].Config)
		require.NoError(t, one(t, d, 1, "v17 01 000000"+au))
		require.Equal(t, unhex(t, idr), s.frames[0].Data)
		require.NoError(t, one(t, d, 1, "v17 01 000000 ff"))
		require.EqualValues(t, 1, d.Dropped())
	}
	record := unhex(t, hevcC)
	record[21] &^= 2 // 2 bytes
	s := &sink{}
	d := &flv.Demuxer{Sink: s}
	require.NoError(t, d.Tag(flv.TagVideo, 0, append(unhex(t, "90"+hvc1), record...), epoch))
	require.Equal(t, unhex(t, hevcC), s.tracks()[0].Config)
	require.NoError(t, one(t, d, 1, "v93"+hvc1+"0003 260188"))
	require.Equal(t, unhex(t, "00000003260188"), s.frames[0].Data)
}

// TestInBand checks that parameter sets inside a frame make a new track before
// it, once.
func TestInBand(t *testing.T) {
	c, err := h264.ParseConfig(unhex(t, avcC2))
	require.NoError(t, err)
	au := nal.Append(nal.Append(nal.Append(nil, c.SPS[0]), c.PPS[0]), []byte{0x65, 0x88})
	tag := func() []byte { return append(unhex(t, "1701000000"), au...) }

	s, d := feed(t, "v17 00 000000"+avcC, "aaf 00"+asc)
	for range 3 {
		require.NoError(t, d.Tag(flv.TagVideo, 40, tag(), epoch))
	}
	require.Len(t, s.sets, 3)
	require.Len(t, s.frames, 3)
	require.Equal(t, unhex(t, avcC2), s.tracks()[0].Config)
	require.Same(t, s.tracks()[0], s.frames[0].Track)
	require.Same(t, s.sets[1][1], s.tracks()[1], "the audio track stays")

	// Without a sequence header, and behind 2-byte lengths, which only it can
	// announce.
	s, d = feed(t)
	require.NoError(t, d.Tag(flv.TagVideo, 40, tag(), epoch))
	require.Equal(t, unhex(t, avcC2), s.tracks()[0].Config)

	record := unhex(t, avcC)
	record[4] = 0xfd
	s, d = feed(t)
	require.NoError(t, d.Tag(flv.TagVideo, 0, append(unhex(t, "1700000000"), record...), epoch))
	small := unhex(t, "1701000000")
	for u := range nal.Units(au) {
		small = append(append(small, 0, byte(len(u))), u...)
	}
	for range 2 { // the second time behind the updated configuration
		require.NoError(t, d.Tag(flv.TagVideo, 40, append([]byte{}, small...), epoch))
	}
	require.Len(t, s.sets, 2)
	require.Equal(t, unhex(t, avcC2), s.tracks()[0].Config)
	require.Equal(t, au, s.frames[1].Data)
}

func prop(name string, value any) amf.Property { return amf.Property{Name: name, Value: value} }

func TestMetadata(t *testing.T) {
	object := amf.Object{
		prop("title", "x"), prop("bad", math.NaN()), prop("worse", math.Inf(1)), prop("n", 25.), prop("", 1.),
		prop("list", []any{1., "a", math.NaN()}), prop("deep", amf.Object{prop("a", amf.Object{prop("b", true)})}),
		prop("long", strings.Repeat("x", 5000)), prop("undefined", amf.Undefined{}),
	}
	want := stream.Metadata{"title": "x", "n": 25., "list": []any{1., "a"}, "deep": map[string]any{"a": map[string]any{"b": true}}, "undefined": nil}
	for _, values := range [][]any{
		{"onMetaData", object}, {"@setDataFrame", "onMetaData", object}, {"onMetaData", amf.ECMAArray(object)}, {"onMetaData", nil, object},
	} {
		body, err := amf.Append(nil, values...)
		require.NoError(t, err)
		s := &sink{}
		d := &flv.Demuxer{Sink: s}
		require.NoError(t, d.Tag(flv.TagData, 0, body, epoch))
		require.Equal(t, []stream.Metadata{want}, s.metadata)
	}
	body, err := amf.Append(nil, "@clearDataFrame", "onMetaData")
	require.NoError(t, err)
	s := &sink{}
	d := &flv.Demuxer{Sink: s}
	require.NoError(t, d.Tag(flv.TagData, 0, body, epoch))
	require.Equal(t, []stream.Metadata{nil}, s.metadata)

	body, err = amf.Append(nil, "onMetaData", amf.Object{prop("x", strings.Repeat("x", 1<<18))})
	require.NoError(t, err)
	require.NoError(t, d.Tag(flv.TagData, 0, body, epoch))
	require.Len(t, s.metadata, 1)
	require.EqualValues(t, 1, d.Dropped())
}

// TestDemuxAllocs: a frame costs its Frame and nothing else.
func TestDemuxAllocs(t *testing.T) {
	d := &flv.Demuxer{Sink: discard{}}
	c, err := h264.ParseConfig(unhex(t, avcC))
	require.NoError(t, err)
	key := nal.Append(nal.Append(nal.Append(unhex(t, "1701000000"), c.SPS[0]), c.PPS[0]), []byte{0x65, 0x88})
	inter := unhex(t, "2701000028"+slice)
	ex := unhex(t, "a1"+hvc1+"000000"+"00000003020188")
	sound := unhex(t, "af0121")
	for _, tag := range []string{"v17 00 000000" + avcC, "aaf 00" + asc} {
		require.NoError(t, one(t, d, 0, tag))
	}
	for name, run := range map[string]func() error{
		"key":   func() error { return d.Tag(flv.TagVideo, 0, key, epoch) },
		"inter": func() error { return d.Tag(flv.TagVideo, 0, inter, epoch) },
		"audio": func() error { return d.Tag(flv.TagAudio, 0, sound, epoch) },
	} {
		require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _ = run() }), 1., name)
	}
	require.NoError(t, one(t, d, 0, "v90"+hvc1+hevcC))
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _ = d.Tag(flv.TagVideo, 0, ex, epoch) }), 1.)
	require.Zero(t, d.Dropped())
}

// discard is a Sink that keeps nothing.
type discard struct{}

func (discard) SetTracks(...*stream.Track) error { return nil }
func (discard) SetMetadata(stream.Metadata)      {}
func (discard) Write(*stream.Frame) error        { return nil }

func BenchmarkDemuxer(b *testing.B) {
	record := append([]byte{0x17, 0, 0, 0, 0}, unhex(b, avcC)...)
	frame := nal.Append([]byte{0x27, 1, 0, 0, 40}, append([]byte{0x41}, make([]byte, 5000)...))
	sound := append([]byte{0xaf, 1}, make([]byte, 300)...)
	for name, c := range map[string]struct {
		typ  byte
		body []byte
	}{"video": {flv.TagVideo, frame}, "audio": {flv.TagAudio, sound}} {
		b.Run(name, func(b *testing.B) {
			d := &flv.Demuxer{Sink: discard{}}
			require.NoError(b, d.Tag(flv.TagVideo, 0, record, epoch))
			require.NoError(b, d.Tag(flv.TagAudio, 0, []byte{0xaf, 0, 0x12, 0x10}, epoch))
			b.ReportAllocs()
			for b.Loop() {
				_ = d.Tag(c.typ, 40, c.body, epoch)
			}
			require.Zero(b, d.Dropped())
		})
	}
}
