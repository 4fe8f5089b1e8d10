package flv_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

// bodies are the headers of tag bodies as the specifications have them.
func TestBodies(t *testing.T) {
	const ms = time.Millisecond
	track := func(c stream.Codec, config string) *stream.Track {
		return &stream.Track{ID: 1, Codec: c, Config: unhex(t, config)}
	}
	frame := func(dts, pts time.Duration, key bool) *stream.Frame {
		return &stream.Frame{DTS: dts, PTS: pts, Key: key, Data: []byte{1}}
	}
	const head = "4f707573486561640102380180bb0000000000"
	for _, c := range []struct {
		name         string
		o            flv.Options
		track        *stream.Track
		frame        *stream.Frame
		config, body string
	}{
		{"H264 key", flv.Options{}, track(stream.H264, avcC), frame(0, 40*ms, true), "1700000000" + avcC, "1701000028"},
		{"H264, negative", flv.Options{}, track(stream.H264, ""), frame(40*ms, 0, false), "", "2701ffffd8"},
		{"H264, negative DTS", flv.Options{}, track(stream.H264, ""), frame(-40*ms, 20*ms, false), "", "2701000014"},
		{"H264, clamped", flv.Options{}, track(stream.H264, ""), frame(0, 5*time.Hour, false), "", "27017fffff"},
		{"H264, clamped below", flv.Options{}, track(stream.H264, ""), frame(5*time.Hour, 0, false), "", "2701800000"},
		{"H265 X", flv.Options{}, track(stream.H265, hevcC), frame(0, 0, true), "90" + hvc1 + hevcC, "93" + hvc1},
		{"H265", flv.Options{}, track(stream.H265, hevcC), frame(0, ms, false), "90" + hvc1 + hevcC, "a1" + hvc1 + "000001"},
		{"H265 legacy", flv.Options{LegacyHEVC: true}, track(stream.H265, hevcC), frame(0, ms, false), "1c00000000" + hevcC, "2c01000001"},
		{"AV1", flv.Options{}, track(stream.AV1, "81000c00"), frame(0, 0, false), "906176303181000c00", "a161763031"},
		{"VP9", flv.Options{}, track(stream.VP9, "000a820202020000"), frame(0, 0, true), "907670303901000000000a820202020000", "9176703039"},
		{"VP9 without config", flv.Options{}, track(stream.VP9, ""), frame(0, 0, true), "907670303901000000000a820202020000", "9176703039"},
		{"VP8", flv.Options{}, track(stream.VP8, ""), frame(0, 0, true), "", "9176703038"},
		{"AAC", flv.Options{}, track(stream.AAC, "1188"), frame(0, 0, true), "af001188", "af01"},
		{"Opus", flv.Options{}, track(stream.Opus, head), frame(0, 0, true), "90" + opus + head, "91" + opus},
		{"Opus without config", flv.Options{}, &stream.Track{Codec: stream.Opus, Channels: 2}, frame(0, 0, true), "90" + opus + head, "91" + opus},
		{"AC3", flv.Options{}, track(stream.AC3, ""), frame(0, 0, true), "9061632d33", "9161632d33"},
		{"MP3", flv.Options{}, &stream.Track{Codec: stream.MP3, Rate: 44100, Channels: 2}, frame(0, 0, true), "", "2f"},
		{"MP3 mono 22 kHz", flv.Options{}, &stream.Track{Codec: stream.MP3, Rate: 22050, Channels: 1}, frame(0, 0, true), "", "2a"},
		{"MP3 11 kHz", flv.Options{}, &stream.Track{Codec: stream.MP3, Rate: 11025, Channels: 1}, frame(0, 0, true), "", "26"},
		{"MP3 8 kHz", flv.Options{}, &stream.Track{Codec: stream.MP3, Rate: 8000, Channels: 1}, frame(0, 0, true), "", "ee"},
		{"A-law", flv.Options{}, &stream.Track{Codec: stream.PCMA, Rate: 8000, Channels: 1}, frame(0, 0, true), "", "72"},
		{"µ-law", flv.Options{}, &stream.Track{Codec: stream.PCMU, Channels: 2}, frame(0, 0, true), "", "83"},
		{"data", flv.Options{}, &stream.Track{Codec: stream.AMF0}, frame(0, 0, true), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, err := c.o.AppendConfigBody(nil, c.track)
			require.NoError(t, err)
			require.Equal(t, c.config, hex.EncodeToString(config))
			c.frame.Track = c.track
			body, err := c.o.AppendFrameHeader(nil, c.frame)
			require.NoError(t, err)
			require.Equal(t, c.body, hex.EncodeToString(body))
			require.LessOrEqual(t, len(body), flv.MaxFrameHeaderSize)
		})
	}
	for _, bad := range []*stream.Track{{}, {Codec: 99}, {Codec: stream.PCMA, Rate: 16000, Channels: 1}, {Codec: stream.PCMU, Rate: 8000, Channels: 6}} {
		_, err := flv.AppendConfigBody(nil, bad)
		require.ErrorIs(t, err, stream.ErrUnsupported)
		_, err = flv.Options{}.AppendFrameTag(nil, &stream.Frame{Track: bad})
		require.ErrorIs(t, err, stream.ErrUnsupported)
	}
}

