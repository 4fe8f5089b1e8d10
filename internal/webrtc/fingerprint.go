package webrtc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"time"

	_ "crypto/sha256" // for crypto.Hash
	_ "crypto/sha512"
)

// hashes are the algorithms of fingerprints that are taken (RFC 8122 Section 5,
// without the broken ones).
var hashes = map[string]crypto.Hash{
	"sha-256": crypto.SHA256, "sha-384": crypto.SHA384, "sha-512": crypto.SHA512,
}

// fingerprintOf returns the fingerprint of a certificate.
func fingerprintOf(algorithm string, der []byte) Fingerprint {
	h := hashes[algorithm].New()
	h.Write(der)
	digits := strings.ToUpper(hex.EncodeToString(h.Sum(nil)))
	var b strings.Builder
	for i := 0; i < len(digits); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(digits[i : i+2])
	}
	return Fingerprint{algorithm, b.String()}
}

var errFingerprint = errors.New("webrtc: the certificate is not the one of the offer")

// check says whether the peer has shown the certificate of its offer.
func (f Fingerprint) check(certificates [][]byte) error {
	if len(certificates) == 0 {
		return errFingerprint
	}
	got := fingerprintOf(f.Algorithm, certificates[0])
	if subtle.ConstantTimeCompare([]byte(got.Digest), []byte(f.Digest)) != 1 {
		return errFingerprint
	}
	return nil
}

// newCertificate makes a certificate of which only the fingerprint matters.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "WebRTC"},
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
