package deliver

import (
	"fmt"
	"net/http"

	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/stream"
)

// A container is a form in which frames can be sent.
type container string

const (
	containerFLV  container = "flv"
	containerMP4  container = "mp4"
	containerRTMP container = "rtmp"
)

func (c container) muxer() muxer {
	switch c {
	case containerMP4:
		return &mp4Muxer{}
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
	}
	return "", false
}

// describe puts what is known of the media into an HTTP response's header.
func (c container) describe(h http.Header, tracks []*stream.Track) {
	switch c {
	case containerFLV:
		h.Set("Content-Type", "video/x-flv")
	case containerMP4:
		h.Set("Content-Type", fmp4.ContentType(tracks...))
	}
}

// playable says why none of a stream's tracks can be sent. A stream that has no
// tracks yet may turn out to be playable.
func (k feedKey) playable() error {
	tracks := k.stream.Tracks()
	m := k.container.muxer()
	var reason error
	for _, t := range tracks {
		if t.Kind() == stream.Data {
			continue
		}
		err := k.takes(m, t)
		if err == nil {
			return nil
		}
		reason = fmt.Errorf("%s in %s: %w", t.Codec, k.container, err)
	}
	return reason
}

// sendable returns the tracks that can be sent.
func (k feedKey) sendable() (tracks []*stream.Track) {
	m := k.container.muxer()
	for _, t := range k.stream.Tracks() {
		if k.takes(m, t) == nil {
			tracks = append(tracks, t)
		}
	}
	return tracks
}

// ContentType returns the media type of a stream as HTTP players get it, with
// the codecs of the tracks that the container ("flv", "mp4") can carry.
func ContentType(s *stream.Stream, extension string) string {
	c, ok := httpContainer("." + extension)
	if !ok {
		return ""
	}
	h := make(http.Header)
	c.describe(h, feedKey{stream: s, container: c}.sendable())
	return h.Get("Content-Type")
}
