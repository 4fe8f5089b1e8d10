package turn

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/stunwire"
)

func TestAuthenticateErrors(t *testing.T) {
	f := start(t, nil)
	user := func(b *stunwire.Builder) { b.AddString(stunwire.AttrUsername, "alice") }
	sign := func(b *stunwire.Builder) { b.AddIntegrity(stunwire.NewKey([]byte("k"))) }
	c := f.client()
	c.login()
	c.key = nil
	realm := func(b *stunwire.Builder) { b.AddString(stunwire.AttrRealm, c.realm) }
	nonce := func(b *stunwire.Builder) { b.AddString(stunwire.AttrNonce, c.nonce) }
	for name, test := range map[string]struct {
		add  func(*stunwire.Builder)
		code int
	}{
		"nothing":            {with(), 401},
		"no integrity":       {with(user, realm, nonce), 401},
		"no user":            {with(realm, nonce, sign), 400},
		"no realm":           {with(user, nonce, sign), 400},
		"no nonce":           {with(user, realm, sign), 400},
		"user and realm":     {with(user, realm, nonce, sign), 401},
		"another realm":      {with(user, attr(stunwire.AttrRealm, 'x'), nonce, sign), 438},
		"forged nonce":       {with(user, realm, attr(stunwire.AttrNonce, bytes.Repeat([]byte{'a'}, nonceSize)...), sign), 438},
		"short nonce":        {with(user, realm, attr(stunwire.AttrNonce, 'a'), sign), 438},
		"hash not offered":   {with(attr(stunwire.AttrUserHash, make([]byte, 32)...), realm, nonce, sign), 400},
		"algorithm alone":    {with(user, realm, nonce, attr(stunwire.AttrPasswordAlgorithm, 0, 2, 0, 0), sign), 400},
		"algorithms alone":   {with(user, realm, nonce, attr(stunwire.AttrPasswordAlgorithms, algorithmsBoth...), sign), 400},
		"algorithms changed": {with(user, realm, nonce, attr(stunwire.AttrPasswordAlgorithms, algorithmsMD5...), attr(stunwire.AttrPasswordAlgorithm, 0, 1, 0, 0), sign), 400},
		"algorithm unknown":  {with(user, realm, nonce, attr(stunwire.AttrPasswordAlgorithms, algorithmsBoth...), attr(stunwire.AttrPasswordAlgorithm, 0, 9, 0, 0), sign), 400},
		"long name":          {with(attr(stunwire.AttrUsername, make([]byte, 509)...), realm, nonce, sign), 400},
	} {
		t.Run(name, func(t *testing.T) {
			m := c.do(stunwire.Allocate, with(transportAttr(protocolUDP), test.add))
			require.Equal(t, test.code, code(m))
			require.False(t, m.Has(stunwire.AttrMessageIntegrity))
			if test.code != 400 {
				for _, a := range []stunwire.Attr{stunwire.AttrRealm, stunwire.AttrNonce, stunwire.AttrPasswordAlgorithms} {
					require.True(t, m.Has(a), a)
				}
			}
		})
	}
	require.Empty(t, f.server.Stats().Realms["test.example"].Live)
}

func TestWrongPasswordAndUser(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	c.pass = "wrong"
	c.login()
	require.Equal(t, 401, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
	c.user = "nobody"
	c.login()
	require.Equal(t, 401, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
	c.user, c.pass = "alice", "wonder"
	c.allocate()
	good := c.key
	c.key = stunwire.NewKey([]byte("other"))
	require.Equal(t, 401, code(c.refresh(600)), "a session's own key decides")
	c.key = good
	require.Equal(t, 0, code(c.refresh(600)))
	require.NotZero(t, f.server.Stats().Authorize.Sum)
}

func TestSHA256(t *testing.T) {
	f := start(t, nil)
	c := f.client()
	c.sha256 = true
	at := relayed(t, c.allocate())[0]
	relayBothWays(t, c, at, newPeer(t, loopback))
	require.Equal(t, 0, code(c.refresh(0)))

	f = start(t, func(s *Server, _ *Policy) { s.MD5Only = true })
	c = f.client()
	c.login()
	require.Equal(t, algorithmsMD5, c.algorithms)
	// MESSAGE-INTEGRITY-SHA256 over the MD5 key.
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Allocate, stunwire.Request), txID())
	transportAttr(protocolUDP)(&b)
	b.AddString(stunwire.AttrUsername, c.user)
	b.AddString(stunwire.AttrRealm, c.realm)
	b.AddString(stunwire.AttrNonce, c.nonce)
	b.AddIntegritySHA256(c.key)
	m := c.exchange(b.Bytes(), answerTimeout)
	require.Equal(t, 0, code(m))
	require.True(t, m.CheckIntegritySHA256(c.key))
}

