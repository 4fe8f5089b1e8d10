package aac_test

import (
	"encoding/hex"
	"testing"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/runnel-media/runnel/internal/aac"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

var configs = []struct {
	name, asc, codec, profile string
	want                      aac.Config
}{
	{
		"LC stereo 44.1 kHz", "1210", "mp4a.40.2", "LC",
		aac.Config{Type: 2, Rate: 44100, Channels: 2, ChannelConfig: 2, FrameSize: 1024, OutputRate: 44100, OutputChannels: 2},
	},
	{
		"as ffmpeg writes it: extension without SBR", "121056e500", "mp4a.40.2", "LC",
		aac.Config{Type: 2, Rate: 44100, Channels: 2, ChannelConfig: 2, FrameSize: 1024, OutputRate: 44100, OutputChannels: 2},
	},
	{
		"LC mono 48 kHz, 960 samples", "118c", "mp4a.40.2", "LC",
		aac.Config{Type: 2, Rate: 48000, Channels: 1, ChannelConfig: 1, FrameSize: 960, OutputRate: 48000, OutputChannels: 1},
	},
	{
		"7.1", "11b856e500", "mp4a.40.2", "LC",
		aac.Config{Type: 2, Rate: 48000, Channels: 8, ChannelConfig: 7, FrameSize: 1024, OutputRate: 48000, OutputChannels: 8},
	},
	{
		"6.1, of the third edition", "11d8", "mp4a.40.2", "LC",
		aac.Config{Type: 2, Rate: 48000, Channels: 7, ChannelConfig: 11, FrameSize: 1024, OutputRate: 48000, OutputChannels: 7},
	},
	{
		"hexagonal, by a program config element (ffmpeg)", "118004c80800200884" + "0d4c61766335392e33372e31303056e500", "mp4a.40.2", "LC",
		aac.Config{Type: 2, Rate: 48000, Channels: 6, FrameSize: 1024, OutputRate: 48000, OutputChannels: 6},
	},
	{
		"unknown channels: they are in the frames", "1180", "mp4a.40.2", "LC",
		aac.Config{Type: 2, Rate: 48000, FrameSize: 1024, OutputRate: 48000},
	},
	{
		"HE-AAC, explicit", "2b920800", "mp4a.40.5", "HE-AAC",
		aac.Config{Type: 2, Rate: 22050, Channels: 2, ChannelConfig: 2, FrameSize: 1024, SBR: true, OutputRate: 44100, OutputChannels: 2},
	},
	{
		"HE-AAC, backward compatible", "139056e5a0", "mp4a.40.5", "HE-AAC",
		aac.Config{Type: 2, Rate: 22050, Channels: 2, ChannelConfig: 2, FrameSize: 1024, SBR: true, OutputRate: 44100, OutputChannels: 2},
	},
	{
		"HE-AAC v2, explicit", "eb8a0800", "mp4a.40.29", "HE-AAC v2",
		aac.Config{Type: 2, Rate: 22050, Channels: 1, ChannelConfig: 1, FrameSize: 1024, SBR: true, PS: true, OutputRate: 44100, OutputChannels: 2},
	},
	{
		"HE-AAC v2, backward compatible", "138856e5a54880", "mp4a.40.29", "HE-AAC v2",
		aac.Config{Type: 2, Rate: 22050, Channels: 1, ChannelConfig: 1, FrameSize: 1024, SBR: true, PS: true, OutputRate: 44100, OutputChannels: 2},
	},
	{
		"rate written out", "17805dc090", "mp4a.40.2", "LC",
		aac.Config{Type: 2, Rate: 48001, Channels: 2, ChannelConfig: 2, FrameSize: 1024, OutputRate: 48001, OutputChannels: 2},
	},
	{
		"Main", "0a10", "mp4a.40.1", "Main",
		aac.Config{Type: 1, Rate: 44100, Channels: 2, ChannelConfig: 2, FrameSize: 1024, OutputRate: 44100, OutputChannels: 2},
	},
	{
		"xHE-AAC", "f94620", "mp4a.40.42", "xHE-AAC",
		aac.Config{Type: 42, Rate: 48000, Channels: 1, ChannelConfig: 1, FrameSize: 1024, OutputRate: 48000, OutputChannels: 1},
	},
}

func TestParseConfig(t *testing.T) {
	for _, c := range configs {
		t.Run(c.name, func(t *testing.T) {
			got, err := aac.ParseConfig(unhex(t, c.asc))
			require.NoError(t, err)
			require.Equal(t, c.want, *got)
			require.Equal(t, c.codec, got.CodecString())
			require.Equal(t, c.profile, got.ProfileName())
		})
	}
	for _, bad := range []string{"", "12", "0010", "16f0", "1700000010", "2b80"} {
		_, err := aac.ParseConfig(unhex(t, bad))
		require.Error(t, err, bad)
	}
}

func TestConfigRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &aac.Config{
			Type:          rapid.IntRange(1, 4).Draw(t, "type"),
			Rate:          rapid.OneOf(rapid.SampledFrom([]int{96000, 48000, 44100, 7350}), rapid.IntRange(1, 1<<24-1)).Draw(t, "rate"),
			ChannelConfig: rapid.IntRange(1, 7).Draw(t, "channels"),
		}
		got, err := aac.ParseConfig(c.Append(nil))
		require.NoError(t, err)
		require.Equal(t, [3]int{c.Type, c.Rate, c.ChannelConfig}, [3]int{got.Type, got.Rate, got.ChannelConfig})
	})
}

