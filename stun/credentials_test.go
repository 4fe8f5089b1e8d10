package stun

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

func errorsAs[T any](err error, to *T) bool { return errors.As(err, to) }

var testSecret = []byte("sixteen bytes or more")

// users looks names up, hashed ones too, with the password "pass".
func users(names ...string) func(Claim) ([]byte, bool) {
	return func(c Claim) ([]byte, bool) {
		for _, name := range names {
			hash, _ := UserHash(name, "realm")
			if c.User != name && string(c.UserHash) != string(hash) {
				continue
			}
			if c.Algorithm == 0 {
				return []byte("pass"), true
			}
			key, err := LongTermKey(name, c.Realm, "pass", c.Algorithm)
			return key, err == nil
		}
		return nil, false
	}
}

// TestCredentials runs Client against Server for each way to prove oneself.
func TestCredentials(t *testing.T) {
	long := Credentials{Username: "マトリックス", Password: "pass"}
	short := Credentials{Username: "user", Password: "pass", ShortTerm: true}
	all := users("マトリックス", "user")
	for _, test := range []struct {
		name     string
		verifier Verifier
		client   Credentials
		requests int
		attrs    []stunwire.Attr // of the last request
		answer   stunwire.Attr   // that proves it
		err      error
		code     int
	}{
		{name: "SHA-256", verifier: Verifier{Realm: "realm", Key: all}, client: long, requests: 2, answer: stunwire.AttrMessageIntegritySHA256,
			attrs: []stunwire.Attr{stunwire.AttrUsername, stunwire.AttrRealm, stunwire.AttrNonce, stunwire.AttrPasswordAlgorithms, stunwire.AttrPasswordAlgorithm, stunwire.AttrMessageIntegritySHA256}},
		{name: "MD5 first", verifier: Verifier{Realm: "realm", Key: all, Algorithms: []Algorithm{7, MD5, SHA256}}, client: long, requests: 2, answer: stunwire.AttrMessageIntegritySHA256},
		{name: "anonymous", verifier: Verifier{Realm: "realm", Key: all, Anonymous: true}, client: long, requests: 2, answer: stunwire.AttrMessageIntegritySHA256,
			attrs: []stunwire.Attr{stunwire.AttrUserHash, stunwire.AttrRealm, stunwire.AttrNonce, stunwire.AttrPasswordAlgorithms, stunwire.AttrPasswordAlgorithm, stunwire.AttrMessageIntegritySHA256}},
		{name: "unknown algorithms", verifier: Verifier{Realm: "realm", Key: all, Algorithms: []Algorithm{7}}, client: long, requests: 1, err: ErrBidDown},
		{name: "wrong user", verifier: Verifier{Realm: "realm", Key: all}, client: Credentials{Username: "nobody", Password: "pass"}, requests: 2, code: 401},
		{name: "wrong password", verifier: Verifier{Realm: "realm", Key: all}, client: Credentials{Username: "user", Password: "other"}, requests: 2, code: 401},
		{name: "short-term", verifier: Verifier{Key: all}, client: short, requests: 1, answer: stunwire.AttrMessageIntegritySHA256,
			attrs: []stunwire.Attr{stunwire.AttrUsername, stunwire.AttrMessageIntegrity, stunwire.AttrMessageIntegritySHA256}},
		{name: "short-term, wrong password", verifier: Verifier{Key: all}, client: Credentials{Username: "user", Password: "other", ShortTerm: true}, requests: 7, err: ErrIntegrity},
		{name: "none but short-term wanted", verifier: Verifier{Key: all}, client: long, requests: 1, code: 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				test.verifier.NonceSecret = testSecret
				defer serveWire(t, w, "10.0.0.2:3478", Responder{Verifier: &test.verifier}).Close()
				s := w.listen("10.0.0.1:1000")
				defer s.Close()
				requests := 0
				var attrs []stunwire.Attr
				var answer stunwire.Message
				w.meddle = func(from, _ netip.AddrPort, b []byte) []byte {
					if from != s.at {
						require.NoError(t, answer.Parse(append([]byte(nil), b...)))
						return b
					}
					requests++
					attrs = nil
					var m stunwire.Message
					require.NoError(t, m.Parse(b))
					for a := range m.Each {
						attrs = append(attrs, a)
					}
					return b
				}
				c := &Client{Credentials: &test.client}
				got, err := c.Binding(t.Context(), s.conn("10.0.0.2:3478"))
				require.Equal(t, test.requests, requests)
				switch {
				case test.err != nil:
					require.ErrorIs(t, err, test.err)
				case test.code != 0:
					var refused *ResponseError
					require.ErrorAs(t, err, &refused)
					require.Equal(t, test.code, refused.Code)
				default:
					require.NoError(t, err)
					require.Equal(t, s.at, got)
					require.True(t, answer.Has(test.answer))
					if test.attrs != nil {
						require.Equal(t, test.attrs, attrs)
					}
					// The second time nothing has to be asked for.
					_, err := c.Binding(t.Context(), s.conn("10.0.0.2:3478"))
					require.NoError(t, err)
					require.Equal(t, test.requests+1, requests)
					if test.client.ShortTerm {
						require.Equal(t, []stunwire.Attr{stunwire.AttrUsername, stunwire.AttrMessageIntegritySHA256}, attrs)
					}
					// Nor when the nonce has become stale, but once.
					time.Sleep(time.Hour)
					_, err = c.Binding(t.Context(), s.conn("10.0.0.2:3478"))
					require.NoError(t, err)
				}
			})
		})
	}
}

