package transcode

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// containers are the formats that are found out by looking: those that hold media
// themselves. One that refers to something else, as a playlist does, is only read where
// that is said, or fetched.
const containers = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,flv,live_flv,avi,ogg,wav,flac,mp3,aac,ac3,eac3,h264,hevc,av1,obu,ivf,nut,mjpeg,mpjpeg,mxf,gif"

// playlists are the formats that refer to further URLs, which the proxy looks at.
const playlists = "hls,dash,webvtt"

// devices are the formats that read no URL.
var devices = []string{
	"alsa", "android_camera", "avfoundation", "decklink", "dshow", "fbdev", "gdigrab", "iec61883", "jack", "kmsgrab",
	"lavfi", "openal", "oss", "pulse", "sndio", "v4l2", "vfwcap", "video4linux2", "x11grab",
}

// schemes are the URLs that can be pulled: the protocols that each needs, and no other,
// and the format that it always is, so that nothing is found out by looking that may be
// a playlist.
var schemes = map[string]struct{ protocols, format string }{
	"http":  {"http,https,tls,tcp,httpproxy,crypto", ""},
	"https": {"http,https,tls,tcp,httpproxy,crypto", ""},
	"rtsp":  {"rtp,srtp,udp,tcp", "rtsp"},
	"rtsps": {"rtp,srtp,udp,tcp,tls", "rtsp"},
	"rtmp":  {"rtmp,tcp", "live_flv"},
	"rtmps": {"rtmps,tls,tcp", "live_flv"},
	"srt":   {"srt", "mpegts"},
	"udp":   {"udp", "mpegts"},
	"rtp":   {"rtp,udp", "rtp"},
	"file":  {"file", ""},
}

// A source is what a Pull reads, as ffmpeg is told.
type source struct {
	args    []string // up to and with the input
	fetched *url.URL // through the proxy; nil: it is not HTTP
	secrets []string // not to be logged
}

var errSource = errors.New("transcode: cannot pull")

// source reads the fields of a Pull.
func (p *Pull) source() (*source, error) {
	if p.URL == "" {
		return nil, fmt.Errorf("%w: no URL", errSource)
	}
	if p.Format != "" && !word(p.Format) {
		return nil, fmt.Errorf("%w: bad format %q", errSource, p.Format)
	}
	s := &source{}
	if p.Loop {
		s.args = append(s.args, "-stream_loop", "-1")
	}
	if p.Realtime {
		s.args = append(s.args, "-re")
	}
	if slices.Contains(devices, p.Format) {
		s.args = append(append(s.args, "-protocol_whitelist", "pipe"), p.FFmpeg.Input...)
		s.args = append(s.args, "-f", p.Format, "-i", p.URL)
		return s, nil
	}
	input, scheme := p.URL, "file"
	if name, _, found := strings.Cut(p.URL, "://"); found {
		scheme = strings.ToLower(name)
		u, err := url.Parse(p.URL)
		if err != nil || u.Host == "" && scheme != "file" {
			return nil, fmt.Errorf("%w: bad URL", errSource) // which may hold a password
		}
		s.secrets = secretsOf(u)
		if scheme == "file" {
			input = "file:" + u.Path
		}
		if scheme == "http" || scheme == "https" {
			s.fetched = u
		}
	} else {
		input = "file:" + p.URL // whatever else it looks like
	}
	by, ok := schemes[scheme]
	if !ok {
		return nil, fmt.Errorf("%w: %q URLs", errSource, scheme)
	}
	formats, format := containers, p.Format
	if s.fetched != nil {
		formats += "," + playlists
	}
	if format == "" {
		format = by.format
	}
	if format != "" {
		formats += "," + format
	}
	s.args = append(s.args, "-protocol_whitelist", by.protocols)
	if by.format == "" { // RTSP makes a format of its own of each track
		s.args = append(s.args, "-format_whitelist", formats)
	}
	if (scheme == "rtsp" || scheme == "rtsps") && !within(p.FFmpeg.Input, "-rtsp_transport") {
		s.args = append(s.args, "-rtsp_transport", "tcp")
	}
	s.args = append(s.args, p.FFmpeg.Input...)
	if format != "" {
		s.args = append(s.args, "-f", format)
	}
	s.args = append(s.args, "-i", input)
	return s, nil
}

// secretsOf returns what of a URL may be secret, the longest first.
func secretsOf(u *url.URL) (secrets []string) {
	if u.RawQuery != "" {
		secrets = append(secrets, u.RawQuery)
	}
	if u.User != nil {
		secrets = append(secrets, u.User.String())
		if password, ok := u.User.Password(); ok {
			secrets = append(secrets, password)
		}
	}
	for _, values := range u.Query() {
		for _, v := range values {
			if len(v) > 3 {
				secrets = append(secrets, v)
			}
		}
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	return secrets
}