func TestSecretsOfAuth(t *testing.T) {
	md5 := stunwire.LongTermKey("alice", "test.example", "wonder", stunwire.MD5)
	sha := stunwire.LongTermKey("alice", "test.example", "wonder", stunwire.SHA256)
	for name, test := range map[string]struct {
		secret auth.Secret
		sha256 bool
		code   int
	}{
		"MD5 key":                {auth.Secret{Key: md5}, false, 0},
		"MD5 key for SHA-256":    {auth.Secret{Key: md5}, true, 401},
		"SHA-256 key":            {auth.Secret{KeySHA256: sha}, true, 0},
		"both keys":              {auth.Secret{Key: md5, KeySHA256: sha}, true, 0},
		"key and wrong password": {auth.Secret{Key: md5, Plain: "x"}, false, 0},
		"nothing":                {auth.Secret{}, false, 401},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, func(s *Server, _ *Policy) {
				s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
					if !r.Proof(test.secret) {
						return nil, auth.ErrDenied
					}
					return nil, nil
				})
			})
			c := f.client()
			c.sha256 = test.sha256
			c.login()
			require.Equal(t, test.code, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
		})
	}
}

func TestGrantWithoutProofIsRefused(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) { s.Auth = auth.AllowAll })
	c := f.client()
	c.login()
	require.Equal(t, 401, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))

	f = start(t, func(s *Server, _ *Policy) { s.Auth = nil })
	c = f.client()
	c.login()
	require.Equal(t, 401, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
}

func TestAuthFailureIs500(t *testing.T) {
	var down atomic.Bool
	f := start(t, func(s *Server, _ *Policy) {
		inner := s.Auth
		s.Auth = auth.Func(func(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
			if r.User == "bob" && down.Load() {
				return nil, errors.New("the database is away")
			}
			return inner.Authorize(ctx, r)
		})
	})
	c := f.client()
	c.allocate()
	down.Store(true)
	d := f.client()
	d.user, d.pass = "bob", "builder"
	d.login()
	d.key = nil // the server can't sign
	m := d.do(stunwire.Allocate, nil)
	require.Equal(t, 401, code(m))
	d.adopt(m)
	answer := d.exchange(d.build(stunwire.Allocate, transportAttr(protocolUDP)), answerTimeout)
	require.Equal(t, 500, code(answer))
	require.Equal(t, 0, code(c.refresh(600)), "live sessions go on")
}

func TestUserHash(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) {
		s.Anonymity = true
		s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			want := stunwire.UserHash("alice", r.Realm)
			if !bytes.Equal(r.UserHash, want[:]) || r.User != "" || !r.Proof(auth.Secret{Plain: "wonder", User: "alice"}) {
				return nil, auth.ErrDenied
			}
			return &auth.Grant{User: "alice"}, nil
		})
	})
	c := f.client()
	c.login()
	require.Equal(t, byte(0xC0), featureByte(t, c.nonce))
	hash := stunwire.UserHash("alice", c.realm)
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Allocate, stunwire.Request), txID())
	transportAttr(protocolUDP)(&b)
	b.Add(stunwire.AttrUserHash, hash[:])
	b.AddString(stunwire.AttrRealm, c.realm)
	b.AddString(stunwire.AttrNonce, c.nonce)
	b.AddIntegrity(c.key)
	m := c.exchange(b.Bytes(), answerTimeout)
	require.Equal(t, 0, code(m))
	require.Equal(t, "alice", f.one().Info().User)
}

// featureByte returns the first of the nonce's feature bits.
func featureByte(t *testing.T, nonce string) byte {
	t.Helper()
	require.Equal(t, nonceCookie, nonce[:len(nonceCookie)])
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	a := bytes.IndexByte([]byte(digits), nonce[len(nonceCookie)])
	b := bytes.IndexByte([]byte(digits), nonce[len(nonceCookie)+1])
	return byte(a<<2 | b>>4)
}

