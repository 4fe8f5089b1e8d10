package fmp4

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
)

// Configurations of 320x180 test pictures as ffmpeg's encoders wrote them.
const (
	avcC = "0164000cffe1001a6764000cacd941419f9f011000000300100000030320f142996001000668ebe3cb22c0fdf8f800"
	hvcC = "0101600000009000000000003cf000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003003c959809" +
		"a10001002b42010101600000030090000003000003003ca00a080b9f796566924caf016808000003000800000300c840" +
		"a2000100074401c172b46240"
	av1C     = "81000c000a0b000000043cfeccdaf90040"
	vpcC     = "000b820202020000"
	opusHead = "4f707573486561640102380180bb0000000000"
	// Six channels in the order of Vorbis.
	opusHead51 = "4f707573486561640106380180bb000000000104020004010203" + "05"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func videoTrack() *stream.Track {
	return &stream.Track{ID: 1, Codec: stream.H264, Config: unhex(avcC)}
}

func audioTrack() *stream.Track {
	return &stream.Track{ID: 2, Codec: stream.AAC, Rate: 44100, Channels: 2, Config: []byte{0x12, 0x10}}
}

func decodeInit(t *testing.T, b []byte) *mp4.InitSegment {
	t.Helper()
	f, err := mp4.DecodeFile(bytes.NewReader(b))
	require.NoError(t, err)
	require.NotNil(t, f.Init)
	require.True(t, f.IsFragmented())
	require.EqualValues(t, len(b), f.Size())
	return f.Init
}

func TestInit(t *testing.T) {
	video, audio := videoTrack(), audioTrack()
	video.ID, audio.ID = 7, 3
	audio.Language, video.Language = "fra", "pt-BR"
	b, err := Init(video, audio)
	require.NoError(t, err)
	moov := decodeInit(t, b).Moov
	require.Len(t, moov.Traks, 2)
	require.EqualValues(t, 8, moov.Mvhd.NextTrackID)
	require.Zero(t, moov.Mvhd.Duration, "a live stream has no duration")
	require.Equal(t, "mvex", moov.Children[len(moov.Children)-1].Type())
	require.Len(t, moov.Mvex.Trexs, 2)

	v := moov.Traks[0]
	require.EqualValues(t, 7, v.Tkhd.TrackID)
	require.EqualValues(t, 320<<16, v.Tkhd.Width)
	require.EqualValues(t, 180<<16, v.Tkhd.Height)
	require.EqualValues(t, 90000, v.Mdia.Mdhd.Timescale)
	require.Equal(t, "pt-BR", v.Mdia.Elng.Language)
	require.EqualValues(t, 320, v.Mdia.Minf.Stbl.Stsd.AvcX.Width)

	a := moov.Traks[1]
	require.EqualValues(t, 3, a.Tkhd.TrackID)
	require.EqualValues(t, 44100, a.Mdia.Mdhd.Timescale)
	require.Equal(t, "fra", a.Mdia.Mdhd.GetLanguage())
	require.Nil(t, a.Mdia.Elng)
	mp4a := a.Mdia.Minf.Stbl.Stsd.Mp4a
	require.EqualValues(t, 44100, mp4a.SampleRate)
	require.EqualValues(t, 2, mp4a.ChannelCount)
	require.Equal(t, []byte{0x12, 0x10}, mp4a.Esds.DecConfigDescriptor.DecSpecificInfo.DecConfig)

	require.EqualValues(t, 7, moov.Mvex.Trexs[0].TrackID)
	require.EqualValues(t, 3, moov.Mvex.Trexs[1].TrackID)
}

func TestInitCodecs(t *testing.T) {
	for _, tt := range []struct {
		name  string
		track stream.Track
		check func(t *testing.T, stsd *mp4.StsdBox)
	}{
		{"h264", *videoTrack(), func(t *testing.T, stsd *mp4.StsdBox) {
			require.Equal(t, "avc1", stsd.AvcX.Type())
			requireBox(t, unhex(avcC), stsd.AvcX.AvcC)
		}},
		{"h265", stream.Track{Codec: stream.H265, Config: unhex(hvcC)}, func(t *testing.T, stsd *mp4.StsdBox) {
			require.Equal(t, "hvc1", stsd.HvcX.Type())
			requireBox(t, unhex(hvcC), stsd.HvcX.HvcC)
		}},
		{"av1", stream.Track{Codec: stream.AV1, Config: unhex(av1C)}, func(t *testing.T, stsd *mp4.StsdBox) {
			requireBox(t, unhex(av1C), stsd.Av01.Av1C)
			require.EqualValues(t, 320, stsd.Av01.Width)
		}},
		{"vp9", stream.Track{Codec: stream.VP9, Config: unhex(vpcC)}, func(t *testing.T, stsd *mp4.StsdBox) {
			require.Equal(t, "vp09", stsd.VpXX.Type())
			requireBox(t, unhex("01000000"+vpcC), stsd.VpXX.VppC)
			require.NotZero(t, stsd.VpXX.Width)
		}},
		{"vp9 with the box's version", stream.Track{Codec: stream.VP9, Config: unhex("01000000" + vpcC)}, func(t *testing.T, stsd *mp4.StsdBox) {
			requireBox(t, unhex("01000000"+vpcC), stsd.VpXX.VppC)
		}},
		{"vp9 without a record", stream.Track{Codec: stream.VP9}, func(t *testing.T, stsd *mp4.StsdBox) {
			require.EqualValues(t, 8, stsd.VpXX.VppC.BitDepth)
			require.NotZero(t, stsd.VpXX.Width)
		}},
		{"aac 96 kHz", stream.Track{Codec: stream.AAC, Rate: 96000, Channels: 6, Config: []byte{0x10, 0x30}}, func(t *testing.T, stsd *mp4.StsdBox) {
			require.Zero(t, stsd.Mp4a.SampleRate)
			require.EqualValues(t, 6, stsd.Mp4a.ChannelCount)
			require.EqualValues(t, 0x40, stsd.Mp4a.Esds.DecConfigDescriptor.ObjectType)
		}},
		{"mp3", stream.Track{Codec: stream.MP3, Rate: 44100, Channels: 1}, func(t *testing.T, stsd *mp4.StsdBox) {
			require.EqualValues(t, 0x6b, stsd.Mp4a.Esds.DecConfigDescriptor.ObjectType)
			require.EqualValues(t, 1, stsd.Mp4a.ChannelCount)
			require.Nil(t, stsd.Mp4a.Esds.DecConfigDescriptor.DecSpecificInfo)
		}},
		{"opus", stream.Track{Codec: stream.Opus, Rate: 48000, Channels: 2, Config: unhex(opusHead)}, func(t *testing.T, stsd *mp4.StsdBox) {
			require.Equal(t, &mp4.DopsBox{OutputChannelCount: 2, PreSkip: 312, InputSampleRate: 48000}, stsd.Opus.Dops)
			require.EqualValues(t, 48000, stsd.Opus.SampleRate)
		}},
		{"opus 5.1", stream.Track{Codec: stream.Opus, Rate: 48000, Channels: 6, Config: unhex(opusHead51)}, func(t *testing.T, stsd *mp4.StsdBox) {
			require.EqualValues(t, 6, stsd.Opus.ChannelCount)
			require.EqualValues(t, 4, stsd.Opus.Dops.StreamCount)
			require.EqualValues(t, 2, stsd.Opus.Dops.CoupledCount)
			require.Equal(t, []byte{0, 4, 1, 2, 3, 5}, stsd.Opus.Dops.ChannelMapping)
		}},
		{"opus without a header", stream.Track{Codec: stream.Opus, Rate: 48000, Channels: 1}, func(t *testing.T, stsd *mp4.StsdBox) {
			require.EqualValues(t, 1, stsd.Opus.Dops.OutputChannelCount)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			track := tt.track
			track.ID = 1
			b, err := Init(&track)
			require.NoError(t, err)
			init := decodeInit(t, b)
			tt.check(t, init.Moov.Trak.Mdia.Minf.Stbl.Stsd)
			require.Equal(t, Timescale(&track), init.Moov.Trak.Mdia.Mdhd.Timescale)
		})
	}
}

func requireBox(t *testing.T, payload []byte, box mp4.Box) {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, box.Encode(&b))
	require.Equal(t, payload, b.Bytes()[8:])
}

func TestInitRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		track stream.Track
	}{
		{"vp8", stream.Track{ID: 1, Codec: stream.VP8}},
		{"pcma", stream.Track{ID: 1, Codec: stream.PCMA, Rate: 8000}},
		{"ac3", stream.Track{ID: 1, Codec: stream.AC3, Rate: 48000}},
		{"amf0", stream.Track{ID: 1, Codec: stream.AMF0}},
		{"no codec", stream.Track{ID: 1}},
		{"h264 without configuration", stream.Track{ID: 1, Codec: stream.H264}},
		{"h264 with a torn configuration", stream.Track{ID: 1, Codec: stream.H264, Config: []byte{1}}},
		{"av1 without configuration", stream.Track{ID: 1, Codec: stream.AV1}},
		{"aac without configuration", stream.Track{ID: 1, Codec: stream.AAC, Rate: 48000}},
		{"aac with an endless configuration", stream.Track{ID: 1, Codec: stream.AAC, Rate: 48000, Config: make([]byte, 200)}},
		{"opus with half a header", stream.Track{ID: 1, Codec: stream.Opus, Config: unhex(opusHead[:30])}},
		{"opus with half a mapping", stream.Track{ID: 1, Codec: stream.Opus, Config: unhex(opusHead51[:46])}},
		{"opus 5.1 without a header", stream.Track{ID: 1, Codec: stream.Opus, Channels: 6}},
		{"absurd rate", stream.Track{ID: 1, Codec: stream.MP3, Rate: 1 << 40}},
		{"id 0", stream.Track{Codec: stream.MP3, Rate: 44100}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Init(videoTrack7(), &tt.track)
			require.ErrorIs(t, err, stream.ErrUnsupported)
		})
	}
	_, err := Init()
	require.Error(t, err)
	_, err = Init(videoTrack(), videoTrack())
	require.ErrorContains(t, err, "twice")
}

