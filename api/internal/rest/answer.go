package rest

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

// Refuse answers with a problem. The detail is for people who call, so that it
// must not hold what they are not to know.
func (c *Call) Refuse(status int, detail string) {
	c.Status = status
	// It cannot fail, and cannot become HTML: json escapes <, > and &.
	body, _ := json.Marshal(problem{"about:blank", http.StatusText(status), status, detail})
	c.write(status, "application/problem+json", body)
}

// Answer sends v with its ETag, or 304 if the client has it.
func (c *Call) Answer(v any) {
	body, err := json.Marshal(v)
	if err != nil {
		c.Refuse(http.StatusInternalServerError, "the answer cannot be written as JSON")
		return
	}
	c.AnswerBytes(append(body, '\n'))
}

// AnswerBytes is Answer of what is JSON already.
func (c *Call) AnswerBytes(body []byte) { c.AnswerData("application/json", body) }

// AnswerData is Answer of another media type.
func (c *Call) AnswerData(kind string, body []byte) {
	tag := etag(body)
	c.W.Header().Set("ETag", tag)
	c.W.Header().Set("Cache-Control", "no-cache, private")
	if none := c.R.Header.Values("If-None-Match"); len(none) > 0 && matches(none, tag) {
		c.Status = http.StatusNotModified
		c.W.WriteHeader(c.Status)
		return
	}
	c.write(http.StatusOK, kind, body)
}

// Created answers 201 with what was made, and where it is. Secrets may be in it:
// it has no ETag, and nobody is to keep it.
func (c *Call) Created(location string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		c.Refuse(http.StatusInternalServerError, "the answer cannot be written as JSON")
		return
	}
	c.Status = http.StatusCreated
	if location != "" {
		c.W.Header().Set("Location", location)
	}
	c.write(c.Status, "application/json", append(body, '\n'))
}

func (c *Call) write(status int, kind string, body []byte) {
	c.W.Header().Set("Content-Type", kind)
	c.W.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.W.WriteHeader(status)
	_, _ = c.W.Write(body) // the client is gone, then
}

// Done answers 204.
func (c *Call) Done() {
	c.Status = http.StatusNoContent
	c.W.WriteHeader(c.Status)
}

// Unchanged evaluates If-Match against the resource as it would be sent now, nil
// if it is not there (RFC 9110 Section 13.1.1), and refuses if it does not hold.
func (c *Call) Unchanged(v any) bool {
	want := c.R.Header.Values("If-Match")
	if len(want) == 0 {
		return true
	}
	if v == nil {
		c.Refuse(http.StatusPreconditionFailed, "it is not there, which If-Match asks for")
		return false
	}
	body, err := json.Marshal(v)
	if err == nil && matches(want, etag(append(body, '\n'))) {
		return true
	}
	c.Refuse(http.StatusPreconditionFailed, "it is not what If-Match says any more")
	return false
}

// Absent evaluates "If-None-Match: *" for a change: there reports whether the
// resource is. It refuses if the client wants to make it and it is.
func (c *Call) Absent(there bool) bool {
	none := c.R.Header.Values("If-None-Match")
	if there && len(none) > 0 && matches(none, "*") {
		c.Refuse(http.StatusPreconditionFailed, "it is there already")
		return false
	}
	return true
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

// Decode reads one JSON value and no more, without unknown fields.
func Decode(r io.Reader, into any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	switch _, err := d.Token(); err {
	case io.EOF:
		return nil
	case nil:
		return errors.New("more than one value")
	default:
		return err
	}
}

// Read decodes the body, or refuses.
func (c *Call) Read(into any) bool {
	err := Decode(c.R.Body, into)
	if err == nil {
		return true
	}
	switch {
	case isTooLarge(err):
		c.Refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("a body has at most %d bytes", MaxBody))
	case isTimeout(err):
		c.W.Header().Set("Connection", "close")
		c.Refuse(http.StatusRequestTimeout, "the body took too long")
	default:
		c.Refuse(http.StatusBadRequest, "body: "+err.Error())
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

// Query reads the parameters, of which only the named ones may be there, each
// once.
func (c *Call) Query(names ...string) (url.Values, bool) {
	q, err := url.ParseQuery(c.R.URL.RawQuery)
	if err != nil {
		c.Refuse(http.StatusBadRequest, "the query is malformed")
		return nil, false
	}
	for name, values := range q {
		if !slices.Contains(names, name) || len(values) > 1 {
			c.Refuse(http.StatusBadRequest, "the parameters are "+strings.Join(names, ", ")+", each at most once")
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

// Limit reads the parameter of that name.
func (c *Call) Limit(q url.Values) (int, bool) {
	s := q.Get("limit")
	if s == "" {
		return defaultLimit, true
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxLimit {
		c.Refuse(http.StatusBadRequest, fmt.Sprintf("limit is 1 to %d", maxLimit))
		return 0, false
	}
	return n, true
}

// Page returns those of a list in the order of their names that come after one,
// at most so many, and the name to go on from; "": there are no more.
func Page[T any](list []T, name func(T) string, after string, limit int) (page []T, next string) {
	i, found := slices.BinarySearchFunc(list, after, func(e T, after string) int { return strings.Compare(name(e), after) })
	if found {
		i++
	}
	page = list[i:]
	if len(page) > limit {
		page = page[:limit]
		next = name(page[limit-1])
	}
	return page, next
}
