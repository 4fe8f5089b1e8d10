package stun

import (
	"bytes"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// Credentials are what a Client proves who it is with (RFC 8489 Section 9).
type Credentials struct {
	Username, Password string
	// ShortTerm credentials are known to both ends beforehand and go with
	// every request; others wait for the server to name its realm.
	ShortTerm bool
}

// A login is what a Client proves itself with to one server. It is immutable.
type login struct {
	short  bool
	user   string
	hash   []byte // sent in place of user if it is not nil
	realm  string
	nonce  string
	offer  []byte // PASSWORD-ALGORITHMS as it came; nil: a server of RFC 5389
	chosen Algorithm
	key    *stunwire.Key

	sha1, sha256 bool // which integrity goes with requests; both only before the first answer
}

func (c *Credentials) shortTerm() *login {
	user, err := OpaqueString(c.Username)
	if err != nil {
		user = c.Username // ICE's are as they are
	}
	password, err := OpaqueString(c.Password)
	if err != nil {
		password = c.Password
	}
	return &login{short: true, user: user, key: stunwire.NewKey([]byte(password)), sha1: true, sha256: true}
}

// answer makes a new login of a 401 or 438, or nil if there is nothing new to
// try (RFC 8489 Section 9.2.5).
func (c *Credentials) answer(m *stunwire.Message, old *login, code int) (*login, error) {
	if c == nil || c.ShortTerm {
		return nil, nil
	}
	nonce, ok := text(m, stunwire.AttrNonce, maxText)
	realm, hasRealm := text(m, stunwire.AttrRealm, maxText)
	if !hasRealm && old != nil {
		realm = old.realm // older servers leave it out of a 438
	}
	if !ok || realm == "" {
		return nil, nil
	}
	if code == 401 && old != nil && old.realm == realm {
		return nil, nil // the same again would be refused again
	}
	l := &login{realm: realm, nonce: nonce, chosen: MD5}
	features, _ := NonceFeatures(nonce)
	offer, offered := m.Get(stunwire.AttrPasswordAlgorithms)
	if features&PasswordAlgorithms != 0 && !offered || old != nil && old.offer != nil && !offered {
		return nil, ErrBidDown
	}
	if offered {
		list, err := parseAlgorithms(offer)
		if err != nil {
			return nil, err
		}
		l.chosen = 0
		for _, a := range list {
			if a == MD5 || a == SHA256 {
				l.chosen = a
				break
			}
		}
		if l.chosen == 0 {
			return nil, ErrBidDown
		}
		l.offer = bytes.Clone(offer)
	}
	l.sha256 = offered
	l.sha1 = !offered
	var err error
	if l.user, err = OpaqueString(c.Username); err != nil {
		return nil, err
	}
	if features&UsernameAnonymity != 0 {
		if l.hash, err = UserHash(c.Username, realm); err != nil {
			return nil, err
		}
	}
	secret, err := LongTermKey(l.user, realm, c.Password, l.chosen)
	if err != nil {
		return nil, err
	}
	l.key = stunwire.NewKey(secret)
	return l, nil
}

// sign adds the credentials to a request.
func (l *login) sign(b *stunwire.Builder) {
	if l.hash != nil {
		b.Add(stunwire.AttrUserHash, l.hash)
	} else {
		b.AddString(stunwire.AttrUsername, l.user)
	}
	if !l.short {
		b.AddString(stunwire.AttrRealm, l.realm)
		b.AddString(stunwire.AttrNonce, l.nonce)
	}
	if l.offer != nil {
		b.Add(stunwire.AttrPasswordAlgorithms, l.offer)
		b.Add(stunwire.AttrPasswordAlgorithm, appendAlgorithms(nil, l.chosen))
	}
	if l.sha1 {
		b.AddIntegrity(l.key)
	}
	if l.sha256 {
		b.AddIntegritySHA256(l.key)
	}
}

// accepts says whether a response to a signed request is the server's.
func (l *login) accepts(m *stunwire.Message, code int) bool {
	sha1, sha2 := m.Has(stunwire.AttrMessageIntegrity), m.Has(stunwire.AttrMessageIntegritySHA256)
	if !l.short && (code == 401 || code == 438) {
		return true // can't be signed; what it says is looked at before it is followed
	}
	if nonce, ok := m.Get(stunwire.AttrNonce); ok {
		if f, _ := NonceFeatures(string(nonce)); f&PasswordAlgorithms != 0 && !m.Has(stunwire.AttrPasswordAlgorithms) {
			return false
		}
	}
	// One that was not sent does not count, or an attacker would choose.
	switch {
	case sha2 && l.sha256:
		return m.CheckIntegritySHA256(l.key)
	case sha1 && l.sha1:
		return m.CheckIntegrity(l.key)
	}
	return false
}

// proven returns what to go on with after a success: short-term credentials
// keep to the integrity that the server has answered with.
func (l *login) proven(m *stunwire.Message) *login {
	if !l.short || l.sha1 != l.sha256 {
		return l
	}
	next := *l
	next.sha256 = m.Has(stunwire.AttrMessageIntegritySHA256)
	next.sha1 = !next.sha256
	return &next
}
