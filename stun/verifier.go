package stun

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A Claim is who a request says that it is from.
type Claim struct {
	User     string // "" if UserHash came in its place
	UserHash []byte // what UserHash makes of the user; 32 bytes
	Realm    string // "" for short-term credentials
	// Algorithm says of which kind the key has to be: what LongTermKey makes
	// with it. 0 for short-term credentials: the key is the password, prepared
	// with OpaqueString.
	Algorithm Algorithm
}

// A Verifier is the server's part of the credential mechanisms (RFC 8489
// Section 9). Its fields must not change once it is used; Check may be called
// from many goroutines.
type Verifier struct {
	// Realm asks for long-term credentials in it. "": short-term ones.
	Realm string
	// Algorithms are offered in this order. nil: SHA-256, then MD5, which is
	// taken from clients that know nothing else. Leave MD5 out to refuse those.
	Algorithms []Algorithm
	// Anonymous asks clients for a hash in place of their user name.
	Anonymous bool

	// NonceSecret makes nonces, 16 bytes or more of it. Servers that share it
	// take each other's.
	NonceSecret []byte
	// NonceLife is how long a nonce is taken. 0: 10 minutes.
	NonceLife time.Duration

	// Key looks up the key of who is claimed. ok is false if there is none. It
	// is called where packets are read: answer from memory.
	Key func(Claim) (key []byte, ok bool)
}

// A Verdict is what Check found.
type Verdict struct {
	// Code is 0 if the request is proven to come from who it claims, otherwise
	// that of the error to answer with: 400, 401 or 438.
	Code  int
	Claim Claim // proven if Code is 0

	key    *stunwire.Key
	sha256 bool // how the answer is signed
}

var errVerifier = errors.New("stun: a Verifier needs Key, and for long-term credentials a NonceSecret of 16 bytes")

func (v *Verifier) check() error {
	if v.Key == nil || v.Realm != "" && len(v.NonceSecret) < 16 {
		return errVerifier
	}
	return nil
}

func (v *Verifier) algorithms() []Algorithm {
	if v.Algorithms == nil {
		return []Algorithm{SHA256, MD5}
	}
	return v.Algorithms
}

func (v *Verifier) nonces() nonces {
	n := nonces{secret: v.NonceSecret, features: PasswordAlgorithms, life: v.NonceLife}
	if v.Anonymous {
		n.features |= UsernameAnonymity
	}
	if n.life == 0 {
		n.life = 10 * time.Minute
	}
	n.algorithms = appendAlgorithms(nil, v.algorithms()...)
	return n
}

// Check checks a request, whole and as it came. from is the address that it
// came from.
func (v *Verifier) Check(raw []byte, from netip.AddrPort) Verdict {
	var m stunwire.Message
	if m.Parse(raw) != nil {
		return Verdict{Code: 400}
	}
	return v.checkMessage(&m, from)
}

func (v *Verifier) checkMessage(m *stunwire.Message, from netip.AddrPort) Verdict {
	if v.Realm == "" {
		return v.shortTerm(m)
	}
	return v.longTerm(m, from)
}

// shortTerm is RFC 8489 Section 9.1.3.
func (v *Verifier) shortTerm(m *stunwire.Message) Verdict {
	user, ok := text(m, stunwire.AttrUsername, maxUser)
	sha2 := m.Has(stunwire.AttrMessageIntegritySHA256)
	if !ok || !sha2 && !m.Has(stunwire.AttrMessageIntegrity) {
		return Verdict{Code: 400}
	}
	return v.prove(m, Verdict{Claim: Claim{User: user}, sha256: sha2}, sha2)
}

// longTerm is RFC 8489 Section 9.2.4, in its order.
func (v *Verifier) longTerm(m *stunwire.Message, from netip.AddrPort) Verdict {
	sha2 := m.Has(stunwire.AttrMessageIntegritySHA256)
	if !sha2 && !m.Has(stunwire.AttrMessageIntegrity) {
		return Verdict{Code: 401}
	}
	user, named := text(m, stunwire.AttrUsername, maxUser)
	hash, hashed := m.Get(stunwire.AttrUserHash)
	realm, hasRealm := text(m, stunwire.AttrRealm, maxText)
	nonce, hasNonce := m.Get(stunwire.AttrNonce)
	if !named && (!hashed || len(hash) != 32) || !hasRealm || !hasNonce {
		return Verdict{Code: 400}
	}
	claim := Claim{User: user, Realm: realm}
	if !named {
		claim.UserHash = bytes.Clone(hash)
	}
	nonces := v.nonces()
	fresh := nonces.valid(nonce, from, time.Now())
	alg, asked, ok := chooseAlgorithm(m, nonces.algorithms)
	switch {
	case !ok && fresh: // somebody has changed what was offered
		return Verdict{Code: 400}
	case !ok: // what the nonce was offered with is not known any more
		return Verdict{Code: 438}
	}
	claim.Algorithm = alg
	// Who knows PASSWORD-ALGORITHM uses SHA-256 for the integrity too.
	if realm != v.Realm || !slices.Contains(v.algorithms(), alg) || asked && !sha2 {
		return Verdict{Code: 401}
	}
	r := v.prove(m, Verdict{Claim: claim}, sha2)
	if r.Code == 0 && !fresh {
		return Verdict{Code: 438}
	}
	r.sha256 = asked
	return r
}

// chooseAlgorithm returns which one the request uses and whether it asks for
// it itself. It is not ok if the request does not repeat what is offered.
func chooseAlgorithm(m *stunwire.Message, offered []byte) (alg Algorithm, asked, ok bool) {
	list, hasList := m.Get(stunwire.AttrPasswordAlgorithms)
	one, hasOne := m.Get(stunwire.AttrPasswordAlgorithm)
	if !hasList && !hasOne {
		return MD5, false, true
	}
	if !hasList || !hasOne || !bytes.Equal(list, offered) {
		return 0, true, false
	}
	chosen, err := parseAlgorithms(one)
	if err != nil || len(chosen) != 1 {
		return 0, true, false
	}
	list2, _ := parseAlgorithms(offered)
	return chosen[0], true, slices.Contains(list2, chosen[0])
}

// prove checks the integrity of a request, the SHA-256 one if it has it.
func (v *Verifier) prove(m *stunwire.Message, r Verdict, sha2 bool) Verdict {
	secret, ok := v.Key(r.Claim)
	if !ok {
		return Verdict{Code: 401}
	}
	r.key = stunwire.NewKey(secret)
	if sha2 && !m.CheckIntegritySHA256(r.key) || !sha2 && !m.CheckIntegrity(r.key) {
		return Verdict{Code: 401}
	}
	return r
}

// challenge adds what goes with a 401 or 438 of long-term credentials.
func (v *Verifier) challenge(b *stunwire.Builder, from netip.AddrPort) {
	if v.Realm == "" {
		return
	}
	b.AddString(stunwire.AttrRealm, v.Realm)
	n := v.nonces()
	b.Add(stunwire.AttrNonce, n.append(nil, from, time.Now()))
	b.Add(stunwire.AttrPasswordAlgorithms, n.algorithms)
}

// sign protects the answer to a proven request.
func (r *Verdict) sign(b *stunwire.Builder) {
	switch {
	case r.key == nil:
	case r.sha256:
		b.AddIntegritySHA256(r.key)
	default:
		b.AddIntegrity(r.key)
	}
}
