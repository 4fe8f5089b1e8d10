package natsregistry

import (
	"bytes"
	"errors"
	"strings"

	"github.com/runnel-media/runnel/relay"
)

// A view is what the bucket holds, as far as it was told, and what of it counts.
type view struct {
	servers map[string]known
	claims  map[string]claimed
}

type known struct {
	server  *relay.Server
	session string
	raw     []byte
}

type claimed struct {
	claimValue
	revision uint64
}

// What a view holds at most.
const (
	maxServers = 100_000
	maxClaims  = 4_000_000
)

var errTooMany = errors.New("natsregistry: more in the bucket than can be")

func newView() *view {
	return &view{servers: make(map[string]known), claims: make(map[string]claimed)}
}

// holds reports whether a claim's server is there, in the same session.
func (v *view) holds(c claimed) bool {
	s, ok := v.servers[c.Server]
	return ok && s.session == c.Session
}

// all returns everything that counts.
func (v *view) all() []relay.Change {
	list := make([]relay.Change, 0, len(v.servers)+len(v.claims))
	for _, s := range v.servers {
		list = append(list, relay.Change{Server: s.server})
	}
	for name, c := range v.claims {
		if v.holds(c) {
			list = append(list, relay.Change{Stream: name, Owner: c.Server})
		}
	}
	return list
}

// first returns the least ID of a live server.
func (v *view) first() (id string, ok bool) {
	for other := range v.servers {
		if !ok || other < id {
			id, ok = other, true
		}
	}
	return id, ok
}

// void returns the claims that nobody holds, with their revisions.
func (v *view) void() map[string]uint64 {
	list := make(map[string]uint64)
	for name, c := range v.claims {
		if !v.holds(c) {
			list[name] = c.revision
		}
	}
	return list
}

// An entry is what the bucket has for a key now.
type entry struct {
	key      string
	value    []byte
	revision uint64
	gone     bool
	last     bool // there is no more for now
}

// apply takes a change of the bucket and returns what follows. What is
// malformed is as good as absent.
func (v *view) apply(e entry) ([]relay.Change, error) {
	if token, ok := strings.CutPrefix(e.key, claimPrefix); ok {
		name, err := decodeKey(token, maxStream)
		if err != nil {
			return nil, nil
		}
		value, err := parseClaim(e.value)
		return v.claim(name, claimed{value, e.revision}, e.gone || err != nil)
	}
	token, ok := strings.CutPrefix(e.key, serverPrefix)
	id, err := decodeKey(token, maxID)
	if !ok || err != nil {
		return nil, nil
	}
	value, s, err := parseLease(e.value)
	if e.gone || err != nil || s.ID != id {
		return v.leave(id), nil
	}
	return v.enter(known{&s, value.Session, value.Server})
}

func (v *view) claim(name string, c claimed, gone bool) ([]relay.Change, error) {
	old, had := v.claims[name]
	had = had && v.holds(old)
	if gone {
		delete(v.claims, name)
	} else {
		v.claims[name] = c
	}
	switch {
	case !gone && v.holds(c):
		if len(v.claims) > maxClaims {
			return nil, errTooMany
		}
		return []relay.Change{{Stream: name, Owner: c.Server}}, nil
	case had:
		return []relay.Change{{Stream: name, Owner: old.Server, Gone: true}}, nil
	}
	return nil, nil
}

// enter makes a server known, or what is known of it current.
func (v *view) enter(s known) (changes []relay.Change, err error) {
	id := s.server.ID
	old, had := v.servers[id]
	if had && old.session == s.session {
		if !bytes.Equal(old.raw, s.raw) {
			v.servers[id] = s
			changes = append(changes, relay.Change{Server: s.server})
		}
		return changes, nil
	}
	changes = v.claimsOf(id, old.session, true)
	v.servers[id] = s
	if len(v.servers) > maxServers {
		return nil, errTooMany
	}
	changes = append(changes, relay.Change{Server: s.server})
	return append(changes, v.claimsOf(id, s.session, false)...), nil
}

// leave forgets a server. Its claims stay in the view: it may return in the
// same session.
func (v *view) leave(id string) []relay.Change {
	old, had := v.servers[id]
	if !had {
		return nil
	}
	delete(v.servers, id)
	return append(v.claimsOf(id, old.session, true), relay.Change{Server: old.server, Gone: true})
}

func (v *view) claimsOf(id, session string, gone bool) (changes []relay.Change) {
	for name, c := range v.claims {
		if c.Server == id && c.Session == session {
			changes = append(changes, relay.Change{Stream: name, Owner: id, Gone: gone})
		}
	}
	return changes
}