func TestTagFraming(t *testing.T) {
	require.Equal(t, "464c5601050000000900000000", hex.EncodeToString(flv.AppendFileHeader(nil, true, true)))
	require.Equal(t, "464c5601010000000900000000", hex.EncodeToString(flv.AppendFileHeader(nil, false, true)))
	b, err := flv.AppendTag(nil, flv.TagVideo, 0x12345678, []byte{1}, []byte{2, 3})
	require.NoError(t, err)
	require.Equal(t, "09000003"+"34567812"+"000000"+"010203"+"0000000e", hex.EncodeToString(b))
	_, err = flv.AppendTag(nil, flv.TagVideo, 0, []byte{1}, make([]byte, flv.MaxTagSize))
	require.Error(t, err)
	for dts, want := range map[time.Duration]uint32{
		-time.Second: 0, 0: 0, 1499 * time.Microsecond: 1, (1<<32 + 5) * time.Millisecond: 5,
	} {
		require.Equal(t, want, flv.Timestamp(&stream.Frame{DTS: dts}))
	}
}

func TestMetadataFor(t *testing.T) {
	video := &stream.Track{ID: 1, Codec: stream.H264, Config: unhex(t, avcC)}
	sound := &stream.Track{ID: 2, Codec: stream.AAC, Rate: 44100, Channels: 2, Config: unhex(t, asc)}
	mine := stream.Metadata{
		"encoder": "x", "duration": 5., "width": 1., "height": 1., "framerate": math.NaN(), "videodatarate": 500., "audiodatarate": 64.,
		"keyframes": map[string]any{"times": []any{0.}}, "what": struct{}{}, "n": 3, "hasAudio": true,
	}
	require.Equal(t, stream.Metadata{
		"encoder": "x", "width": 1920., "height": 1080., "framerate": 29.97, "videodatarate": 500., "audiodatarate": 64., "n": 3.,
		"videocodecid": 7., "audiocodecid": 10., "audiosamplerate": 44100., "audiochannels": 2., "stereo": true, "hasVideo": true, "hasAudio": true,
	}, flv.MetadataFor([]*stream.Track{video, sound}, mine))
	require.Contains(t, mine, "duration", "not modified")
	require.Equal(t, stream.Metadata{
		"encoder": "x", "audiodatarate": 64., "n": 3., "audiocodecid": 10., "audiosamplerate": 44100., "audiochannels": 2., "stereo": true, "hasAudio": true,
	}, flv.MetadataFor([]*stream.Track{sound}, mine))
	require.Equal(t, stream.Metadata{}, flv.MetadataFor(nil, nil))
	deep := stream.Metadata{}
	for range 40 {
		deep = stream.Metadata{"a": deep}
	}
	_, err := flv.AppendMetadataBody(nil, flv.MetadataFor(nil, deep))
	require.NoError(t, err, "deeper than AMF is written")

	for codec, want := range map[stream.Codec]float64{
		stream.H265: 0x68766331, stream.AV1: 0x61763031, stream.VP8: 0x76703038, stream.VP9: 0x76703039,
		stream.MP3: 2, stream.PCMA: 7, stream.PCMU: 8, stream.Opus: 0x4f707573, stream.AC3: 0x61632d33,
	} {
		m := flv.MetadataFor([]*stream.Track{{ID: 1, Codec: codec}}, nil)
		key := codec.Kind().String() + "codecid"
		require.Equal(t, want, m[key], codec)
		_, err := flv.AppendMetadataBody(nil, m)
		require.NoError(t, err)
	}
	m := flv.Options{LegacyHEVC: true}.MetadataFor([]*stream.Track{{ID: 1, Codec: stream.H265}}, nil)
	require.Equal(t, 12., m["videocodecid"])

	body, err := flv.AppendMetadataBody(nil, flv.MetadataFor([]*stream.Track{video, sound}, mine))
	require.NoError(t, err)
	values, err := amf.Decode(body)
	require.NoError(t, err)
	require.Equal(t, "onMetaData", values[0])
	require.IsType(t, amf.ECMAArray{}, values[1])
}

