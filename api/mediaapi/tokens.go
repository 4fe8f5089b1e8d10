package mediaapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/api/tokens"
)

// A tokenInfo is a token, with its secret when it was made just now.
type tokenInfo struct {
	ID      string      `json:"id"`
	User    string      `json:"user"`
	Role    access.Role `json:"role"`
	Created time.Time   `json:"created"`
	Expires time.Time   `json:"expires,omitzero"`
	Secret  string      `json:"secret,omitempty"`
}

func describeToken(i tokens.Info, secret string) tokenInfo {
	return tokenInfo{i.ID, i.User, i.Role, i.Created, i.Expires, secret}
}

type tokenList struct {
	Tokens []tokenInfo `json:"tokens"`
	Total  int         `json:"total"`
}

// tokens reports whether there is a store.
func (h *Handler) hasTokens(c *rest.Call) bool {
	if h.Tokens == nil {
		c.Refuse(http.StatusNotFound, "tokens are not kept here")
	}
	return h.Tokens != nil
}

// listTokens lists all of them: the store is small.
func (h *Handler) listTokens(c *rest.Call) {
	q, ok := c.Query("user")
	if !ok || !h.hasTokens(c) {
		return
	}
	list := tokenList{Tokens: []tokenInfo{}}
	for _, i := range h.Tokens.List() {
		if q.Get("user") == "" || q.Get("user") == i.User {
			list.Tokens = append(list.Tokens, describeToken(i, ""))
		}
	}
	list.Total = len(list.Tokens)
	c.Answer(list)
}

func (h *Handler) addToken(c *rest.Call) {
	if _, ok := c.Query(); !ok || !h.hasTokens(c) {
		return
	}
	var body struct {
		User    string    `json:"user"`
		Role    string    `json:"role"`
		Expires time.Time `json:"expires"`
	}
	if !c.Read(&body) {
		return
	}
	if !body.Expires.IsZero() && !body.Expires.After(time.Now()) {
		c.Refuse(http.StatusUnprocessableEntity, "expires lies in the past")
		return
	}
	role, err := access.ParseRole(body.Role)
	if err != nil {
		c.Refuse(http.StatusUnprocessableEntity, "role is viewer, operator or admin")
		return
	}
	i, secret, err := h.Tokens.Add(body.User, role, body.Expires)
	switch {
	case errors.Is(err, tokens.ErrUser):
		c.Refuse(http.StatusUnprocessableEntity, "user is 1 to 100 printable characters")
	case errors.Is(err, tokens.ErrFull):
		c.Refuse(http.StatusInsufficientStorage, "there are as many tokens as there may be; revoke some")
	case err != nil:
		c.More = []any{"err", err}
		c.Refuse(http.StatusInternalServerError, "it could not be stored")
	default:
		c.More = []any{"token", i.ID, "user", i.User, "as", i.Role.String()}
		c.Created("/api/v2/tokens/"+i.ID, describeToken(i, secret))
	}
}

func (h *Handler) getToken(c *rest.Call) {
	if _, ok := c.Query(); !ok || !h.hasTokens(c) {
		return
	}
	for _, i := range h.Tokens.List() {
		if i.ID == c.R.PathValue("id") {
			c.Answer(describeToken(i, ""))
			return
		}
	}
	c.Refuse(http.StatusNotFound, "there is no such token")
}

func (h *Handler) revokeToken(c *rest.Call) {
	if _, ok := c.Query(); !ok || !h.hasTokens(c) {
		return
	}
	n, err := h.Tokens.Revoke(func(i tokens.Info) bool { return i.ID == c.R.PathValue("id") })
	switch {
	case err != nil:
		c.More = []any{"err", err}
		c.Refuse(http.StatusInternalServerError, "it could not be stored, and the token still works")
	case n == 0:
		c.Refuse(http.StatusNotFound, "there is no such token")
	default:
		c.Done()
	}
}

// revokeTokens revokes those of a user.
func (h *Handler) revokeTokens(c *rest.Call) {
	q, ok := c.Query("user")
	if !ok || !h.hasTokens(c) {
		return
	}
	if q.Get("user") == "" {
		c.Refuse(http.StatusBadRequest, "which? user=")
		return
	}
	n, err := h.Tokens.Revoke(func(i tokens.Info) bool { return i.User == q.Get("user") })
	if err != nil {
		c.More = []any{"err", err}
		c.Refuse(http.StatusInternalServerError, "it could not be stored, and the tokens still work")
		return
	}
	c.More = []any{"user", q.Get("user"), "revoked", n}
	c.Answer(struct {
		Revoked int `json:"revoked"`
	}{n})
}
