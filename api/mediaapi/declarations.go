package mediaapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/declared"
	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/stream"
)

type labels map[string]string

// A declaration is what callers read and write of a stream.Declaration.
type declaration struct {
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Labels      labels   `json:"labels"`
	Policies    policies `json:"policies"`
	Limits      limits   `json:"limits"`
}

type policies struct {
	Disabled  bool       `json:"disabled"`
	Replace   bool       `json:"replace"`
	Protocols []string   `json:"protocols"`
	Expires   *time.Time `json:"expires"`
}

type limits struct {
	Viewers int   `json:"viewers"`
	BitRate int64 `json:"bit_rate"`
}

// A declarationInfo is what they read beside it.
type declarationInfo struct {
	Name string `json:"name"`
	declaration
	HasKey  bool      `json:"has_publish_key"`
	Key     string    `json:"publish_key,omitempty"` // once, if it was made here
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
}

// A declarationBody is what they write beside it.
type declarationBody struct {
	Name string `json:"name"`
	declaration
	Key    *string `json:"publish_key"`     // "": there is none; nil: it stays
	NewKey bool    `json:"new_publish_key"` // one is made
}

func editable(d *stream.Declaration) declaration {
	out := declaration{
		Title: d.Title, Description: d.Description, Labels: d.Labels,
		Policies: policies{Disabled: d.Disabled, Replace: d.Replace, Protocols: d.Protocols},
		Limits:   limits{d.MaxViewers, d.MaxBitRate},
	}
	if out.Labels == nil {
		out.Labels = labels{}
	}
	if out.Policies.Protocols == nil {
		out.Policies.Protocols = []string{}
	}
	if !d.Expires.IsZero() {
		out.Policies.Expires = &d.Expires
	}
	return out
}

func describeDeclaration(name string, d *stream.Declaration) declarationInfo {
	return declarationInfo{Name: name, declaration: editable(d), HasKey: d.KeyHash != nil, Created: d.Created, Changed: d.Changed}
}

type declarationList struct {
	Declarations []declarationInfo `json:"declarations"`
	Total        int               `json:"total"`
	Next         string            `json:"next,omitempty"`
}

func (h *Handler) listDeclarations(c *rest.Call) {
	q, ok := c.Query("prefix", "after", "limit")
	if !ok {
		return
	}
	limit, ok := c.Limit(q)
	if !ok {
		return
	}
	all := h.all(func(k known) bool { return k.decl != nil && strings.HasPrefix(k.name, q.Get("prefix")) })
	page, next := rest.Page(all, func(k known) string { return k.name }, q.Get("after"), limit)
	list := declarationList{Declarations: []declarationInfo{}, Total: len(all), Next: next}
	for _, k := range page {
		list.Declarations = append(list.Declarations, describeDeclaration(k.name, k.decl))
	}
	c.Answer(list)
}

// declaration finds what was declared of the stream that the path names.
func (h *Handler) declaration(c *rest.Call) (name string, d *stream.Declaration) {
	name = c.R.PathValue("name")
	return name, h.Hub.Declaration(name)
}

func (h *Handler) getDeclaration(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	name, d := h.declaration(c)
	if d == nil {
		c.Refuse(http.StatusNotFound, "no such stream is declared")
		return
	}
	c.Answer(describeDeclaration(name, d))
}

