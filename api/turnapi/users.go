package turnapi

import (
	"encoding/hex"
	"net/http"

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

func (h *Handler) listUsers(w http.ResponseWriter, _ *http.Request) {
	list := []user{}
	for _, u := range h.Users.List() {
		list = append(list, user{u.Name, u.Realm, u.ShortTerm, limits(u.Limits)})
	}
	answer(w, map[string][]user{"users": list})
}

func (h *Handler) putUser(w http.ResponseWriter, r *http.Request) {
	var c credential
	if !read(w, r.Body, &c) {
		return
	}
	u := turnauth.User{
		Name: r.PathValue("name"), Realm: r.URL.Query().Get("realm"),
		ShortTerm: c.ShortTerm, Password: c.Password, Limits: auth.Limits(c.limits),
	}
	var err error
	if u.Key, err = hex.DecodeString(c.Key); err == nil {
		u.KeySHA256, err = hex.DecodeString(c.KeySHA256)
	}
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, "a key is hexadecimal digits")
		return
	}
	if err := h.Users.Put(u); err != nil {
		refuse(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handler) deleteUser(w http.ResponseWriter, r *http.Request) {
	if !h.Users.Remove(r.URL.Query().Get("realm"), r.PathValue("name")) {
		refuse(w, http.StatusNotFound, "no such user")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