// rebuild makes a message again with its attributes changed. f returns nil to
// leave one out.
func rebuild(raw []byte, f func(a stunwire.Attr, v []byte) []byte) []byte {
	var m stunwire.Message
	if m.Parse(raw) != nil {
		return raw
	}
	b := stunwire.Build(nil, m.Type, m.TxID)
	for a, v := range m.Each {
		if v = f(a, v); v != nil {
			b.Add(a, v)
		}
	}
	return b.Bytes()
}

// TestBidDown: somebody on the path takes the security features out.
func TestBidDown(t *testing.T) {
	oldNonce := []byte("obMatJos2AAAA")
	without := func(gone ...stunwire.Attr) func(stunwire.Attr, []byte) []byte {
		return func(a stunwire.Attr, v []byte) []byte {
			for _, g := range gone {
				if a == g {
					return nil
				}
			}
			return v
		}
	}
	for _, test := range []struct {
		name   string
		meddle func(a stunwire.Attr, v []byte) []byte // with challenges
		back   func(a stunwire.Attr, v []byte) []byte // with requests
		err    error
		code   int
	}{
		{name: "the list", meddle: without(stunwire.AttrPasswordAlgorithms), err: ErrBidDown},
		{name: "the list and the cookie's bits", code: 438,
			meddle: func(a stunwire.Attr, v []byte) []byte {
				switch a {
				case stunwire.AttrPasswordAlgorithms:
					return nil
				case stunwire.AttrNonce:
					return append(oldNonce[:13:13], v[13:]...)
				}
				return v
			}},
		{name: "SHA-256 of the list", err: ErrIntegrity, // a 400 that nobody signs is discarded
			meddle: func(a stunwire.Attr, v []byte) []byte {
				if a == stunwire.AttrPasswordAlgorithms {
					return []byte{0, 1, 0, 0}
				}
				return v
			}},
		{name: "the list of the request", err: ErrIntegrity,
			back: without(stunwire.AttrPasswordAlgorithms)},
		{name: "both of the request", code: 401,
			back: without(stunwire.AttrPasswordAlgorithms, stunwire.AttrPasswordAlgorithm)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				defer serveWire(t, w, "10.0.0.2:3478", Responder{Verifier: &Verifier{Realm: "realm", NonceSecret: testSecret, Key: users("user")}}).Close()
				s := w.listen("10.0.0.1:1000")
				defer s.Close()
				w.meddle = func(from, _ netip.AddrPort, b []byte) []byte {
					f := test.meddle
					if from == s.at {
						f = test.back
					}
					if f == nil {
						return b
					}
					return rebuild(b, f)
				}
				_, err := (&Client{Credentials: &Credentials{Username: "user", Password: "pass"}}).Binding(t.Context(), s.conn("10.0.0.2:3478"))
				require.Error(t, err)
				if test.err != nil {
					require.ErrorIs(t, err, test.err)
					return
				}
				var refused *ResponseError
				require.ErrorAs(t, err, &refused)
				require.Equal(t, test.code, refused.Code)
			})
		})
	}
}

// login makes what a client of RFC 8489 sends after a challenge.
func challenged(t *testing.T, v *Verifier, from netip.AddrPort, c Credentials) *login {
	r := Responder{Verifier: v}
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), stunwire.TxID{1})
	out, a := r.Answer(nil, b.Bytes(), from, Primary)
	require.Equal(t, 401, a.Code)
	var m stunwire.Message
	require.NoError(t, m.Parse(out))
	l, err := c.answer(&m, nil, 401)
	require.NoError(t, err)
	return l
}

func request(l *login) []byte {
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), stunwire.TxID{2})
	l.sign(&b)
	return b.Bytes()
}