func TestShortTerm(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) {
		s.Realm, s.ShortTerm = "", true
		s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			if r.Realm != "" || r.User != "alice" || !r.Proof(auth.Secret{Plain: "pass phrase"}) {
				return nil, auth.ErrDenied
			}
			return nil, nil
		})
	})
	c := f.client()
	require.Equal(t, 400, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))), "without credentials")
	c.key = stunwire.NewKey([]byte("wrong"))
	require.Equal(t, 401, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
	c.key = stunwire.NewKey([]byte("pass phrase"))
	m := c.do(stunwire.Allocate, transportAttr(protocolUDP))
	require.Equal(t, 0, code(m))
	relayBothWays(t, c, relayed(t, m)[0], newPeer(t, loopback))
}

func TestAccessToken(t *testing.T) {
	session := []byte("0123456789abcdef0123")
	expires := time.Now().Add(400 * time.Second)
	f := start(t, func(s *Server, _ *Policy) {
		s.ThirdParty = "turn.example"
		s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			if r.User != "kid-1" || r.Token != "sealed" && r.Token != "sealed again" || !r.Proof(auth.Secret{Key: session}) {
				return nil, auth.ErrDenied
			}
			g := &auth.Grant{User: "carol", Expires: expires, Realm: "their.example"}
			if r.Token == "sealed again" {
				g.Expires = time.Now().Add(time.Hour)
			}
			return g, nil
		})
	})
	c := f.client()
	m := c.do(stunwire.Allocate, transportAttr(protocolUDP))
	name, _ := m.Get(stunwire.AttrThirdPartyAuthorization)
	require.Equal(t, "turn.example", string(name))
	c.adopt(m)
	c.user, c.key = "kid-1", stunwire.NewKey(session)
	token := func(s string) func(*stunwire.Builder) { return attr(stunwire.AttrAccessToken, []byte(s)...) }
	require.Equal(t, 401, code(c.do(stunwire.Allocate, with(transportAttr(protocolUDP), token("forged")))))
	m = c.do(stunwire.Allocate, with(transportAttr(protocolUDP), token("sealed")))
	require.Equal(t, 0, code(m))
	require.InDelta(t, 400, lifetime(t, m), 2, "not longer than the token")
	require.Equal(t, "carol", f.one().Info().User)
	require.Equal(t, "their.example", f.one().Info().Realm)
	m = c.do(stunwire.Refresh, with(lifetimeAttr(600), token("sealed")))
	require.InDelta(t, 400, lifetime(t, m), 2)
	m = c.do(stunwire.Refresh, with(lifetimeAttr(600), token("sealed again")))
	require.EqualValues(t, 600, lifetime(t, m), "a newer token counts")
}

func TestOriginChoosesTheRealm(t *testing.T) {
	f := start(t, func(s *Server, _ *Policy) { s.Realms = testRealms{} })
	c := f.client()
	origin := attr(stunwire.AttrOrigin, []byte("https://other.example")...)
	m := c.do(stunwire.Allocate, with(transportAttr(protocolUDP), origin))
	c.adopt(m)
	require.Equal(t, "other.example", c.realm)
	require.Equal(t, 0, code(c.do(stunwire.Allocate, transportAttr(protocolUDP))))
	require.Equal(t, "other.example", f.one().Info().Realm)
	require.EqualValues(t, 64_000, f.one().Info().BitRate)
	require.Equal(t, 403, c.permit(netip.MustParseAddrPort("127.0.0.9:1")), "denied by the realm")
	require.Equal(t, 0, c.permit(netip.MustParseAddrPort("127.0.0.8:1")))

	d := f.client()
	m = d.do(stunwire.Allocate, with(transportAttr(protocolUDP), attr(stunwire.AttrOrigin, []byte("https://strange.example")...)))
	d.adopt(m)
	require.Equal(t, "test.example", d.realm)
	d.realm = "other.example"
	d.key = stunwire.NewKey(stunwire.LongTermKey("alice", d.realm, "wonder", stunwire.MD5))
	require.Equal(t, 438, code(d.do(stunwire.Allocate, transportAttr(protocolUDP))), "the nonce is for the other realm")

	e := f.client()
	e.adopt(e.do(stunwire.Allocate, with(transportAttr(protocolUDP), origin)))
	require.Equal(t, 486, code(e.do(stunwire.Allocate, transportAttr(protocolUDP))), "the realm's quota")
}

type testRealms struct{}

func (testRealms) RealmOf(_ context.Context, origin string) (string, error) {
	if origin == "https://other.example" {
		return "other.example", nil
	}
	return "", nil
}

func (testRealms) RealmOptions(_ context.Context, realm string) (auth.RealmOptions, error) {
	if realm == "other.example" {
		return auth.RealmOptions{TotalQuota: 1, BitRate: 64_000}, nil
	}
	return auth.RealmOptions{}, nil
}

