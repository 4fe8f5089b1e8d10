package turnauth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// issue makes a certificate; without a parent it signs itself.
func issue(t *testing.T, name string, usage x509.ExtKeyUsage, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, BasicConstraintsValid: true, IsCA: parent == nil,
	}
	if parent == nil {
		parent, by = template, key
		template.ExtKeyUsage = nil
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

func TestClientCert(t *testing.T) {
	ca, caKey := issue(t, "CA", 0, nil, nil)
	alice, _ := issue(t, "alice", x509.ExtKeyUsageClientAuth, ca, caKey)
	server, _ := issue(t, "alice", x509.ExtKeyUsageServerAuth, ca, caKey)
	nameless, _ := issue(t, "", x509.ExtKeyUsageClientAuth, ca, caKey)
	self, _ := issue(t, "alice", 0, nil, nil)
	roots := x509.NewCertPool()
	roots.AddCert(ca)

	with := func(c *x509.Certificate, verified bool) *auth.Request {
		s := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
		if verified {
			s.VerifiedChains = [][]*x509.Certificate{{c, ca}}
		}
		return &auth.Request{Action: auth.Relay, TLS: s}
	}
	plain := &turnauth.ClientCert{}
	requireUser(t, plain, with(alice, true), "alice")
	requireDenied(t, plain, with(alice, false))
	requireDenied(t, plain, with(nameless, true))
	requireDenied(t, plain, &auth.Request{Action: auth.Relay})
	requireDenied(t, plain, &auth.Request{Action: auth.Relay, TLS: &tls.ConnectionState{}})
	proof := with(alice, true)
	proof.Proof = func(auth.Secret) bool { return true }
	requireDenied(t, plain, proof)

	own := &turnauth.ClientCert{Roots: roots}
	requireUser(t, own, with(alice, false), "alice")
	requireDenied(t, own, with(self, false))
	requireDenied(t, own, with(server, false))

	named := &turnauth.ClientCert{Name: func(c *x509.Certificate) (string, bool) { return "x" + c.Subject.CommonName, c == alice }}
	requireUser(t, named, with(alice, true), "xalice")
	requireDenied(t, named, with(server, true))

	var users turnauth.Users
	require.NoError(t, users.Put(turnauth.User{Name: "bob", Realm: "r", Password: "p"}))
	both := &turnauth.ClientCert{Then: &users}
	r := (&client{user: "bob", realm: "r", password: "p"}).request(t)
	requireDenied(t, both, r)
	r.TLS = with(alice, true).TLS
	requireUser(t, both, r, "bob")
	requireUser(t, &turnauth.ClientCert{Then: auth.AllowAll}, with(alice, true), "alice")
}
