package turn

import (
	"crypto/sha256"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/stun"
)

// A credential is who a client has proved to be, and how he did. It is
// immutable: what a session keeps of Auth's answer.
type credential struct {
	user  string // for quotas, logs and metrics: Grant.User, or what the client said
	realm string // that the session counts to

	claim claim
	key   *stunwire.Key // nil: a TLS client certificate, requests have no integrity

	expires time.Time // zero: never
	limits  auth.Limits
	labels  map[string]string
}

// A claim is who a request says it is from.
type claim struct {
	user  string // USERNAME; "" with USERHASH
	hash  [sha256.Size]byte
	realm string
	token [sha256.Size]byte // a digest of ACCESS-TOKEN; zero without
	alg   stunwire.Algorithm
}

// covers reports whether a session that was opened with o takes requests with
// c: the same, or c leaves out the access token, whose key the session has
// (RFC 7635 Section 9).
func (o *claim) covers(c claim) bool {
	if c.token == [sha256.Size]byte{} {
		c.token = o.token
	}
	return *o == c
}

// Bounds of RFC 8489 Sections 14.3, 14.9 and 14.10, and of an access token.
const (
	maxUsername = 508
	maxRealm    = 763
	maxNonce    = 763
	maxToken    = 2048
)

// readClaim reads who a request with integrity says it is from. ok is false
// if it lacks what it needs (400).
func (s *Server) readClaim(m *stunwire.Message) (c claim, ok bool) {
	user, hasUser := m.Get(stunwire.AttrUsername)
	hash, hasHash := m.Get(stunwire.AttrUserHash)
	if hasUser == hasHash && !hasUser || len(user) > maxUsername {
		return c, false
	}
	if hasHash {
		if len(hash) != len(c.hash) || !s.Anonymity {
			return c, false
		}
		copy(c.hash[:], hash)
	} else {
		c.user = string(user)
	}
	c.alg = stunwire.MD5
	if s.ShortTerm {
		return c, hasUser
	}
	realm, hasRealm := m.Get(stunwire.AttrRealm)
	nonce, hasNonce := m.Get(stunwire.AttrNonce)
	if !hasRealm || !hasNonce || len(realm) > maxRealm || len(nonce) > maxNonce {
		return c, false
	}
	c.realm = string(realm)
	if token, hasToken := m.Get(stunwire.AttrAccessToken); hasToken && s.ThirdParty != "" {
		if len(token) > maxToken {
			return c, false
		}
		c.token = sha256.Sum256(token)
	}
	if c.alg, ok = s.readAlgorithm(m); !ok {
		return c, false
	}
	return c, true
}

// The values of PASSWORD-ALGORITHMS, the best first (RFC 8489 Section 14.11).
var (
	algorithmsBoth = []byte{0, byte(stunwire.SHA256), 0, 0, 0, byte(stunwire.MD5), 0, 0}
	algorithmsMD5  = []byte{0, byte(stunwire.MD5), 0, 0}
)

func (s *Server) algorithms() []byte {
	if s.MD5Only {
		return algorithmsMD5
	}
	return algorithmsBoth
}

// readAlgorithm follows RFC 8489 Section 9.2.4: a client that knows of
// algorithms repeats what it was offered, so that nobody can take the better
// ones out of the offer.
func (s *Server) readAlgorithm(m *stunwire.Message) (stunwire.Algorithm, bool) {
	offered, hasOffered := m.Get(stunwire.AttrPasswordAlgorithms)
	chosen, hasChosen := m.Get(stunwire.AttrPasswordAlgorithm)
	if !hasOffered && !hasChosen {
		return stunwire.MD5, true
	}
	if !hasOffered || !hasChosen || string(offered) != string(s.algorithms()) || len(chosen) != 4 {
		return 0, false
	}
	switch string(chosen) {
	case "\x00\x01\x00\x00":
		return stunwire.MD5, true
	case "\x00\x02\x00\x00":
		return stunwire.SHA256, !s.MD5Only
	}
	return 0, false
}

// A proof checks secrets against the integrity of a request.
type proof struct {
	msg   *stunwire.Message
	claim claim
	token bool
	short bool
	key   *stunwire.Key // that fitted; nil: none has
}

// try is auth.Request.Proof.
func (p *proof) try(secret auth.Secret) bool {
	for _, k := range p.keys(secret) {
		if key := stunwire.NewKey(k); intact(p.msg, key) {
			p.key = key
			return true
		}
	}
	return false
}

// keys are what the integrity may have been made with, given a secret.
func (p *proof) keys(secret auth.Secret) [][]byte {
	if p.token {
		if len(secret.Key) == 0 {
			return nil
		}
		return [][]byte{secret.Key}
	}
	if !p.short {
		stored := secret.Key
		if p.claim.alg == stunwire.SHA256 {
			stored = secret.KeySHA256
		}
		if len(stored) > 0 {
			return [][]byte{stored}
		}
	}
	if secret.Plain == "" {
		return nil
	}
	// Clients ought to prepare a password (RFC 8265), and many do not.
	plain := []string{secret.Plain}
	if prepared, err := stun.OpaqueString(secret.Plain); err == nil && prepared != secret.Plain {
		plain = append(plain, prepared)
	}
	user := p.claim.user
	if user == "" {
		user = secret.User
	}
	keys := make([][]byte, len(plain))
	for i, password := range plain {
		if p.short {
			keys[i] = []byte(password)
		} else {
			keys[i] = stunwire.LongTermKey(user, p.claim.realm, password, p.claim.alg)
		}
	}
	return keys
}

// intact checks the integrity of a message, by SHA-256 if it has that.
func intact(m *stunwire.Message, k *stunwire.Key) bool {
	if m.Has(stunwire.AttrMessageIntegritySHA256) {
		return m.CheckIntegritySHA256(k)
	}
	return m.CheckIntegrity(k)
}
