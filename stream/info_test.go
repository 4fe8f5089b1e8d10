package stream_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
)

// The configurations were written by ffmpeg 5.1 with libx264, libx265, libaom,
// libsvtav1, libvpx, its own AAC encoder and libopus.
var infoConfigs = []struct {
	name, config, codec string
	track               stream.Track
	video               stream.VideoInfo
	audio               stream.AudioInfo
}{
	{
		name: "H264", config: "01640028ffe1001967640028acd940780227e5c04400000fa40003a9803c60c65801000668ebe3cb22c0fdf8f800",
		track: stream.Track{Codec: stream.H264}, codec: "avc1.640028",
		video: stream.VideoInfo{Profile: "High", Level: "4", Width: 1920, Height: 1080, FPS: 29.97},
	},
	{
		name: "H265", config: "0101600000009000000000001ef000fcfdf8f800000f03" +
			"a00001001840010c01ffff01600000030090000003000003001e959809" +
			"a10001002842010101600000030090000003000003001ea030810596566924caf0168080000003008000000c84" +
			"a2000100074401c172b42240",
		track: stream.Track{Codec: stream.H265}, codec: "hvc1.1.6.L30.90",
		video: stream.VideoInfo{Profile: "Main", Level: "1", Width: 96, Height: 64, FPS: 25},
	},
	{
		name: "AV1", config: "81000c000a0a000000032dffcdaf9004",
		track: stream.Track{Codec: stream.AV1}, codec: "av01.0.00M.08",
		video: stream.VideoInfo{Profile: "Main", Level: "2.0", Width: 96, Height: 64},
	},
	{
		name: "VP9", config: "030aa60202020000",
		track: stream.Track{Codec: stream.VP9}, codec: "vp09.03.10.10",
		video: stream.VideoInfo{Profile: "profile 3", Level: "1.0"},
	},
	{name: "VP9 without config", track: stream.Track{Codec: stream.VP9}, codec: "vp09.00.10.08"},
	{name: "VP8", track: stream.Track{Codec: stream.VP8}, codec: "vp8"},
	{
		name: "AAC", config: "121056e500",
		track: stream.Track{Codec: stream.AAC, Rate: 44100, Channels: 2}, codec: "mp4a.40.2",
		audio: stream.AudioInfo{Profile: "LC", Rate: 44100, Channels: 2},
	},
	{
		name: "HE-AAC", config: "eb8a0800",
		track: stream.Track{Codec: stream.AAC, Rate: 22050, Channels: 1}, codec: "mp4a.40.29",
		audio: stream.AudioInfo{Profile: "HE-AAC v2", Rate: 44100, Channels: 2},
	},
	{
		name: "AAC, channels unknown to the config", config: "1180",
		track: stream.Track{Codec: stream.AAC, Rate: 48000, Channels: 6}, codec: "mp4a.40.2",
		audio: stream.AudioInfo{Profile: "LC", Rate: 48000, Channels: 6},
	},
	{
		name: "Opus", config: "4f707573486561640102380180bb0000000000",
		track: stream.Track{Codec: stream.Opus, Rate: 48000}, codec: "opus",
		audio: stream.AudioInfo{Rate: 48000, Channels: 2},
	},
	{
		name: "Opus without config", track: stream.Track{Codec: stream.Opus, Channels: 1}, codec: "opus",
		audio: stream.AudioInfo{Rate: 48000, Channels: 1},
	},
	{
		name: "MP3", track: stream.Track{Codec: stream.MP3, Rate: 44100, Channels: 2}, codec: "mp4a.6B",
		audio: stream.AudioInfo{Rate: 44100, Channels: 2},
	},
	{
		name: "MP3, MPEG 2", track: stream.Track{Codec: stream.MP3, Rate: 22050, Channels: 1}, codec: "mp4a.69",
		audio: stream.AudioInfo{Rate: 22050, Channels: 1},
	},
	{
		name: "AC3", track: stream.Track{Codec: stream.AC3, Rate: 48000, Channels: 6}, codec: "ac-3",
		audio: stream.AudioInfo{Rate: 48000, Channels: 6},
	},
	{
		name: "A-law", track: stream.Track{Codec: stream.PCMA, Rate: 8000, Channels: 1},
		audio: stream.AudioInfo{Rate: 8000, Channels: 1},
	},
}

func TestTrackInfo(t *testing.T) {
	for _, c := range infoConfigs {
		t.Run(c.name, func(t *testing.T) {
			track := c.track
			var err error
			track.Config, err = hex.DecodeString(c.config)
			require.NoError(t, err)
			require.Equal(t, c.codec, track.CodecString())

			video, err := track.Video()
			if track.Kind() != stream.Video {
				require.Error(t, err)
			} else {
				require.NoError(t, err)
				require.InDelta(t, c.video.FPS, video.FPS, 0.001)
				video.FPS = c.video.FPS
				require.Equal(t, c.video, video)
			}
			audio, err := track.Audio()
			if track.Kind() != stream.Audio {
				require.Error(t, err)
			} else {
				require.NoError(t, err)
				require.Equal(t, c.audio, audio)
			}
		})
	}
}

func TestTrackInfoMalformed(t *testing.T) {
	for codec := stream.H264; codec <= stream.AMF0; codec++ {
		track := stream.Track{Codec: codec, Config: []byte{1}}
		switch codec {
		case stream.H264, stream.H265, stream.AV1, stream.VP9:
			_, err := track.Video()
			require.Error(t, err, codec)
			require.Empty(t, track.CodecString(), codec)
		case stream.AAC:
			_, err := track.Audio()
			require.Error(t, err, codec)
			require.Empty(t, track.CodecString(), codec)
		case stream.Opus:
			_, err := track.Audio()
			require.Error(t, err, codec)
		case stream.AMF0:
			require.Empty(t, track.CodecString(), codec)
		}
	}
	// A record without parameter sets says something all the same.
	track := stream.Track{Codec: stream.H265, Config: append([]byte{1, 2, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 93}, make([]byte, 10)...)}
	video, err := track.Video()
	require.Error(t, err)
	require.Equal(t, stream.VideoInfo{Profile: "Main 10", Level: "3.1"}, video)
	require.Equal(t, "hvc1.2.4.L93", track.CodecString())

	a, err := (&stream.Track{Codec: stream.AAC, Rate: 48000, Channels: 2}).Audio()
	require.Error(t, err)
	require.Equal(t, 48000, a.Rate)
}

// FuzzTrackInfo reads decoder configurations of every codec: records with
// their parameter sets, AudioSpecificConfigs, OpusHeads.
func FuzzTrackInfo(f *testing.F) {
	for _, c := range infoConfigs {
		b, err := hex.DecodeString(c.config)
		require.NoError(f, err)
		f.Add(byte(c.track.Codec), b)
	}
	f.Fuzz(func(t *testing.T, codec byte, config []byte) {
		track := stream.Track{Codec: stream.Codec(codec), Config: config}
		track.CodecString()
		if v, err := track.Video(); err == nil {
			require.True(t, v.Width >= 0 && v.Width <= 1<<17 && v.Height >= 0 && v.Height <= 1<<17)
			require.True(t, v.FPS >= 0 && v.FPS <= 1000)
		}
		if a, err := track.Audio(); err == nil {
			require.True(t, a.Rate >= 0 && a.Channels >= 0 && a.Channels <= 255)
		}
	})
}
