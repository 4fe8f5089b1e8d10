package mediaapi

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A problem is RFC 9457's problem details. Its type is about:blank: the status
// says all that a program may branch on.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func (c *call) refuse(status int, detail string) {
	c.status = status
	// It cannot fail, and cannot become HTML: json escapes <, > and &.
	body, _ := json.Marshal(problem{"about:blank", http.StatusText(status), status, detail})
	c.write(status, "application/problem+json", body)
}

// answer sends v with its ETag, or 304 if the client has it.
func (c *call) answer(v any) {
	body, err := json.Marshal(v)
	if err != nil {
		c.refuse(http.StatusInternalServerError, "the answer cannot be written as JSON")
		return
	}
	c.answerBytes(append(body, '\n'))
}

func (c *call) answerBytes(body []byte) {
	tag := etag(body)
	c.w.Header().Set("ETag", tag)
	c.w.Header().Set("Cache-Control", "no-cache, private")
	if none := c.r.Header.Values("If-None-Match"); len(none) > 0 && matches(none, tag) {
		c.status = http.StatusNotModified
		c.w.WriteHeader(c.status)
		return
	}
	c.write(http.StatusOK, "application/json", body)
}

func (c *call) write(status int, kind string, body []byte) {
	c.w.Header().Set("Content-Type", kind)
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body) // the client is gone, then
}

func (c *call) done() {
	c.status = http.StatusNoContent
	c.w.WriteHeader(c.status)
}

// unchanged evaluates If-Match against the resource as it would be sent now
// (RFC 9110 Section 13.1.1), and refuses if it does not hold.
func (c *call) unchanged(v any) bool {
	want := c.r.Header.Values("If-Match")
	if len(want) == 0 {
		return true
	}
	body, err := json.Marshal(v)
	if err == nil && matches(want, etag(append(body, '\n'))) {
		return true
	}
	c.refuse(http.StatusPreconditionFailed, "it is not what If-Match says any more")
	return false
}

func etag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// matches reports whether a list of entity tags has this one.
func matches(fields []string, tag string) bool {
	for _, f := range fields {
		for t := range strings.SplitSeq(f, ",") {
			t = strings.TrimPrefix(strings.TrimSpace(t), "W/")
			if t == tag || t == "*" {
				return true
			}
		}
	}
	return false
}

// read decodes the body, one JSON value and no more, without unknown fields.
func (c *call) read(into any) bool {
	d := json.NewDecoder(c.r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return true
		}
		err = errors.New("more than one value")
	}
	switch {
	case isTooLarge(err):
		c.refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("a body has at most %d bytes", maxBody))
	case isTimeout(err):
		c.w.Header().Set("Connection", "close")
		c.refuse(http.StatusRequestTimeout, "the body took too long")
	default:
		c.refuse(http.StatusBadRequest, "body: "+err.Error())
	}
	return false
}

func isTooLarge(err error) bool {
	_, ok := errors.AsType[*http.MaxBytesError](err)
	return ok
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// query reads the parameters, of which only the named ones may be there, each
// once.
func (c *call) query(names ...string) (url.Values, bool) {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		c.refuse(http.StatusBadRequest, "the query is malformed")
		return nil, false
	}
	for name, values := range q {
		if !slices.Contains(names, name) || len(values) > 1 {
			c.refuse(http.StatusBadRequest, "the parameters are "+strings.Join(names, ", ")+", each at most once")
			return nil, false
		}
	}
	return q, true
}

// How many entries one answer lists.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// limit reads the parameter of that name.
func (c *call) limit(q url.Values) (int, bool) {
	s := q.Get("limit")
	if s == "" {
		return defaultLimit, true
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxLimit {
		c.refuse(http.StatusBadRequest, fmt.Sprintf("limit is 1 to %d", maxLimit))
		return 0, false
	}
	return n, true
}
