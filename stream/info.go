package stream

import (
	"errors"
	"fmt"

	"github.com/runnel-media/runnel/internal/aac"
	"github.com/runnel-media/runnel/internal/av1"
	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/opus"
	"github.com/runnel-media/runnel/internal/vpx"
)

// VideoInfo is what a video track's configuration says about its pictures.
// What it does not say is zero: VP8 has no configuration, VP9's has no size,
// and few encoders of H.265 and AV1 state a frame rate.
type VideoInfo struct {
	Profile       string  // such as "High" or "Main 10"
	Level         string  // such as "3.1"
	Width, Height int     // pixels, after cropping
	FPS           float64 // frames a second
}

// AudioInfo is what an audio track's configuration says about the sound.
type AudioInfo struct {
	Profile  string // such as "LC"; only AAC has one
	Rate     int    // samples a second that a decoder puts out: for HE-AAC twice Track.Rate
	Channels int    // 0 if only the frames tell
}

var errNoConfig = errors.New("stream: track has no decoder configuration")

// Video returns what the track's configuration says about the pictures. It
// parses the configuration on each call. It is an error if the track is not
// video, or its configuration is missing or malformed; what could be read
// before that is returned all the same.
func (t *Track) Video() (VideoInfo, error) {
	switch t.Codec {
	case H264:
		c, err := h264.ParseConfig(t.Config)
		if err != nil {
			return VideoInfo{}, err
		}
		if len(c.SPS) == 0 {
			return VideoInfo{}, errNoConfig
		}
		s, err := h264.ParseSPS(c.SPS[0])
		return VideoInfo(s), err

	case H265:
		c, err := h265.ParseConfig(t.Config)
		if err != nil {
			return VideoInfo{}, err
		}
		v := VideoInfo{Profile: c.ProfileName(), Level: c.LevelName(), FPS: float64(c.AvgFrameRate) / 256}
		sps := c.Units(h265.TypeSPS)
		if len(sps) == 0 {
			return v, errNoConfig
		}
		s, err := h265.ParseSPS(sps[0])
		if err != nil {
			return v, err
		}
		v.Width, v.Height = s.Width, s.Height
		if fps := h265.FPS(sps[0]); fps > 0 {
			v.FPS = fps
		}
		return v, nil

	case AV1:
		c, err := av1.ParseConfig(t.Config)
		if err != nil {
			return VideoInfo{}, err
		}
		v := VideoInfo{Profile: c.ProfileName(), Level: c.LevelName()}
		s, err := c.Sequence()
		v.Width, v.Height, v.FPS = s.Width, s.Height, s.FPS
		return v, err

	case VP8:
		return VideoInfo{}, nil

	case VP9:
		if len(t.Config) == 0 {
			return VideoInfo{}, nil
		}
		c, err := vpx.ParseConfig(t.Config)
		if err != nil {
			return VideoInfo{}, err
		}
		return VideoInfo{Profile: fmt.Sprintf("profile %d", c.Profile), Level: c.LevelName()}, nil
	}
	return VideoInfo{}, fmt.Errorf("stream: %v is not video", t.Codec)
}

// Audio returns what the track's configuration says about the sound, for
// codecs without one what Rate and Channels say. It parses the configuration
// on each call. It is an error if the track is not audio, or its configuration
// is missing or malformed.
func (t *Track) Audio() (AudioInfo, error) {
	switch t.Codec {
	case AAC:
		if len(t.Config) == 0 {
			return AudioInfo{Rate: t.Rate, Channels: t.Channels}, errNoConfig
		}
		c, err := aac.ParseConfig(t.Config)
		if err != nil {
			return AudioInfo{}, err
		}
		a := AudioInfo{Profile: c.ProfileName(), Rate: c.OutputRate, Channels: c.OutputChannels}
		if a.Channels == 0 {
			a.Channels = t.Channels
		}
		return a, nil

	case Opus:
		a := AudioInfo{Rate: opus.Rate, Channels: t.Channels}
		if len(t.Config) == 0 {
			return a, nil
		}
		h, err := opus.ParseHead(t.Config)
		if err != nil {
			return AudioInfo{}, err
		}
		a.Channels = h.Channels
		return a, nil

	case MP3, PCMA, PCMU, AC3:
		return AudioInfo{Rate: t.Rate, Channels: t.Channels}, nil
	}
	return AudioInfo{}, fmt.Errorf("stream: %v is not audio", t.Codec)
}

// CodecString returns the name of the track's codec with its parameters as in
// RFC 6381, such as "avc1.64001f", the form that HLS, DASH and a browser's
// MediaSource take. It parses the configuration on each call, and is "" if
// that is missing or malformed or the codec has no such name.
func (t *Track) CodecString() string {
	type named interface{ CodecString() string }
	var c named
	var err error
	switch t.Codec {
	case H264:
		c, err = h264.ParseConfig(t.Config)
	case H265:
		c, err = h265.ParseConfig(t.Config)
	case AV1:
		c, err = av1.ParseConfig(t.Config)
	case VP9:
		if len(t.Config) == 0 {
			return vpx.Default().CodecString()
		}
		c, err = vpx.ParseConfig(t.Config)
	case AAC:
		c, err = aac.ParseConfig(t.Config)
	case VP8:
		return "vp8"
	case Opus:
		return "opus"
	case MP3:
		if t.Rate > 0 && t.Rate < 32000 { // MPEG 2
			return "mp4a.69"
		}
		return "mp4a.6B"
	case AC3:
		return "ac-3"
	default:
		return ""
	}
	if err != nil {
		return ""
	}
	return c.CodecString()
}
