package recordapi

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
)

// A recording is a record.Info as callers see it.
type recording struct {
	Name     string             `json:"name"`
	Format   record.Format      `json:"format"`
	Stream   string             `json:"stream"`
	Session  string             `json:"session"` // the same for all segments
	Segment  int                `json:"segment"`
	Start    time.Time          `json:"start"`
	Duration float64            `json:"duration"` // seconds
	Size     int64              `json:"size"`     // bytes of all files
	Tracks   []record.TrackInfo `json:"tracks"`
	Repaired bool               `json:"repaired"`
	Cut      bool               `json:"cut"` // it ended early, by a failure
	Signed   string             `json:"signed,omitempty"`

	// Of one recording only, not of a list.
	PlayURL string `json:"play_url,omitempty"`
	Files   []file `json:"files,omitempty"`
}

type file struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func describe(i *record.Info) recording {
	r := recording{
		Name: i.Name, Format: i.Format, Stream: i.Stream, Session: i.Session, Segment: i.Segment, Start: i.Start,
		Duration: i.Duration.Seconds(), Size: i.Size, Tracks: i.Tracks, Repaired: i.Repaired, Cut: i.Error != "", Signed: i.Signed,
	}
	if r.Tracks == nil {
		r.Tracks = []record.TrackInfo{}
	}
	return r
}

func (h *Handler) describeOne(i *record.Info) recording {
	r := describe(i)
	for _, f := range i.Files {
		r.Files = append(r.Files, file{f.Name, f.Size, hex.EncodeToString(f.SHA256)})
	}
	if h.PlayURL != nil {
		r.PlayURL = h.PlayURL(i)
	}
	return r
}

type recordingList struct {
	Recordings []recording `json:"recordings"`
	Total      int         `json:"total"`
	Bytes      int64       `json:"bytes"` // of all that match
	Next       string      `json:"next,omitempty"`
}

// library returns what recordings there are, or refuses.
func (h *Handler) library(c *rest.Call) *record.Library {
	if h.Library == nil {
		c.Refuse(http.StatusNotFound, "there are no recordings here")
	}
	return h.Library
}

// readQuery reads what recordings are wanted.
func readQuery(v url.Values) (q record.Query, err error) {
	q = record.Query{Prefix: v.Get("prefix"), Stream: v.Get("stream"), Session: v.Get("session")}
	for _, t := range []struct {
		name string
		to   *time.Time
	}{{"from", &q.From}, {"to", &q.To}} {
		if text := v.Get(t.name); text != "" {
			if *t.to, err = time.Parse(time.RFC3339, text); err != nil {
				return q, fmt.Errorf("%s is a time such as 2026-01-02T03:04:05Z", t.name)
			}
		}
	}
	return q, nil
}

// order is that of lists: the newest first.
func order(aStart int64, aName string, bStart int64, bName string) int {
	return cmp.Or(cmp.Compare(bStart, aStart), strings.Compare(aName, bName))
}

func (h *Handler) list(c *rest.Call) {
	v, ok := c.Query("stream", "prefix", "session", "from", "to", "after", "limit")
	if !ok {
		return
	}
	limit, ok := c.Limit(v)
	l := h.Library
	if ok {
		l = h.library(c)
	}
	if !ok || l == nil {
		return
	}
	q, err := readQuery(v)
	started, name, cut := strings.Cut(v.Get("after"), ".")
	after, bad := int64(0), error(nil)
	if v.Get("after") != "" {
		after, bad = strconv.ParseInt(started, 10, 64)
	}
	if err == nil && (bad != nil || v.Get("after") != "" && !cut) {
		err = errors.New("after is what was next")
	}
	if err != nil {
		c.Refuse(http.StatusBadRequest, err.Error())
		return
	}
	all, err := l.List(c.R.Context(), q)
	if err != nil {
		h.fail(c, err)
		return
	}
	slices.SortFunc(all, func(a, b *record.Info) int { return order(a.Start.UnixNano(), a.Name, b.Start.UnixNano(), b.Name) })
	out := recordingList{Recordings: []recording{}, Total: len(all)}
	for _, i := range all {
		out.Bytes += i.Size
	}
	if cut {
		all = slices.DeleteFunc(all, func(i *record.Info) bool { return order(i.Start.UnixNano(), i.Name, after, name) <= 0 })
	}
	if len(all) > limit {
		all = all[:limit]
		last := all[limit-1]
		out.Next = strconv.FormatInt(last.Start.UnixNano(), 10) + "." + last.Name
	}
	for _, i := range all {
		out.Recordings = append(out.Recordings, describe(i))
	}
	c.Answer(out)
}

// info finds the recording that the path names.
func (h *Handler) info(c *rest.Call) *record.Info {
	l := h.library(c)
	if l == nil {
		return nil
	}
	i, err := l.Info(c.R.Context(), c.R.PathValue("name"))
	if err != nil {
		h.fail(c, err)
		return nil
	}
	return i
}

func (h *Handler) get(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	if i := h.info(c); i != nil {
		c.Answer(h.describeOne(i))
	}
}

func (h *Handler) remove(c *rest.Call) {
	q, ok := c.Query("reason")
	if !ok {
		return
	}
	i := h.info(c)
	if i == nil || !c.Unchanged(h.describeOne(i)) {
		return
	}
	c.More = []any{"stream", i.Stream, "bytes", i.Size, "reason", q.Get("reason")}
	if err := h.Library.Delete(c.R.Context(), i.Name, c.Caller.User, q.Get("reason")); err != nil {
		h.fail(c, err)
		return
	}
	c.Done()
}

// fail refuses as an error of the storage wants it. Its text is for the log.
func (h *Handler) fail(c *rest.Call, err error) {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, stream.ErrName):
		c.Refuse(http.StatusNotFound, "there is no such recording")
	default:
		c.More = append(c.More, "err", err)
		c.Refuse(http.StatusBadGateway, "the storage refuses or fails; the log says why")
	}
}
