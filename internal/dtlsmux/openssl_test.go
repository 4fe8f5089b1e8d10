package dtlsmux

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// buffer is a bytes.Buffer for two goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// openssl runs s_client against a server until a line that it sent came back.
func openssl(t *testing.T, s *server, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("RUNNEL_E2E") == "1" {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed")
	}
	cmd := exec.Command(path, append([]string{"s_client", "-connect", s.addr.String(), "-dtls1_2", "-timeout"}, args...)...)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	var out buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	defer func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	}()
	const line = "from openssl with love"
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "Verify return code") || cmd.ProcessState != nil },
		40*time.Second, 10*time.Millisecond, "no handshake: %v", &out)
	_, err = io.WriteString(in, line+"\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(out.String(), line) }, 30*time.Second, 10*time.Millisecond, "%v", &out)
	return out.String()
}

func TestOpenSSL(t *testing.T) {
	cert := testCert(t, true, 1)
	for _, tc := range []struct {
		name, want string
		args       []string
	}{
		{"default", "Cipher is ECDHE-RSA-AES128-GCM-SHA256", nil},
		{"AES-256 only", "Cipher is ECDHE-RSA-AES256-GCM-SHA384", []string{"-cipher", "ECDHE-RSA-AES256-GCM-SHA384"}},
		{"ALPN", "ALPN protocol: stun.turn", []string{"-alpn", "stun.turn"}},
		{"P-384", "ECDH, secp384r1", []string{"-groups", "P-384"}},
		{"small MTU", "Cipher is", []string{"-mtu", "300"}},
		{"server name", "Cipher is", []string{"-servername", "localhost"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, &Mux{
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
				NextProtos:     []string{"stun.turn"},
				MTU:            400, // our flight comes in fragments
			}, nil)
			out := openssl(t, s, tc.args...)
			require.Contains(t, out, tc.want)
			require.Contains(t, out, "Extended master secret: yes")
		})
	}
}

// Datagrams of the handshake are lost, either way, five of them.
func TestOpenSSLWithLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as retransmissions do")
	}
	var s *server
	var mu sync.Mutex
	rnd, lost := rand.New(rand.NewPCG(1, 2)), 0
	s = serve(t, &Mux{HandshakeTimeout: 40 * time.Second, MTU: 400}, func(in bool, b []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		lose := b[0] != typeData && lost < 5 && rnd.IntN(3) == 0
		if lose {
			lost++
		}
		return lose
	})
	openssl(t, s)
}
