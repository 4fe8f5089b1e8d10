package turn

import (
	"crypto/x509"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// A server is examples/turnserver running as a process, on the usual ports of
// an address of its own.
type server struct {
	*peer.Process
	at    netip.Addr
	roots *x509.CertPool
}

// program builds examples/turnserver, once.
func program(t testing.TB) string {
	t.Helper()
	return lab.File(t, "turnserver.exe", func(path string) {
		peer.Run(t, 5*time.Minute, "go", "build", "-C", "../../..", "-o", path, "./examples/turnserver")
	})
}

// startServer starts the server with the user "user", whose password is
// "pass", and waits until it answers.
func startServer(t *testing.T, flags ...string) *server {
	t.Helper()
	return startServerAt(t, newAddr(t), append([]string{"-user", "user:pass", "-realm", "example.org"}, flags...)...)
}

// startServerAt starts the server with the address, a certificate and the
// given flags alone.
func startServerAt(t *testing.T, at netip.Addr, flags ...string) *server {
	t.Helper()
	exe := program(t)
	cert, key, roots := certificate(t)
	args := append([]string{
		"-listen", netip.AddrPortFrom(at, 3478).String(), "-tls", netip.AddrPortFrom(at, 5349).String(),
		"-cert", cert, "-key", key, "-allow-loopback-peers", "-log-level", "debug",
	}, flags...)
	s := &server{peer.Start(t, exe, args...), at, roots}
	peer.Eventually(t, live, "an answer at "+at.String(), func() bool {
		if !s.Running() {
			t.Fatalf("turnserver ended: %s", s.Log())
		}
		return answers(netip.AddrPortFrom(at, 3478).String())
	})
	return s
}

// TestServerRefuses: no credentials, no server; and other mistakes that are
// told before anything listens.
func TestServerRefuses(t *testing.T) {
	t.Parallel()
	alone(t)
	exe := program(t)
	conf := filepath.Join(t.TempDir(), "turnserver.conf")
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no credentials":                  {nil, "no credentials"},
		"a TLS port, no key":              {[]string{"-user", "a:b", "-tls", "127.0.0.1:5349"}, "-cert"},
		"no such file":                    {[]string{"-user", "a:b", "-config", conf}, conf},
		"a stray argument":                {[]string{"-user", "a:b", "x"}, "x"},
		"CVE-2018-4059 API without token": {[]string{"-user", "a:b", "-admin", "127.0.0.1:1"}, "-admin-token"},
	} {
		t.Run(name, func(t *testing.T) {
			_, log, err := peer.Try(t, live, exe, c.args...)
			require.Error(t, err)
			require.Contains(t, log, c.says)
		})
	}
}

// count returns how often the log has a text.
func (s *server) count(text string) int { return strings.Count(s.Log(), text) }
