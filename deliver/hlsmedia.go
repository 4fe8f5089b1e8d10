package deliver

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/runnel-media/runnel/stream"
)

// media answers with what the playlists name, whoever asks: nobody guesses the
// secret.
func (a *answer) media(path, secret, file string) {
	t := &a.s.hls
	t.mu.RLock()
	run := t.secrets[secret]
	t.mu.RUnlock()
	if run == nil || !underPath(run.name, strings.TrimPrefix(path, "/")) {
		a.refuse(stream.ErrNotFound)
		return
	}
	if !a.ask(path) {
		return
	}
	a.req.Stream = run.name // which has the virtual host
	run.touch()
	c, err := run.pack.Open(a.r.Context(), secret+"/"+file, a.req.Remote.Addr())
	if err != nil {
		a.refuse(err)
		return
	}
	h := a.w.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("ETag", c.ETag)
	h.Set("Accept-Ranges", "bytes")
	if matches(a.r.Header.Get("If-None-Match"), c.ETag) {
		a.w.WriteHeader(http.StatusNotModified)
		return
	}
	offset, length, status := int64(0), c.Size, http.StatusOK
	if rng := a.r.Header.Get("Range"); rng != "" && a.r.Method == http.MethodGet && ifRange(a.r, c.ETag) {
		offset, length, status = parseRange(rng, c.Size)
	}
	switch status {
	case http.StatusPartialContent:
		h.Set("Content-Range", "bytes "+strconv.FormatInt(offset, 10)+"-"+strconv.FormatInt(offset+length-1, 10)+"/"+strconv.FormatInt(c.Size, 10))
	case http.StatusRequestedRangeNotSatisfiable:
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(c.Size, 10))
		h.Del("ETag")
		a.fail(status, "no such range")
		return
	}
	h.Set("Content-Type", c.Type)
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	a.deadline(length)
	a.w.WriteHeader(status)
	if a.r.Method == http.MethodHead {
		return
	}
	n, _ := c.WriteRange(a.w, offset, length) // an error is the peer's going
	t.fetcher(whoIs(a.r, a.req)).AddOut(int(n))
}

// ifRange reports whether a range is wanted of this representation (RFC 9110,
// Section 13.1.5).
func ifRange(r *http.Request, etag string) bool {
	v := r.Header.Get("If-Range")
	return v == "" || v == etag
}

// parseRange reads a Range header (RFC 9110, Section 14.2) for a body of size
// bytes. Only a single range of bytes gets a 206: several, which could make
// an answer larger than the whole, and what is malformed get the whole.
func parseRange(header string, size int64) (offset, length int64, status int) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	from, to, dash := strings.Cut(strings.TrimSpace(spec), "-")
	first, hasFirst := parsePos(from)
	last, hasLast := parsePos(to)
	switch {
	case !ok || !dash || !hasFirst && from != "" || !hasLast && to != "" || !hasFirst && !hasLast || hasFirst && hasLast && last < first:
		return 0, size, http.StatusOK
	case !hasFirst: // the last bytes
		if last == 0 || size == 0 {
			return 0, 0, http.StatusRequestedRangeNotSatisfiable
		}
		length = min(last, size)
		return size - length, length, http.StatusPartialContent
	case first >= size:
		return 0, 0, http.StatusRequestedRangeNotSatisfiable
	case !hasLast:
		last = size - 1
	}
	return first, min(last, size-1) - first + 1, http.StatusPartialContent
}

// parsePos reads a position; one that no body is as long as is as good as any.
func parsePos(s string) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	if len(s) > 18 {
		return 1<<62 - 1, true
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
