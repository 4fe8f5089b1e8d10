package turn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/stun"
)

// clientAuth is what requests of a session are authenticated with. It is
// immutable; a challenge makes a new one. nil adds nothing.
type clientAuth struct {
	realm, nonce string
	key          *stunwire.Key
	sha256       bool // MESSAGE-INTEGRITY-SHA256 only, RFC 8489 Section 9.2.4
	inherited    bool // from another session: the nonce may not count here

	userName string // USERNAME, or
	userHash []byte // USERHASH

	algorithm  stunwire.Algorithm // PASSWORD-ALGORITHM, with
	algorithms []byte             // PASSWORD-ALGORITHMS, as the server sent it; nil: neither
	token      []byte             // ACCESS-TOKEN
}

// sign adds the credential, and the integrity over everything before it.
func (a *clientAuth) sign(b *stunwire.Builder) {
	if a == nil {
		return
	}
	if a.userHash != nil {
		b.Add(stunwire.AttrUserHash, a.userHash)
	} else {
		b.AddString(stunwire.AttrUsername, a.userName)
	}
	b.AddString(stunwire.AttrRealm, a.realm)
	b.AddString(stunwire.AttrNonce, a.nonce)
	if a.algorithms != nil {
		b.Add(stunwire.AttrPasswordAlgorithms, a.algorithms)
		b.Add(stunwire.AttrPasswordAlgorithm, []byte{byte(a.algorithm >> 8), byte(a.algorithm), 0, 0})
	}
	if a.token != nil {
		b.Add(stunwire.AttrAccessToken, a.token)
	}
	if a.sha256 {
		b.AddIntegritySHA256(a.key)
	} else {
		b.AddIntegrity(a.key)
	}
}

// authentic reports whether a response may be believed: a success response
// only if it proves the key. Error responses need not, for the server may not
// know the key; but a proof that is wrong is not believed.
func (a *clientAuth) authentic(m *stunwire.Message) bool {
	if a == nil {
		return true
	}
	if _, ok := m.Get(stunwire.AttrMessageIntegritySHA256); ok {
		return m.CheckIntegritySHA256(a.key)
	}
	if _, ok := m.Get(stunwire.AttrMessageIntegrity); ok {
		return !a.sha256 && m.CheckIntegrity(a.key)
	}
	return m.Type.Class() == stunwire.Error
}

// inherit returns a for a new connection to the same server.
func (a *clientAuth) inherit() *clientAuth {
	b := *a
	b.inherited = true
	return &b
}

// challenged answers a 401 or 438 with new credentials. old is what the
// refused request had.
func (c *Client) challenged(ctx context.Context, old *clientAuth, r *clientReply) (*clientAuth, error) {
	nonce, ok := r.Get(stunwire.AttrNonce)
	if !ok || len(nonce) > 763 {
		return nil, ErrProtocol
	}
	a := &clientAuth{nonce: string(nonce)}
	if realm, ok := r.Get(stunwire.AttrRealm); ok && len(realm) <= 763 {
		a.realm = string(realm)
	} else if old != nil {
		a.realm = old.realm
	} else {
		return nil, ErrProtocol
	}
	features, _ := stun.NonceFeatures(a.nonce)
	algorithms, offered := r.Get(stunwire.AttrPasswordAlgorithms)
	if features&stun.PasswordAlgorithms != 0 && !offered {
		return nil, errors.Join(ErrProtocol, errors.New("turn: the password algorithms were taken out on the way")) // Section 9.2.5
	}
	if old != nil && !old.inherited && old.realm == a.realm {
		if old.sha256 && !offered {
			return nil, errors.Join(ErrProtocol, errors.New("turn: the server fell back to MD5"))
		}
		// The same credential for a new nonce.
		b := *old
		b.nonce = a.nonce
		if offered {
			b.algorithms = append([]byte(nil), algorithms...)
		}
		return &b, nil
	}
	if c.Token != nil {
		server, _ := r.Get(stunwire.AttrThirdPartyAuthorization)
		t, err := c.Token(ctx, string(server), a.realm)
		if err != nil {
			return nil, fmt.Errorf("turn: access token: %w", err)
		}
		if len(t.Token) == 0 || len(t.Key) == 0 || len(t.Token) > 4096 {
			return nil, errors.New("turn: an access token that is empty or too long")
		}
		a.userName, a.token, a.key = t.KeyID, t.Token, stunwire.NewKey(t.Key)
		return a, nil
	}
	if c.Username == "" {
		return nil, ErrUnauthorized
	}
	user, err := stun.OpaqueString(c.Username)
	if err != nil {
		return nil, fmt.Errorf("turn: user name: %w", err)
	}
	a.userName, a.algorithm = user, stunwire.MD5
	if offered {
		a.algorithms, a.sha256 = append([]byte(nil), algorithms...), true
		if a.algorithm, ok = chooseAlgorithm(a.algorithms); !ok {
			return nil, errors.Join(ErrProtocol, errors.New("turn: the server knows no password algorithm that we know"))
		}
		if features&stun.UsernameAnonymity != 0 {
			if a.userHash, err = stun.UserHash(user, a.realm); err != nil {
				return nil, fmt.Errorf("turn: realm: %w", err)
			}
		}
	}
	key, err := stun.LongTermKey(user, a.realm, c.Password, a.algorithm)
	if err != nil {
		return nil, fmt.Errorf("turn: realm or password: %w", err)
	}
	a.key = stunwire.NewKey(key)
	return a, nil
}

// chooseAlgorithm returns the first algorithm of PASSWORD-ALGORITHMS that we
// know, RFC 8489 Section 14.11.
func chooseAlgorithm(v []byte) (stunwire.Algorithm, bool) {
	for len(v) >= 4 {
		algorithm, size := stunwire.Algorithm(binary.BigEndian.Uint16(v)), int(binary.BigEndian.Uint16(v[2:]))
		if (algorithm == stunwire.MD5 || algorithm == stunwire.SHA256) && size == 0 {
			return algorithm, true
		}
		v = v[min(len(v), 4+(size+3)&^3):]
	}
	return 0, false
}
