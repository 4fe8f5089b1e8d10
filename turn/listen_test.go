package turn

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/turnauth"
)

// TestListen: plain and TLS clients on one port, and TLS alone.
func TestListen(t *testing.T) {
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	defer web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	secure := &tls.Config{Certificates: web.TLS.Certificates}
	users := &turnauth.Users{}
	require.NoError(t, users.Put(turnauth.User{Name: "alice", Password: "secret"}))
	for name, c := range map[string]struct {
		options *ListenOptions
		want    map[string]bool // transports that get through
	}{
		"nil":     {nil, map[string]bool{"tcp": true, "tls": false}},
		"both":    {&ListenOptions{TLS: secure}, map[string]bool{"tcp": true, "tls": true}},
		"TLSOnly": {&ListenOptions{TLS: secure, TLSOnly: true}, map[string]bool{"tcp": false, "tls": true}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := &Server{Realm: "example.org", Auth: users}
			l, err := Listen(t.Context(), "tcp", "127.0.0.1:0", c.options)
			require.NoError(t, err)
			served := make(chan error, 1)
			go func() { served <- srv.Serve(l) }()
			for transport, want := range c.want {
				client := &Client{
					Server: l.Addr().String(), Transport: transport, Username: "alice", Password: "secret",
					TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"},
				}
				p, err := client.Allocate(t.Context(), nil)
				require.Equal(t, want, err == nil, "%s: %v", transport, err)
				if err == nil {
					require.NoError(t, p.Close())
				}
			}
			require.NoError(t, srv.Close())
			require.ErrorIs(t, <-served, ErrServerClosed)
		})
	}
	_, err := Listen(t.Context(), "tcp", "192.0.2.1:1", nil)
	require.Error(t, err)
}
