package transcode

import (
	"bytes"
	"errors"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/httpauth"
	"github.com/runnel-media/runnel/stream"
)

// imageOf returns the format that a file name's extension says.
func imageOf(extension string) (Image, bool) {
	if extension == ".jpeg" {
		return JPEG, true
	}
	for i := range images {
		if images[i].extension == extension {
			return Image(i), true
		}
	}
	return 0, false
}

// ServeHTTP answers GET and HEAD of a stream's path with the extension .jpg, .png or
// .webp. Refusals are 401 or 403, 404 for a stream that is not live, 415 for one without
// video, and 503.
func (s *Snapshot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	extension := path.Ext(r.URL.Path)
	image, ok := imageOf(extension)
	if !ok {
		http.NotFound(w, r)
		return
	}
	q, err := httpauth.Request(r, auth.Play, strings.TrimSuffix(r.URL.Path, extension))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	q.Protocol = "picture"
	if _, err := auth.Check(r.Context(), s.Auth, q); err != nil {
		if !httpauth.Refuse(w, r, q, err) {
			logger(s.Log).Warn("transcode: authorizer", "err", err)
			http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		}
		return
	}
	p, err := s.Picture(r.Context(), q.Stream, image)
	if err != nil {
		code := http.StatusServiceUnavailable
		switch {
		case errors.Is(err, stream.ErrNotFound):
			code = http.StatusNotFound
		case errors.Is(err, stream.ErrUnsupported):
			code = http.StatusUnsupportedMediaType
		case r.Context().Err() == nil:
			logger(s.Log).Warn("transcode: picture", "stream", q.Stream, "err", err)
		}
		http.Error(w, http.StatusText(code), code)
		return
	}
	w.Header().Set("Content-Type", p.Image.MediaType())
	// Who may see it is asked each time; that it has not changed, is soon said.
	w.Header().Set("Cache-Control", "private, no-cache")
	w.Header().Set("ETag", `"`+strconv.FormatInt(int64(p.PTS), 36)+"-"+strconv.FormatInt(p.Time.UnixNano(), 36)+`"`)
	http.ServeContent(w, r, "", p.Time, bytes.NewReader(p.Data))
}