func videoTrack7() *stream.Track {
	t := videoTrack()
	t.ID = 7
	return t
}

func TestInitLanguage(t *testing.T) {
	for _, language := range []string{"", "x", "en\x00", "eng\x00", "日本", "EN1", "a123456789012345678901234567890123456789"} {
		track := audioTrack()
		track.Language = language
		b, err := Init(track)
		require.NoError(t, err)
		require.Equal(t, "und", decodeInit(t, b).Moov.Trak.Mdia.Mdhd.GetLanguage(), "%q", language)
		require.Nil(t, decodeInit(t, b).Moov.Trak.Mdia.Elng, "%q", language)
	}
}

func TestContentType(t *testing.T) {
	require.Equal(t, `video/mp4; codecs="avc1.64000c,mp4a.40.2"`, ContentType(videoTrack(), audioTrack()))
	require.Equal(t, `audio/mp4; codecs="mp4a.40.2"`, ContentType(audioTrack()))
}

// Configurations come from publishers: whatever they hold, Init returns an
// error or a segment whose boxes fit together.
func FuzzInit(f *testing.F) {
	f.Add(uint8(stream.H264), 0, 0, "", unhex(avcC))
	f.Add(uint8(stream.H265), 0, 0, "en", unhex(hvcC))
	f.Add(uint8(stream.AV1), 0, 0, "eng", unhex(av1C))
	f.Add(uint8(stream.VP9), 0, 0, "", unhex(vpcC))
	f.Add(uint8(stream.AAC), 44100, 2, "", []byte{0x12, 0x10})
	f.Add(uint8(stream.Opus), 48000, 6, "", unhex(opusHead51))
	f.Add(uint8(stream.MP3), 22050, 1, "", []byte(nil))
	f.Fuzz(func(t *testing.T, codec uint8, rate, channels int, language string, config []byte) {
		b, err := Init(&stream.Track{ID: 1, Codec: stream.Codec(codec), Rate: rate, Channels: channels, Language: language, Config: config})
		if err != nil {
			return
		}
		// The boxes of the codecs are the publisher's; those around them are ours.
		r := bytes.NewReader(b)
		for pos := uint64(0); pos < uint64(len(b)); {
			h, err := mp4.DecodeHeader(r)
			require.NoError(t, err)
			require.Contains(t, []string{"ftyp", "moov"}, h.Name)
			pos += h.Size
			require.LessOrEqual(t, pos, uint64(len(b)))
			_, err = r.Seek(int64(pos), 0)
			require.NoError(t, err)
		}
	})
}