// TestVerifier: the codes of RFC 8489 Section 9.2.4.
func TestVerifier(t *testing.T) {
	v := &Verifier{Realm: "realm", NonceSecret: testSecret, Key: users("user")}
	here, there := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.1:1001")
	l := challenged(t, v, here, Credentials{Username: "user", Password: "pass"})
	ok := request(l)
	got := v.Check(ok, here)
	require.Zero(t, got.Code)
	require.Equal(t, Claim{User: "user", Realm: "realm", Algorithm: SHA256}, got.Claim)

	require.Equal(t, 438, v.Check(ok, there).Code, "a nonce of another address")
	require.Equal(t, 438, (&Verifier{Realm: "realm", NonceSecret: []byte("another secret 16"), Key: v.Key}).Check(ok, here).Code)
	require.Equal(t, 438, (&Verifier{Realm: "realm", NonceSecret: testSecret, Key: v.Key, Algorithms: []Algorithm{SHA256}}).Check(ok, here).Code, "another offer")
	require.Equal(t, 400, v.Check(ok[:len(ok)-1], here).Code)
	for gone, code := range map[stunwire.Attr]int{
		stunwire.AttrUsername: 400, stunwire.AttrRealm: 400, stunwire.AttrNonce: 400, stunwire.AttrPasswordAlgorithm: 400,
		stunwire.AttrPasswordAlgorithms: 400, stunwire.AttrMessageIntegritySHA256: 401,
	} {
		raw := rebuild(ok, func(a stunwire.Attr, v []byte) []byte {
			if a == gone {
				return nil
			}
			return v
		})
		require.Equal(t, code, v.Check(raw, here).Code, gone.String())
	}
	another := *l
	another.realm = "other"
	require.Equal(t, 401, v.Check(request(&another), here).Code)
	another = *l
	another.sha1, another.sha256 = true, false
	require.Equal(t, 401, v.Check(request(&another), here).Code, "SHA-1 with PASSWORD-ALGORITHM")

	// A client of RFC 5389: MD5, MESSAGE-INTEGRITY, and the answer too.
	key, err := LongTermKey("user", "realm", "pass", MD5)
	require.NoError(t, err)
	older := &login{user: "user", realm: "realm", nonce: l.nonce, key: stunwire.NewKey(key), sha1: true}
	require.Zero(t, v.Check(request(older), here).Code)
	out, a := (&Responder{Verifier: v}).Answer(nil, request(older), here, Primary)
	require.Zero(t, a.Code)
	var m stunwire.Message
	require.NoError(t, m.Parse(out))
	require.True(t, older.accepts(&m, 0))
	require.False(t, m.Has(stunwire.AttrMessageIntegritySHA256))
	// Unless that is not wanted any more.
	strict := &Verifier{Realm: "realm", NonceSecret: testSecret, Key: v.Key, Algorithms: []Algorithm{SHA256}}
	require.Equal(t, 401, strict.Check(request(older), here).Code)

	for _, bad := range []*Verifier{{}, {Realm: "r", Key: v.Key, NonceSecret: []byte("short")}, {Realm: "r", NonceSecret: testSecret}} {
		require.Error(t, (&Server{Responder: Responder{Verifier: bad}}).ServePacket(newWire().listen("10.0.0.1:1")))
	}
	require.Error(t, (&Server{Responder: Responder{Alternate: []netip.AddrPort{here}}}).ServePacket(newWire().listen("10.0.0.1:1")))
}

// TestRedirect: an authenticated 300 names another server and what its
// certificate is for; the client goes there, but not in circles.
func TestRedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		v := &Verifier{Realm: "realm", NonceSecret: testSecret, Key: users("user")}
		second := netip.MustParseAddrPort("10.0.0.3:3478")
		serveWire(t, w, "10.0.0.2:3478", Responder{Verifier: v, AlternateDomain: "two.example",
			Alternate: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:3478"), second}})
		serveWire(t, w, "10.0.0.3:3478", Responder{Verifier: v})
		s := w.listen("10.0.0.1:1000")
		defer s.Close()
		c := &Client{Credentials: &Credentials{Username: "user", Password: "pass"}}
		_, err := c.Binding(t.Context(), s.conn("10.0.0.2:3478"))
		var to *AlternateError
		require.ErrorAs(t, err, &to)
		require.Equal(t, AlternateError{Servers: []netip.AddrPort{second, netip.MustParseAddrPort("[2001:db8::1]:3478")}, Domain: "two.example"}, *to)

		var domains []string
		follow := &Client{Credentials: c.Credentials, Dial: func(_ context.Context, server netip.AddrPort, domain string) (net.Conn, error) {
			domains = append(domains, domain)
			return w.listen("10.0.0.1:1001").conn(server.String()), nil
		}}
		got, err := follow.Binding(t.Context(), s.conn("10.0.0.2:3478"))
		require.NoError(t, err)
		require.Equal(t, "10.0.0.1:1001", got.String())
		require.Equal(t, []string{"two.example"}, domains)

		serveWire(t, w, "10.0.0.4:3478", Responder{Verifier: v, Alternate: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.5:3478")}})
		serveWire(t, w, "10.0.0.5:3478", Responder{Verifier: v, Alternate: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.4:3478")}})
		_, err = follow.Binding(t.Context(), s.conn("10.0.0.4:3478"))
		require.ErrorAs(t, err, &to)
		require.Len(t, domains, 2, "there, and not back")

		// Somebody on the path who says so is not followed.
		w.meddle = func(from, _ netip.AddrPort, b []byte) []byte {
			if from.Port() != 3478 {
				return b
			}
			var m stunwire.Message
			require.NoError(t, m.Parse(b))
			forged := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Error), m.TxID)
			forged.AddError(300, "")
			forged.AddAddr(stunwire.AttrAlternateServer, netip.MustParseAddrPort("10.6.6.6:3478"))
			return forged.Bytes()
		}
		_, err = follow.Binding(t.Context(), s.conn("10.0.0.3:3478"))
		require.Error(t, err)
		require.Len(t, domains, 2)
	})
}