func TestReader(t *testing.T) {
	good := clip(t, "avc_aac.flv")
	want, _ := read(t, good)

	s := &sink{}
	r := flv.Reader{R: iotest.OneByteReader(bytes.NewReader(good)), Demuxer: &flv.Demuxer{Sink: s}}
	require.NoError(t, r.ReadAll())
	requireSame(t, want, s)

	s, _ = read(t, good[:len(good)-flv.TagEndSize])
	requireSame(t, want, s)

	for name, c := range map[string]struct {
		in  []byte
		err error
	}{
		"empty":            {nil, nil},
		"header only":      {good[:13], nil},
		"cut in a header":  {good[:5], io.ErrUnexpectedEOF},
		"cut in a tag":     {good[:40], io.ErrUnexpectedEOF},
		"cut behind it":    {good[:13+5], io.ErrUnexpectedEOF},
		"not FLV":          {[]byte("POST / HTTP/1.1\r\n"), flv.ErrMalformed},
		"a huge header":    {append([]byte("FLV\x01\x05"), 0xff, 0xff, 0xff, 0xff), flv.ErrMalformed},
		"a tiny header":    {append([]byte("FLV\x01\x05"), 0, 0, 0, 8), flv.ErrMalformed},
		"an unknown tag":   {append(append([]byte{}, good[:13]...), make([]byte, 11)...), flv.ErrMalformed},
		"an encrypted tag": {append(append([]byte{}, good[:13]...), append([]byte{0x29}, make([]byte, 10)...)...), flv.ErrMalformed},
	} {
		r := flv.Reader{R: bytes.NewReader(c.in), Demuxer: &flv.Demuxer{Sink: &sink{}}}
		require.ErrorIs(t, r.ReadAll(), c.err, name)
	}

	b := flv.AppendFileHeader(nil, true, true)
	b, err := flv.AppendTag(b, flv.TagAudio, 0, nil, []byte{0xb0, 1}) // Speex
	require.NoError(t, err)
	b, err = flv.AppendTag(b, flv.TagAudio, 0, nil, []byte{0x72, 1})
	require.NoError(t, err)
	s = &sink{}
	r = flv.Reader{R: bytes.NewReader(b), Demuxer: &flv.Demuxer{Sink: s}}
	require.ErrorIs(t, r.ReadAll(), stream.ErrUnsupported)
	require.Len(t, s.frames, 1, "it went on")
}

// TestReaderMemory: what a tag declares costs nothing before it arrives.
func TestReaderMemory(t *testing.T) {
	b := flv.AppendTagHeader(flv.AppendFileHeader(nil, true, true), flv.TagVideo, 0, flv.MaxTagSize)
	b = append(b, make([]byte, 100)...)
	var before, after = allocated(), uint64(0)
	r := flv.Reader{R: bytes.NewReader(b), Demuxer: &flv.Demuxer{Sink: &sink{}}}
	require.ErrorIs(t, r.ReadAll(), io.ErrUnexpectedEOF)
	after = allocated()
	require.Less(t, after-before, uint64(1<<18))

	big := make([]byte, 300_000)
	big[0], big[1] = 0x17, 1
	b, err := flv.AppendTag(flv.AppendFileHeader(nil, true, true), flv.TagVideo, 0, nil, append(unhex(t, "1700000000"), unhex(t, avcC)...))
	require.NoError(t, err)
	copy(big[5:], []byte{0, 4, 0x93, 0xd7, 0x65}) // one NAL unit of the rest
	b, err = flv.AppendTag(b, flv.TagVideo, 0, nil, big)
	require.NoError(t, err)
	s, _ := read(t, b)
	require.Equal(t, big[5:], s.frames[0].Data)
}

func TestClock(t *testing.T) {
	var c flv.Clock
	for _, step := range []struct {
		in   uint32
		want int64
	}{
		{1000, 1000}, {1040, 1040}, {1000, 1000}, {0xfffffff0, -16}, {10, 10}, {0x7fffffff, 0x7fffffff},
		{0xfffffff0, 0xfffffff0}, {5, 1<<32 + 5}, {0xffffffff, 1<<32 - 1}, {7, 1<<32 + 7},
	} {
		require.Equal(t, step.want, c.Unwrap(step.in))
	}
	rapid.Check(t, func(t *rapid.T) {
		var c flv.Clock
		want := rapid.Int64Range(0, 1<<32-1).Draw(t, "first")
		for range 20 {
			require.Equal(t, want, c.Unwrap(uint32(want)))
			want += rapid.Int64Range(-1<<31, 1<<31-1).Draw(t, "step")
		}
	})
}

