package turn

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/sqlauth/sqlite"
	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/turn"
)

// TestClient: our client against our server.
func TestClient(t *testing.T) {
	t.Parallel()
	s := startServer(t, "-mobility", "-relay-ip", "127.0.0.1", "-relay-ip", "::1")
	clientTests(t, s.at, netip.MustParseAddr("127.0.0.1"), s.roots, "udp", "tcp", "tls", "dtls")
	t.Run("dual", func(t *testing.T) {
		t.Parallel()
		p, err := client(s.at, "udp", s.roots).Allocate(t.Context(), &turn.AllocateOptions{Network: "dual"})
		require.NoError(t, err)
		defer p.Close()
		require.Len(t, p.Relayed(), 2)
		exchange(t, p, echo(t, "127.0.0.1"), 5, 100)
		exchange(t, p, echo(t, "::1"), 5, 100)
	})
	t.Run("IPv6", func(t *testing.T) {
		t.Parallel()
		p, err := client(s.at, "tcp", s.roots).Allocate(t.Context(), &turn.AllocateOptions{Network: "udp6"})
		require.NoError(t, err)
		defer p.Close()
		exchange(t, p, echo(t, "::1"), 5, 100)
		_, err = p.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
		var refused *turn.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, 443, refused.Code)
	})
	t.Run("ICMP", func(t *testing.T) {
		t.Parallel()
		closed, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		to := closed.LocalAddr()
		require.NoError(t, closed.Close())
		told := make(chan [2]uint8, 10)
		p, err := client(s.at, "udp", s.roots).Allocate(t.Context(), &turn.AllocateOptions{ICMP: func(peer netip.Addr, kind, code uint8, _ uint32) {
			require.Equal(t, "127.0.0.1", peer.String())
			told <- [2]uint8{kind, code}
		}})
		require.NoError(t, err)
		defer p.Close()
		for {
			_, err = p.WriteTo([]byte("x"), to)
			require.NoError(t, err)
			select {
			case got := <-told:
				require.Equal(t, [2]uint8{3, 3}, got, "destination unreachable, port unreachable")
				return
			case <-time.After(100 * time.Millisecond):
			case <-t.Context().Done():
				t.Fatal("not told")
			}
		}
	})
	t.Run("redirect", func(t *testing.T) {
		t.Parallel()
		from := startServer(t, "-alternate-server", s.at.String()+":3478,weight=2")
		p, err := client(from.at, "tcp", from.roots).Allocate(t.Context(), nil)
		require.NoError(t, err)
		defer p.Close()
		exchange(t, p, echo(t, "127.0.0.1"), 5, 100)
		require.Positive(t, s.count("transport=tcp"))
		require.Zero(t, from.count("session began"))
	})
}

// TestClientToken: our client with access tokens, which turnauth seals.
func TestClientToken(t *testing.T) {
	t.Parallel()
	rows := coturnRows(t)
	at := newAddr(t)
	s := startServerAt(t, at, "-db", "sqlite://"+rows, "-oauth", "-server-name", "blackdow.carleon.gov", "-realm", "north.gov")
	db, err := sqlite.Open(rows)
	require.NoError(t, err)
	defer db.Close()
	key, err := db.OAuthKey(t.Context(), "union")
	require.NoError(t, err)
	for _, transport := range []string{"udp", "tcp"} {
		c := client(at, transport, s.roots)
		lifetime := time.Hour
		c.Token = func(_ context.Context, server, realm string) (*turn.AccessToken, error) {
			if server != "blackdow.carleon.gov" || realm != "north.gov" {
				t.Errorf("%q %q", server, realm)
			}
			mac := make([]byte, 20)
			rand.Read(mac)
			token, err := key.Seal(&turnauth.Token{MACKey: mac, Issued: time.Now().Add(-time.Minute), Lifetime: lifetime}, server)
			return &turn.AccessToken{KeyID: "union", Token: token, Key: mac}, err
		}
		p, err := c.Allocate(t.Context(), nil)
		require.NoError(t, err)
		exchange(t, p, echo(t, "127.0.0.1"), 5, 100)
		require.NoError(t, p.Close())
		lifetime = time.Second
		_, err = c.Allocate(t.Context(), nil)
		require.ErrorIs(t, err, turn.ErrUnauthorized, "the token has run out")
	}
}