func TestADTS(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := aac.Config{
			Type: rapid.IntRange(1, 4).Draw(t, "type"), FrameSize: 1024,
			Rate:          rapid.SampledFrom([]int{96000, 48000, 44100, 8000, 7350}).Draw(t, "rate"),
			ChannelConfig: rapid.IntRange(0, 7).Draw(t, "channels"),
		}
		n := rapid.IntRange(0, 8184).Draw(t, "size")
		b, err := want.AppendADTS(nil, n)
		require.NoError(t, err)
		require.Len(t, b, aac.ADTSHeaderSize)
		got, head, size, err := aac.ParseADTS(b)
		require.NoError(t, err)
		require.Equal(t, [2]int{7, n + 7}, [2]int{head, size})
		require.Equal(t, [3]int{want.Type, want.Rate, want.ChannelConfig}, [3]int{got.Type, got.Rate, got.ChannelConfig})

		var foreign mpeg4audio.ADTSPackets
		if n > 0 && n <= 5120 { // its bound
			require.NoError(t, foreign.Unmarshal(append(b, make([]byte, n)...)))
			require.Equal(t, want.Rate, foreign[0].SampleRate)
			require.Equal(t, uint8(want.ChannelConfig), foreign[0].ChannelConfig)
			require.Len(t, foreign[0].AU, n)
		}
	})
	c := aac.Config{Type: 2, Rate: 48000, ChannelConfig: 2}
	for _, bad := range []aac.Config{{Type: 5, Rate: 48000}, {Type: 2, Rate: 48001}, {Type: 2, Rate: 48000, ChannelConfig: 11}} {
		_, err := bad.AppendADTS(nil, 10)
		require.Error(t, err)
	}
	_, err := c.AppendADTS(nil, 8185)
	require.Error(t, err)
	_, head, size, err := aac.ParseADTS(unhex(t, "fff84c80013ffc"))
	require.NoError(t, err, "with a CRC")
	require.Equal(t, [2]int{9, 9}, [2]int{head, size})
	for _, bad := range []string{"", "fff14c80013f", "fff34c80013ffc", "fff17c80013ffc", "fff14c80001ffc", "fff14c80013ffd"} {
		_, _, _, err := aac.ParseADTS(unhex(t, bad))
		require.Error(t, err, bad)
	}
	dst := make([]byte, 0, 16)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		b, _ := c.AppendADTS(dst, 300)
		_, _, _, _ = aac.ParseADTS(b)
	}))
}

func FuzzConfig(f *testing.F) {
	for _, c := range configs {
		f.Add(unhex(f, c.asc))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := aac.ParseConfig(b)
		if err != nil {
			return
		}
		require.True(t, c.Rate > 0 && c.OutputRate > 0 && c.Channels >= 0 && c.Type > 0)
		c.CodecString()
		c.ProfileName()
		c.Append(nil)
		// mediacommon accepts less, but agrees on it.
		var foreign mpeg4audio.AudioSpecificConfig
		if foreign.Unmarshal(b) == nil {
			require.Equal(t, foreign.SampleRate, c.Rate)
			require.EqualValues(t, foreign.ChannelConfig, c.ChannelConfig)
		}
	})
}

func FuzzADTS(f *testing.F) {
	f.Add(unhex(f, "fff14c80013ffc"))
	f.Add(unhex(f, "fff84c80013ffc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, head, size, err := aac.ParseADTS(b); err == nil {
			require.LessOrEqual(t, head, size)
			_, err = c.AppendADTS(nil, size-head)
			require.NoError(t, err)
		}
	})
}
