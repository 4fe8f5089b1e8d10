package turnapi

import (
	"encoding/hex"
	"net/http"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// A user is what comes out: no secret.
type user struct {
	Name      string `json:"name"`
	Realm     string `json:"realm,omitempty"`
	ShortTerm bool   `json:"shortTerm,omitempty"`
	limits
}

// limits are auth.Limits.
type limits struct {
	BitRate  int64 `json:"bitRate,omitempty"` // bits a second of a session
	Sessions int   `json:"sessions,omitempty"`
}

// A credential is what goes in.
type credential struct {
	Password  string `json:"password"`
	Key       string `json:"key"`       // MD5(name:realm:password), hexadecimal
	KeySHA256 string `json:"keySHA256"` // of RFC 8489
	ShortTerm bool   `json:"shortTerm"`
	limits
}

func (h *Handler) listUsers(c *rest.Call) {
	list := []user{}
	for _, u := range h.Users.List() {
		list = append(list, user{u.Name, u.Realm, u.ShortTerm, limits(u.Limits)})
	}
	c.Answer(map[string][]user{"users": list})
}

func (h *Handler) putUser(c *rest.Call) {
	var given credential
	if !c.Read(&given) {
		return
	}
	u := turnauth.User{
		Name: c.R.PathValue("name"), Realm: c.R.URL.Query().Get("realm"),
		ShortTerm: given.ShortTerm, Password: given.Password, Limits: auth.Limits(given.limits),
	}
	var err error
	if u.Key, err = hex.DecodeString(given.Key); err == nil {
		u.KeySHA256, err = hex.DecodeString(given.KeySHA256)
	}
	if err != nil {
		c.Refuse(http.StatusUnprocessableEntity, "a key is hexadecimal digits")
		return
	}
	if err := h.Users.Put(u); err != nil {
		c.Refuse(http.StatusUnprocessableEntity, err.Error())
		return
	}
	c.Done()
}

func (h *Handler) deleteUser(c *rest.Call) {
	if !h.Users.Remove(c.R.URL.Query().Get("realm"), c.R.PathValue("name")) {
		c.Refuse(http.StatusNotFound, "no such user")
		return
	}
	c.Done()
}