func (testRealms) PeerRules(_ context.Context, realm string) (auth.PeerRules, error) {
	if realm != "other.example" {
		return auth.PeerRules{}, nil
	}
	r, err := auth.ParseIPRange("127.0.0.9")
	return auth.PeerRules{Deny: []auth.IPRange{r}}, err
}

func TestClientCertificate(t *testing.T) {
	mine := selfSigned(t, "client.example")
	pool := x509.NewCertPool()
	pool.AddCert(mine.Leaf)
	cfg := serverTLS(t)
	cfg.ClientAuth, cfg.ClientCAs = tls.VerifyClientCertIfGiven, pool
	f := start(t, func(s *Server, _ *Policy) {
		s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || r.Proof != nil {
				return nil, auth.ErrDenied
			}
			return &auth.Grant{User: r.TLS.PeerCertificates[0].Subject.CommonName}, nil
		})
	})
	ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	require.NoError(t, err)
	go func() { f.check(f.server.Serve(ln)) }()
	dial := func(certs ...tls.Certificate) *rawClient {
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, Certificates: certs})
		require.NoError(t, err)
		return f.over(conn, true)
	}
	c := dial(mine)
	m := c.do(stunwire.Allocate, transportAttr(protocolUDP))
	require.Equal(t, 0, code(m))
	require.Equal(t, "client.example", f.one().Info().User)
	relayBothWays(t, c, relayed(t, m)[0], newPeer(t, loopback))
	require.Equal(t, 0, code(c.refresh(0)))
	require.Equal(t, 401, code(dial().do(stunwire.Allocate, transportAttr(protocolUDP))), "without a certificate")
}

func TestNonces(t *testing.T) {
	var n, other, shared nonces
	n.init([]byte("0123456789abcdef"))
	shared.init([]byte("0123456789abcdef"))
	other.init(nil)
	now := time.Unix(1_800_000_000, 0)
	client := netip.MustParseAddrPort("192.0.2.1:4000")
	nonce := n.append(nil, featureAlgorithms, client, "realm", now.UnixMilli())
	require.Len(t, nonce, nonceSize)
	ok := func(n *nonces, f uint32, c netip.AddrPort, realm string, after time.Duration) bool {
		made, ok := n.check(nonce, f, c, realm, now.Add(after), 10*time.Minute)
		require.True(t, !ok || made == now.UnixMilli())
		return ok
	}
	require.True(t, ok(&n, featureAlgorithms, client, "realm", 0))
	require.True(t, ok(&shared, featureAlgorithms, client, "realm", 9*time.Minute))
	require.True(t, ok(&n, featureAlgorithms, client, "realm", -30*time.Second), "another server's clock")
	require.False(t, ok(&other, featureAlgorithms, client, "realm", 0), "secret")
	require.False(t, ok(&n, featureAlgorithms, client, "realm", 10*time.Minute), "age")
	require.False(t, ok(&n, featureAlgorithms, client, "realm", -2*time.Minute), "from the future")
	require.False(t, ok(&n, 0, client, "realm", 0), "features")
	require.False(t, ok(&n, featureAlgorithms, netip.MustParseAddrPort("192.0.2.1:4001"), "realm", 0), "port")
	require.False(t, ok(&n, featureAlgorithms, netip.MustParseAddrPort("192.0.2.2:4000"), "realm", 0), "address")
	require.False(t, ok(&n, featureAlgorithms, client, "realn", 0), "realm")
	for i := nonceFeatures; i < len(nonce); i++ {
		nonce[i] ^= 1
		require.False(t, ok(&n, featureAlgorithms, client, "realm", 0), "changed at %d", i)
		nonce[i] ^= 1
	}
}

func FuzzNonce(f *testing.F) {
	var n nonces
	n.init([]byte("0123456789abcdef"))
	now := time.Unix(1_800_000_000, 0)
	client := netip.MustParseAddrPort("192.0.2.1:4000")
	good := n.append(nil, featureAlgorithms, client, "realm", now.UnixMilli())
	f.Add(good)
	f.Add([]byte("obMatJos2gAAA"))
	f.Fuzz(func(t *testing.T, nonce []byte) {
		if _, ok := n.check(nonce, featureAlgorithms, client, "realm", now, time.Second); ok && !bytes.Equal(nonce[nonceFeatures:], good[nonceFeatures:]) {
			t.Fatalf("%q is taken", nonce)
		}
	})
}
