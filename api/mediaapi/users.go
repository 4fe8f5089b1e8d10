package mediaapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/api/users"
)

// A userInfo is a user. Of passwords the API tells nothing.
type userInfo struct {
	users.User
	Fixed bool `json:"fixed"` // not the API's to change
}

// A userBody is what callers write.
type userBody struct {
	Name string `json:"name"`
	users.Grants
	Password string `json:"password"`
}

type userList struct {
	Users []userInfo `json:"users"`
	Total int        `json:"total"`
	Next  string     `json:"next,omitempty"`
}

// hasUsers reports whether there can be users.
func (h *Handler) hasUsers(c *rest.Call) bool {
	if h.Users == nil && h.FixedUsers == nil {
		c.Refuse(http.StatusNotFound, "users are not kept here")
		return false
	}
	return true
}

// users lists those of both kinds by name.
func (h *Handler) users() (list []userInfo) {
	if h.FixedUsers != nil {
		for _, u := range h.FixedUsers() {
			list = append(list, userInfo{u, true})
		}
	}
	if h.Users != nil {
		for _, u := range h.Users.List() {
			list = append(list, userInfo{u, false})
		}
	}
	slices.SortStableFunc(list, func(a, b userInfo) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// user returns the one of a name, nil if there is none. Where both have it, it
// is the fixed one.
func (h *Handler) user(name string) *userInfo {
	for _, u := range h.users() {
		if u.Name == name {
			return &u
		}
	}
	return nil
}

func (h *Handler) listUsers(c *rest.Call) {
	q, ok := c.Query("after", "limit")
	if !ok {
		return
	}
	limit, ok := c.Limit(q)
	if !ok || !h.hasUsers(c) {
		return
	}
	all := h.users()
	page, next := rest.Page(all, func(u userInfo) string { return u.Name }, q.Get("after"), limit)
	c.Answer(userList{append([]userInfo{}, page...), len(all), next})
}

func (h *Handler) getUser(c *rest.Call) {
	if _, ok := c.Query(); !ok || !h.hasUsers(c) {
		return
	}
	u := h.user(c.R.PathValue("user"))
	if u == nil {
		c.Refuse(http.StatusNotFound, "there is no such user")
		return
	}
	c.Answer(u)
}

func (h *Handler) addUser(c *rest.Call) {
	var body userBody
	if _, ok := c.Query(); !ok || !h.hasUsers(c) || !c.Read(&body) {
		return
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.Users == nil || h.user(body.Name) != nil {
		c.Refuse(http.StatusConflict, "there is a user of that name, or none can be added here")
		return
	}
	u, err := h.Users.Add(users.User{Name: body.Name, Grants: body.Grants}, body.Password)
	if !storedUser(c, err) {
		return
	}
	c.More = []any{"user", u.Name, "as", u.Role.String()}
	c.Created("/api/v2/users/"+url.PathEscape(u.Name), userInfo{u, false})
}

// changeable returns the user that the path names, locked against other
// changes until unlock, or refuses.
func (h *Handler) changeable(c *rest.Call) (u *userInfo, unlock func()) {
	h.changing.Lock()
	u = h.user(c.R.PathValue("user"))
	switch {
	case u == nil:
		c.Refuse(http.StatusNotFound, "there is no such user")
	case u.Fixed:
		c.Refuse(http.StatusConflict, "the user is in the server's configuration, which the API does not change")
	case c.Unchanged(u):
		return u, h.changing.Unlock
	}
	h.changing.Unlock()
	return nil, nil
}

// patchUser changes what the body names (RFC 7396), the password included.
func (h *Handler) patchUser(c *rest.Call) {
	var change json.RawMessage
	if _, ok := c.Query(); !ok || !h.hasUsers(c) || !c.Read(&change) {
		return
	}
	old, unlock := h.changeable(c)
	if old == nil {
		return
	}
	defer unlock()
	var body userBody
	text, err := patched(userBody{Name: old.Name, Grants: old.Grants}, change)
	if err == nil {
		err = rest.Decode(bytes.NewReader(text), &body)
	}
	switch {
	case err != nil:
		c.Refuse(http.StatusBadRequest, "body: "+err.Error())
		return
	case body.Name != old.Name:
		c.Refuse(http.StatusUnprocessableEntity, "a user cannot be renamed")
		return
	}
	u, err := h.Users.Change(users.User{Name: body.Name, Grants: body.Grants}, body.Password)
	if storedUser(c, err) {
		c.More = []any{"user", u.Name, "as", u.Role.String(), "password", body.Password != ""}
		c.Answer(userInfo{u, false})
	}
}

func (h *Handler) deleteUser(c *rest.Call) {
	if _, ok := c.Query(); !ok || !h.hasUsers(c) {
		return
	}
	u, unlock := h.changeable(c)
	if u == nil {
		return
	}
	defer unlock()
	if storedUser(c, h.Users.Delete(u.Name)) {
		c.More = []any{"user", u.Name}
		c.Done()
	}
}

// storedUser reports whether a change was made, or refuses.
func storedUser(c *rest.Call, err error) bool {
	switch {
	case err == nil:
		return true
	case errors.Is(err, users.ErrInvalid):
		c.Refuse(http.StatusUnprocessableEntity, strings.TrimPrefix(err.Error(), users.ErrInvalid.Error()+": "))
	case errors.Is(err, users.ErrFull):
		c.Refuse(http.StatusInsufficientStorage, "there are as many users as there may be; delete some")
	default:
		c.More = []any{"err", err}
		c.Refuse(http.StatusInternalServerError, "it could not be stored, and what was holds")
	}
	return false
}
