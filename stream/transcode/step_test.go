package transcode

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
)

func TestStepCheck(t *testing.T) {
	for _, s := range []Step{
		{Name: "720p"},
		{Name: "a_b-c.d", Codec: stream.AV1, Width: 2, Height: 2, FPS: 29.97, BitRate: 1, Filter: "scale_vaapi=w=2:h=2,null"},
		{Name: "hw", Encoder: "h264_vaapi", Preset: "p4", Tune: "ll", Profile: "main", AudioBitRate: 64000},
	} {
		require.NoError(t, s.check(), s.Name)
	}
	for what, s := range map[string]Step{
		"no name":         {},
		"slash":           {Name: "a/b"},
		"option":          {Name: "-i"},
		"sound":           {Name: "a", Codec: stream.Opus},
		"odd":             {Name: "a", Height: 101},
		"large":           {Name: "a", Width: 1 << 20},
		"negative":        {Name: "a", BitRate: -1},
		"no number":       {Name: "a", FPS: math.NaN()},
		"an option":       {Name: "a", Encoder: "-f"},
		"a list":          {Name: "a", Preset: "a:b"},
		"a graph":         {Name: "a", Filter: "null[x];movie=/etc/passwd[y]"},
		"sound in AV1":    {Name: "a", Codec: stream.AV1, AudioBitRate: 64000},
		"too much of all": {Name: "a", AudioBitRate: 1e9},
	} {
		require.Error(t, s.check(), what)
	}
}

func TestStepSize(t *testing.T) {
	hd := stream.VideoInfo{Width: 1920, Height: 1080, FPS: 50}
	for _, c := range []struct {
		step          Step
		source        stream.VideoInfo
		width, height int
		filter        string
	}{
		{Step{Height: 720}, hd, 1280, 720, "scale=w=1280:h=720,format=yuv420p"},
		{Step{Width: 854}, hd, 854, 480, "scale=w=854:h=480,format=yuv420p"},
		{Step{Width: 100, Height: 200}, hd, 100, 200, "scale=w=100:h=200,format=yuv420p"},
		{Step{}, hd, 1920, 1080, "scale=w=1920:h=1080,format=yuv420p"},
		{Step{Height: 720}, stream.VideoInfo{}, 0, 0, "scale=w=-2:h=720,format=yuv420p"},
		{Step{Width: 720}, stream.VideoInfo{}, 0, 0, "scale=w=720:h=-2,format=yuv420p"},
		{Step{}, stream.VideoInfo{}, 0, 0, "format=yuv420p"},
		{Step{Encoder: "x"}, stream.VideoInfo{}, 0, 0, "null"},
		{Step{Height: 720, FPS: 12.5, Encoder: "h264_vaapi", Filter: "hwupload"}, hd, 1280, 720, `select='key+gt(floor(t*12.5+0.001)\,floor(prev_t*12.5+0.001))',hwupload`},
	} {
		width, height := c.step.size(c.source)
		require.Equal(t, [2]int{c.width, c.height}, [2]int{width, height})
		require.Equal(t, c.filter, c.step.filter(c.source))
	}
	require.True(t, (&Step{Height: 1440}).enlarges(hd))
	require.False(t, (&Step{Height: 1080}).enlarges(hd))
	require.False(t, (&Step{Height: 1080}).enlarges(stream.VideoInfo{}))
	info := (&Step{Name: "720p", Height: 720, FPS: 25, BitRate: 1000, AudioBitRate: 100}).info(hd)
	require.Equal(t, stream.RenditionInfo{
		Name: "720p", Bandwidth: 1100, Width: 1280, Height: 720, FPS: 25,
		Tracks: []*stream.Track{{ID: 1, Codec: stream.H264}, {ID: 2, Codec: stream.AAC}},
	}, info)
	require.Equal(t, 50.0, (&Step{FPS: 60}).info(hd).FPS)
}

func TestStepOutput(t *testing.T) {
	args := func(s Step, audio bool) string { return " " + strings.Join(s.output(1, audio), " ") + " " }
	h264 := args(Step{BitRate: 500000, AudioBitRate: 64000, Args: []string{"-tune", "film"}}, true)
	for _, part := range []string{
		" -map [v1] -c:v libx264 ", " -preset veryfast ", " -b:v 500000 -maxrate 500000 -bufsize 1000000 ",
		" -force_key_frames source ", " -map 0:a:0 -c:a aac -b:a 64000 -tune film ", " -f mpegts ", " pipe:3 ",
	} {
		require.Contains(t, h264, part)
	}
	require.NotContains(t, args(Step{AudioBitRate: 64000}, false), "0:a")
	hw := args(Step{Encoder: "h264_vaapi", Profile: "main"}, false)
	require.Contains(t, hw, " -c:v h264_vaapi -profile:v main ")
	require.NotContains(t, hw, "-preset")
	av1 := args(Step{Codec: stream.AV1, BitRate: 1, Preset: "x", Tune: "y"}, false)
	require.Contains(t, av1, " -preset x -tune y ")
	require.Contains(t, av1, " -f ivf pipe:3 ")
	require.NotContains(t, av1, "-maxrate")
	require.Equal(t, "pipe:1", pipeName(0))
}
