package deliver

import (
	"net/http"

	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/stream"
)

// A container is a form in which frames can be sent.
type container string

const (
	containerFLV  container = "flv"
	containerMP4  container = "mp4"
	containerTS   container = "ts"
	containerAAC  container = "aac"
	containerMP3  container = "mp3"
	containerRTMP container = "rtmp"
)

func (c container) muxer() muxer {
	switch c {
	case containerMP4:
		return &mp4Muxer{}
	case containerTS:
		return &tsMuxer{}
	case containerAAC:
		return &adtsMuxer{}
	case containerMP3:
		return mp3Muxer{}
	case containerRTMP:
		return &rtmpMuxer{}
	}
	return &flvMuxer{}
}

// httpContainer returns the container of a path's extension.
func httpContainer(ext string) (container, bool) {
	switch ext {
	case ".flv":
		return containerFLV, true
	case ".mp4":
		return containerMP4, true
	case ".ts":
		return containerTS, true
	case ".aac":
		return containerAAC, true
	case ".mp3":
		return containerMP3, true
	}
	return "", false
}

// describe puts what is known of the media into an HTTP response's header.
func (c container) describe(h http.Header, tracks []*stream.Track) {
	switch c {
	case containerFLV:
		h.Set("Content-Type", "video/x-flv")
	case containerTS:
		h.Set("Content-Type", "video/mp2t")
	case containerAAC:
		h.Set("Content-Type", "audio/aac")
	case containerMP3:
		h.Set("Content-Type", "audio/mpeg")
	case containerMP4:
		typ := "video/mp4"
		if len(tracks) > 0 {
			typ = fmp4.ContentType(tracks...)
		}
		h.Set("Content-Type", typ)
	}
}

// ContentType returns the media type of a stream as HTTP players get it, with
// the codecs of the tracks that the container ("flv", "mp4", "ts", "aac", "mp3") can carry.
func ContentType(s *stream.Stream, extension string) string {
	c, ok := httpContainer("." + extension)
	if !ok {
		return ""
	}
	h := make(http.Header)
	c.describe(h, feedKey{stream: s, container: c, sound: c.usualSound()}.sent())
	return h.Get("Content-Type")
}
