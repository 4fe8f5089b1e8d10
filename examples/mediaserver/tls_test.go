package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pair writes a certificate and its key.
func pair(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"media.example.org"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

func TestCertificateFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pair(t, cert, key, 1)
	o := tlsOptions{cert: cert, key: key}
	c, err := o.config(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	serial := func() int64 {
		o.files.checked = time.Time{} // a second has passed
		got, err := c.GetCertificate(&tls.ClientHelloInfo{ServerName: "media.example.org"})
		require.NoError(t, err)
		return got.Leaf.SerialNumber.Int64()
	}
	require.EqualValues(t, 1, serial())
	old, err := os.ReadFile(key)
	require.NoError(t, err)
	pair(t, cert, key, 22)
	right, err := os.ReadFile(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(key, old, 0o600))
	require.EqualValues(t, 1, serial(), "halves that do not go together")
	require.NoError(t, os.WriteFile(key, right, 0o600))
	require.EqualValues(t, 22, serial())
	require.NoError(t, os.Remove(cert))
	require.EqualValues(t, 22, serial())
}

func TestTLSOptions(t *testing.T) {
	for _, args := range [][]string{
		{"-cert", "c.pem"},
		{"-key", "k.pem"},
		{"-https", ":8443"},
		{"-autocert", "media.example.org", "-cert", "c.pem", "-key", "k.pem"},
	} {
		_, err := parse(args)
		require.Error(t, err, args)
	}
	o, err := parse([]string{"-autocert", "media.example.org", "-autocert-dir", t.TempDir(), "-https", ":443"})
	require.NoError(t, err)
	c, err := o.certificates.config(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	// Nobody is asked for a name that is not ours.
	_, err = c.GetCertificate(&tls.ClientHelloInfo{ServerName: "elsewhere.example.org"})
	require.ErrorContains(t, err, "elsewhere.example.org")
	require.Contains(t, o.certificates.protocols(), "acme-tls/1")
	h := o.certificates.routes(webHandler())
	require.Equal(t, 200, get(h, "GET", "/").StatusCode)
	require.Equal(t, 404, get(h, "GET", "http://media.example.org/.well-known/acme-challenge/x").StatusCode)
	require.Equal(t, 403, get(h, "GET", "http://elsewhere.example.org/.well-known/acme-challenge/x").StatusCode)
	o, err = parse([]string{"-autocert", "192.0.2.1"})
	require.NoError(t, err)
	_, err = o.certificates.config(slog.New(slog.DiscardHandler))
	require.Error(t, err)
}
