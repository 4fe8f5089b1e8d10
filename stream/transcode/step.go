package transcode

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/runnel-media/runnel/stream"
)

// A Step is a rendition of a Ladder.
type Step struct {
	Name string // of letters, digits, "-", "_" and ".": "720p"

	Codec stream.Codec // of video; 0: H264. H265, VP8, VP9 and AV1 are the others

	// Width and Height are the size of the pictures. 0: as the other one and the
	// shape of the source have it; both 0: the source's size.
	Width, Height int
	FPS           float64 // pictures are left out to reach it; 0: none
	BitRate       int     // bits a second; 0: as the encoder likes

	// Encoder is ffmpeg's name of the encoder, such as "h264_nvenc". "": the one for
	// the codec that needs no hardware, with options for live video.
	Encoder               string
	Preset, Profile, Tune string
	Filter                string   // instead of scaling, such as "format=nv12,hwupload,scale_vaapi=w=1280:h=720"
	Args                  []string // further options of the encoder; they win

	// AudioBitRate adds sound, in AAC. 0: the rendition has none of its own, and the
	// source's belongs to it.
	AudioBitRate int
}

// encoders that need no hardware, with what makes them fit for live video.
var encoders = map[stream.Codec][]string{
	stream.H264: {"libx264", "-sc_threshold", "0", "-bf", "0", "-forced-idr", "1"},
	stream.H265: {"libx265", "-forced-idr", "1", "-x265-params", "log-level=error:scenecut=0:bframes=0:keyint=-1:repeat-headers=1"},
	stream.VP8:  {"libvpx", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0"},
	stream.VP9:  {"libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-row-mt", "1"},
	stream.AV1:  {"libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-row-mt", "1"},
}

func (s *Step) codec() stream.Codec {
	if s.Codec == 0 {
		return stream.H264
	}
	return s.Codec
}

func (s *Step) check() error {
	fail := func(what string, v any) error { return fmt.Errorf("transcode: rendition %q: %s %v", s.Name, what, v) }
	switch {
	case !word(s.Name):
		return fail("bad name", s.Name)
	case encoders[s.codec()] == nil:
		return fail("cannot be", s.Codec)
	case s.Width < 0 || s.Width > 16384 || s.Height < 0 || s.Height > 16384 || s.Width%2 != 0 || s.Height%2 != 0:
		return fail("bad size", fmt.Sprint(s.Width, "x", s.Height))
	case s.BitRate < 0 || s.BitRate > 1e9 || s.AudioBitRate < 0 || s.AudioBitRate > 1e6:
		return fail("bad bit rate", fmt.Sprint(s.BitRate, ", ", s.AudioBitRate))
	case s.FPS < 0 || s.FPS > 1000 || math.IsNaN(s.FPS):
		return fail("bad frame rate", s.FPS)
	case s.AudioBitRate > 0 && ivfName(s.codec()) != "":
		return fail("sound goes with H264 and H265 only, not", s.codec())
	}
	for _, o := range []string{s.Encoder, s.Preset, s.Profile, s.Tune} {
		if o != "" && !word(o) {
			return fail("bad option", o)
		}
	}
	if strings.ContainsAny(s.Filter, "[];") {
		return fail("a filter is one chain, without labels:", s.Filter)
	}
	return nil
}

// size returns the size of the rendition of a source's pictures, zero if that is
// unknown.
func (s *Step) size(source stream.VideoInfo) (width, height int) {
	scaled := func(n, by, of int) int { return max(2, int(math.Round(float64(n)*float64(by)/float64(of)/2))*2) }
	switch {
	case s.Width > 0 && s.Height > 0:
		return s.Width, s.Height
	case source.Width <= 0 || source.Height <= 0:
		return 0, 0
	case s.Width > 0:
		return s.Width, scaled(source.Height, s.Width, source.Width)
	case s.Height > 0:
		return scaled(source.Width, s.Height, source.Height), s.Height
	}
	return source.Width, source.Height
}

// enlarges reports whether the rendition would be larger than its source.
func (s *Step) enlarges(source stream.VideoInfo) bool {
	return source.Width > 0 && source.Height > 0 && (s.Width > source.Width || s.Height > source.Height)
}

// info describes the rendition.
func (s *Step) info(source stream.VideoInfo) stream.RenditionInfo {
	info := stream.RenditionInfo{
		Name:   s.Name,
		Tracks: []*stream.Track{{ID: 1, Codec: s.codec()}},
		FPS:    source.FPS,
	}
	if s.BitRate > 0 {
		info.Bandwidth = int64(s.BitRate + s.AudioBitRate)
	}
	if s.AudioBitRate > 0 {
		info.Tracks = append(info.Tracks, &stream.Track{ID: 2, Codec: stream.AAC})
	}
	if s.FPS > 0 && (info.FPS == 0 || s.FPS < info.FPS) {
		info.FPS = s.FPS
	}
	info.Width, info.Height = s.size(source)
	return info
}

// filter returns the chain of filters for the pictures.
func (s *Step) filter(source stream.VideoInfo) string {
	var chain []string
	if s.FPS > 0 {
		// The first picture in each slot, and every key frame, with their own times:
		// those that a filter for frame rates would make are not the source's.
		fps := strconv.FormatFloat(s.FPS, 'f', -1, 64)
		chain = append(chain, fmt.Sprintf(`select='key+gt(floor(t*%s+0.001)\,floor(prev_t*%s+0.001))'`, fps, fps))
	}
	switch width, height := s.size(source); {
	case s.Filter != "":
		chain = append(chain, s.Filter)
	case width > 0:
		chain = append(chain, fmt.Sprintf("scale=w=%d:h=%d", width, height))
	case s.Width > 0:
		chain = append(chain, fmt.Sprintf("scale=w=%d:h=-2", s.Width))
	case s.Height > 0:
		chain = append(chain, fmt.Sprintf("scale=w=-2:h=%d", s.Height))
	}
	if s.Encoder == "" {
		chain = append(chain, "format=yuv420p")
	}
	if len(chain) == 0 {
		return "null"
	}
	return strings.Join(chain, ",")
}

// output returns the arguments for the i-th output, of the filter's output [vI].
func (s *Step) output(i int, audio bool) []string {
	args := []string{"-map", fmt.Sprintf("[v%d]", i)}
	if s.Encoder != "" {
		args = append(args, "-c:v", s.Encoder)
	} else {
		args = append(append(args, "-c:v"), encoders[s.codec()]...)
		preset, tune := s.Preset, s.Tune
		switch s.codec() {
		case stream.H264, stream.H265:
			if preset == "" {
				args = append(args, "-preset", map[stream.Codec]string{stream.H264: "veryfast", stream.H265: "ultrafast"}[s.codec()])
			}
			if tune == "" {
				args = append(args, "-tune", "zerolatency")
			}
		}
	}
	for _, o := range [][2]string{{"-preset", s.Preset}, {"-profile:v", s.Profile}, {"-tune", s.Tune}} {
		if o[1] != "" {
			args = append(args, o[0], o[1])
		}
	}
	if s.BitRate > 0 {
		args = append(args, "-b:v", strconv.Itoa(s.BitRate))
		if s.codec() != stream.AV1 { // whose encoders take this ill
			args = append(args, "-maxrate", strconv.Itoa(s.BitRate), "-bufsize", strconv.Itoa(2*s.BitRate))
		}
	}
	// Key frames are where the source's are, and nowhere else; times are the source's.
	args = append(args, "-g", "100000", "-force_key_frames", "source", "-fps_mode:v", "passthrough", "-enc_time_base:v", "1:90000")
	if audio && s.AudioBitRate > 0 {
		args = append(args, "-map", "0:a:0", "-c:a", "aac", "-b:a", strconv.Itoa(s.AudioBitRate))
	}
	args = append(args, s.Args...)
	args = append(args, "-avoid_negative_ts", "disabled", "-flush_packets", "1")
	if ivfName(s.codec()) != "" {
		return append(args, "-f", "ivf", pipeName(i))
	}
	return append(args, "-f", "mpegts", "-muxdelay", "0", "-muxpreload", "0", "-mpegts_copyts", "1", "-omit_video_pes_length", "0", pipeName(i))
}
