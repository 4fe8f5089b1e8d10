package auth

import (
	"context"
	"crypto/x509"
)

// ClientCert asks for a TLS client certificate before it asks the next
// Authorizer. TURN clients prove a password besides, so Then decides about
// that; publishers and players need not.
//
// The certificate counts if the handshake verified it, that is with
// tls.Config.ClientAuth of VerifyClientCertIfGiven or
// RequireAndVerifyClientCert, or if Roots verify it here.
type ClientCert struct {
	// Roots verify certificates that the handshake took unseen; nil: none.
	Roots *x509.CertPool
	// Name returns who the owner of a verified certificate is, and whether he
	// may. nil: its common name, which must not be empty, or else its first DNS
	// name.
	Name func(*x509.Certificate) (user string, ok bool)
	// Then is asked next; a Grant of his that names no user gets the
	// certificate's. nil: the certificate is enough, in protocols without a
	// proof; where one is asked for it refuses.
	Then Authorizer
}

// Authorize refuses who has no good certificate and asks Then about the others.
func (c *ClientCert) Authorize(ctx context.Context, r *Request) (*Grant, error) {
	cert := c.verified(r)
	if cert == nil {
		return nil, ErrDenied
	}
	name := c.Name
	if name == nil {
		name = subjectName
	}
	user, ok := name(cert)
	if !ok {
		return nil, ErrDenied
	}
	if c.Then == nil {
		if r.Proof != nil {
			return nil, ErrDenied
		}
		return &Grant{User: user}, nil
	}
	g, err := Check(ctx, c.Then, r)
	if err != nil || g.User != "" {
		return g, err
	}
	named := *g
	named.User = user
	return &named, nil
}

func (c *ClientCert) verified(r *Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	cert := r.TLS.PeerCertificates[0]
	if len(r.TLS.VerifiedChains) > 0 {
		return cert
	}
	if c.Roots == nil {
		return nil
	}
	between := x509.NewCertPool()
	for _, ca := range r.TLS.PeerCertificates[1:] {
		between.AddCert(ca)
	}
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: c.Roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil
	}
	return cert
}

func subjectName(cert *x509.Certificate) (string, bool) {
	name := cert.Subject.CommonName
	if name == "" && len(cert.DNSNames) > 0 {
		name = cert.DNSNames[0]
	}
	return name, name != ""
}