// declareStream declares the stream that the body names, which must not be
// declared yet.
func (h *Handler) declareStream(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	var text json.RawMessage
	if !c.Read(&text) {
		return
	}
	body, ok := decodeDeclaration(c, text)
	if !ok {
		return
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.Hub.Declaration(body.Name) != nil {
		c.Refuse(http.StatusConflict, "the stream is declared already")
		return
	}
	h.declare(c, body.Name, body, nil)
}

func (h *Handler) putDeclaration(c *rest.Call) { h.editDeclaration(c, false) }

func (h *Handler) patchDeclaration(c *rest.Call) { h.editDeclaration(c, true) }

// editDeclaration makes the declaration what the body says, or with patch what
// it is with the changes that the body says (RFC 7396). What the body does not
// say of a key, stays.
func (h *Handler) editDeclaration(c *rest.Call, patch bool) {
	if _, ok := c.Query(); !ok {
		return
	}
	var text json.RawMessage
	if !c.Read(&text) {
		return
	}
	h.changing.Lock() // so that If-Match holds until the change
	defer h.changing.Unlock()
	name, old := h.declaration(c)
	if old == nil && patch {
		c.Refuse(http.StatusNotFound, "no such stream is declared; PUT declares it")
		return
	}
	var now any
	if old != nil {
		now = describeDeclaration(name, old)
	}
	if !c.Absent(old != nil) || !c.Unchanged(now) {
		return
	}
	if patch {
		var err error
		if text, err = patched(editable(old), text); err != nil {
			c.Refuse(http.StatusBadRequest, "body: "+err.Error())
			return
		}
	}
	body, ok := decodeDeclaration(c, text)
	if !ok {
		return
	}
	if body.Name != "" && body.Name != name {
		c.Refuse(http.StatusUnprocessableEntity, "name is the path's; a stream cannot be renamed")
		return
	}
	h.declare(c, name, body, old)
}

func decodeDeclaration(c *rest.Call, text []byte) (*declarationBody, bool) {
	var body declarationBody
	if err := rest.Decode(bytes.NewReader(text), &body); err != nil {
		c.Refuse(http.StatusBadRequest, "body: "+err.Error())
		return nil, false
	}
	return &body, true
}

// declare checks a declaration and makes it; old is what it replaces, or nil.
// h.changing is held.
func (h *Handler) declare(c *rest.Call, name string, body *declarationBody, old *stream.Declaration) {
	most := h.MaxDeclarations
	if most <= 0 {
		most = 10_000
	}
	if old == nil && len(h.all(func(k known) bool { return k.decl != nil })) >= most {
		c.Refuse(http.StatusInsufficientStorage, "there are as many declarations as there may be")
		return
	}
	if err := body.check(); err != nil {
		c.Refuse(http.StatusUnprocessableEntity, err.Error())
		return
	}
	d := &stream.Declaration{
		Title: body.Title, Description: body.Description, Labels: body.Labels,
		Disabled: body.Policies.Disabled, Replace: body.Policies.Replace, Protocols: body.Policies.Protocols,
		MaxViewers: body.Limits.Viewers, MaxBitRate: body.Limits.BitRate,
	}
	if body.Policies.Expires != nil {
		d.Expires = *body.Policies.Expires
	}
	if old != nil {
		d.KeyHash, d.Created = old.KeyHash, old.Created
	}
	key := ""
	switch {
	case body.NewKey:
		key = newKey()
		d.KeyHash = declared.HashKey(key)
	case body.Key != nil && *body.Key == "":
		d.KeyHash = nil
	case body.Key != nil:
		d.KeyHash = declared.HashKey(*body.Key)
	}
	if !h.change(c, name, d) {
		return
	}
	info := describeDeclaration(name, h.Hub.Declaration(name))
	info.Key = key
	if old == nil {
		c.Created(location("/api/v2/declarations/", name), info)
		return
	}
	c.Answer(info)
}

// change makes d the declaration of a stream, nil for none, and stores it. If
// that fails nothing changes, and it refuses. h.changing is held.
func (h *Handler) change(c *rest.Call, name string, d *stream.Declaration) bool {
	old := h.Hub.Declaration(name)
	set := func(d *stream.Declaration) error {
		if d == nil {
			h.Hub.Undeclare(name)
			return nil
		}
		return h.Hub.Declare(name, d)
	}
	if err := set(d); err != nil {
		if errors.Is(err, stream.ErrName) {
			c.Refuse(http.StatusUnprocessableEntity, "name: "+err.Error())
		} else {
			c.Refuse(http.StatusServiceUnavailable, "the server is ending")
		}
		return false
	}
	if h.Declarations == nil {
		return true
	}
	if err := h.Declarations.Save(c.R.Context(), h.Hub); err != nil {
		_ = set(old) // it was valid
		c.More = append(c.More, "err", err)
		c.Refuse(http.StatusInternalServerError, "it could not be stored, and is as it was")
		return false
	}
	return true
}

// deleteDeclaration forgets a declaration; what is live goes on.
func (h *Handler) deleteDeclaration(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	name, d := h.declaration(c)
	if d == nil {
		c.Refuse(http.StatusNotFound, "no such stream is declared")
		return
	}
	if c.Unchanged(describeDeclaration(name, d)) && h.change(c, name, nil) {
		c.Done()
	}
}
