package ingest

import (
	"errors"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

// A format is what the body of a request may be.
type format struct {
	protocol string   // as in auth.Request
	types    []string // its media types
	// read publishes a body. It returns nil at the end of one of which
	// something was understood.
	read func(*upload, *stream.Publisher) error
}

var (
	formatFLV = &format{"http-flv", []string{"video/x-flv", "video/flv"}, readFLV}
	formatTS  = &format{"http-ts", []string{"video/mp2t"}, readTS}
)

// formatOf returns the format of a request's body and the path of its stream, or
// nil if the path is of no format.
func formatOf(r *http.Request) (streamPath string, f *format) {
	streamPath, ext := strings.TrimSuffix(r.URL.Path, path.Ext(r.URL.Path)), path.Ext(r.URL.Path)
	switch {
	case ext == ".flv":
		return streamPath, formatFLV
	case ext == ".ts":
		return streamPath, formatTS
	case mediaType(r.Header.Get("Content-Type")) == formatTS.types[0]:
		return r.URL.Path, formatTS
	}
	return "", nil
}

// may reports whether a body may be of the format: its Content-Type says so, or
// says nothing.
func (f *format) may(contentType string) bool {
	switch t := mediaType(contentType); t {
	case "application/octet-stream",
		"application/x-www-form-urlencoded": // what curl calls everything
		return true
	default:
		return contentType == "" || slices.Contains(f.types, t)
	}
}

// mediaType returns the media type without its parameters, "" if malformed.
func mediaType(contentType string) string {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return ""
	}
	return t
}

func readFLV(u *upload, pub *stream.Publisher) error {
	err := (&flv.Reader{R: u, Demuxer: &flv.Demuxer{Sink: pub}}).ReadAll()
	if err == nil && u.read == 0 {
		return flv.ErrMalformed
	}
	return carried(err, pub)
}

// carried forgives that a track was not supported if another one was.
func carried(err error, pub *stream.Publisher) error {
	if errors.Is(err, stream.ErrUnsupported) && len(pub.Stream().Tracks()) > 0 {
		return nil
	}
	return err
}