// TestFrameRoundTrip: whatever the times and the data, a frame comes back.
func TestFrameRoundTrip(t *testing.T) {
	tracks := []*stream.Track{
		{ID: 1, Codec: stream.H264, Config: unhex(t, avcC)},
		{ID: 1, Codec: stream.H265, Config: unhex(t, hevcC)},
		{ID: 2, Codec: stream.AAC, Rate: 44100, Channels: 2, Config: unhex(t, asc)},
	}
	headers := map[stream.Codec][]byte{stream.H264: {0x41}, stream.H265: {2, 1}}
	rapid.Check(t, func(t *rapid.T) {
		track := rapid.SampledFrom(tracks).Draw(t, "track")
		o := flv.Options{LegacyHEVC: rapid.Bool().Draw(t, "legacy")}
		dts := rapid.Int64Range(0, 1<<40).Draw(t, "dts")
		f := &stream.Frame{Track: track, DTS: stream.FromTicks(dts, 1000), Time: epoch, Key: true}
		f.PTS = f.DTS
		f.Data = rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "data")
		if track.Kind() == stream.Video {
			f.Key = rapid.Bool().Draw(t, "key")
			f.PTS += stream.FromTicks(rapid.Int64Range(-1<<23, 1<<23-1).Draw(t, "cts"), 1000)
			unit := append(append([]byte{}, headers[track.Codec]...), f.Data...)
			f.Data = append([]byte{0, 0, 0, byte(len(unit))}, unit...)
		}
		config, err := o.AppendConfigBody(nil, track)
		require.NoError(t, err)
		body, err := o.AppendFrameHeader(nil, f)
		require.NoError(t, err)

		s := &sink{}
		d := &flv.Demuxer{Sink: s}
		require.NoError(t, d.Tag(flv.TagType(track), dts, config, epoch))
		require.NoError(t, d.Tag(flv.TagType(track), dts, append(body, f.Data...), epoch))
		require.Len(t, s.frames, 1)
		require.True(t, track.Same(s.frames[0].Track))
		s.frames[0].Track = track
		require.Equal(t, f, s.frames[0])
	})
}

func TestMuxAllocs(t *testing.T) {
	dst := make([]byte, 0, 4096)
	for _, track := range []*stream.Track{{ID: 1, Codec: stream.H264}, {ID: 1, Codec: stream.H265}, {ID: 2, Codec: stream.AAC}, {ID: 2, Codec: stream.Opus}} {
		f := &stream.Frame{Track: track, DTS: time.Second, PTS: time.Second + 40*time.Millisecond, Data: make([]byte, 1000)}
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = flv.Options{}.AppendFrameTag(dst, f) }), track.Codec)
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = flv.AppendFrameHeader(dst, f) }), track.Codec)
	}
}

// TestFFprobe: ffmpeg reads what is muxed as it reads its own.
func TestFFprobe(t *testing.T) {
	needPeer(t, "ffprobe")
	probe := func(b []byte) (out struct {
		Streams []map[string]any
		Packets []map[string]any
	}) {
		path := filepath.Join(t.TempDir(), "t.flv")
		require.NoError(t, os.WriteFile(path, b, 0o600))
		text, err := exec.Command("ffprobe", "-v", "error", "-of", "json", "-show_packets", "-show_entries",
			"stream=codec_name,profile,width,height,sample_rate,channels,extradata_size:packet=stream_index,pts,dts,size,flags", path).Output()
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &out))
		require.NotEmpty(t, out.Packets)
		return out
	}
	for _, name := range []string{"avc_aac.flv", "avc422i.flv", "mp3.flv"} {
		original := clip(t, name)
		s, _ := read(t, original)
		require.Equal(t, probe(original), probe(write(t, flv.Options{}, s)), name)
	}
}

// needPeer skips the test if a program is not installed; where all must be, as
// in CI, it fails instead.
func needPeer(t *testing.T, program string) {
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("RUNNEL_E2E") == "1" {
			t.Fatalf("%s: %v", program, err)
		}
		t.Skipf("%s is not installed", program)
	}
}

func BenchmarkAppendFrameTag(b *testing.B) {
	for _, codec := range []stream.Codec{stream.H264, stream.H265, stream.AAC} {
		b.Run(codec.String(), func(b *testing.B) {
			f := &stream.Frame{Track: &stream.Track{ID: 1, Codec: codec}, DTS: time.Second, PTS: time.Second + 40*time.Millisecond, Data: make([]byte, 5000)}
			dst := make([]byte, 0, 8192)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = flv.Options{}.AppendFrameTag(dst, f)
			}
		})
	}
}
