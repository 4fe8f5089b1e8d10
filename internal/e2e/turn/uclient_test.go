package turn

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/sqlauth/sqlite"
	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// A transfer is what turnutils_uclient says at its end. Its exit status says
// nothing about losses.
type transfer struct {
	sent, received, lost int // bytes, bytes, packets
	finished             bool
	log                  string
}

var (
	totalBytes = regexp.MustCompile(`start_mclient: tot_send_bytes ~ (\d+), tot_recv_bytes ~ (\d+)`)
	totalLost  = regexp.MustCompile(`Total lost packets (\d+)`)
)

// uclient runs coturn's client with the credentials of startServer.
func uclient(t testing.TB, args ...string) transfer {
	t.Helper()
	return uclientAs(t, append([]string{"-u", "user", "-w", "pass"}, args...)...)
}

// uclientAs is uclient with credentials in the arguments.
func uclientAs(t testing.TB, args ...string) transfer {
	t.Helper()
	out, log, err := peer.Try(t, 40*time.Second, "turnutils_uclient", args...)
	log = string(out) + log
	x := transfer{log: log}
	bytes := totalBytes.FindAllStringSubmatch(log, -1)
	lost := totalLost.FindStringSubmatch(log)
	if err == nil && len(bytes) > 0 && lost != nil {
		x.finished = true
		last := bytes[len(bytes)-1]
		x.sent, _ = strconv.Atoi(last[1])
		x.received, _ = strconv.Atoi(last[2])
		x.lost, _ = strconv.Atoi(lost[1])
	}
	return x
}

// whole wants all to have come back.
func (x transfer) whole(t testing.TB, bytes int) {
	t.Helper()
	if !x.finished || x.sent != bytes || x.received != bytes || x.lost != 0 {
		t.Errorf("sent %d bytes of %d, received %d, lost %d packets:\n%.6000s", x.sent, bytes, x.received, x.lost, x.log)
	}
}

// echoes starts coturn's echo at 127.0.0.1 and ::1, ports 3480 and 3481.
func echoes(t *testing.T) {
	t.Helper()
	alone(t)
	peer.Start(t, "turnutils_peer", "-p", "3480", "-L", "127.0.0.1", "-L", "::1")
}

// TestCoturnClients drives the server with the clients of coturn: the rows of
// its table of black-box cases. The clients wait for seconds by themselves, so
// they run beside each other.
func TestCoturnClients(t *testing.T) {
	t.Parallel()
	echoes(t)
	plain := startServer(t, "-rfc5766-channels", "-relay-ip", "127.0.0.1", "-relay-ip", "::1", "-listen", "[::1]:3478")
	at := plain.at.String()
	for _, c := range []struct {
		name  string
		args  string
		bytes int // of each way
	}{
		{"1 channels in pairs of ports", "-m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"2 channels", "-c -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"3 indications", "-s -c -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"4 don't fragment", "-g -c -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"5 padded channel data", "-D -c -l 171 -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 171},
		{"6 two relays", "-y -c -m 2 -n 50 SERVER", 2 * 50 * 100},
		{"6 two relays in pairs of ports", "-y -m 4 -n 50 SERVER", 4 * 50 * 100},
		{"7 TCP", "-t -c -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"7 TCP, indications", "-t -s -c -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"8 TLS", "-t -S -c -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"8 TLS on the plain port", "-t -S -p 3478 -c -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"8 DTLS", "-S -c -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"9 RFC 6062", "-T -m 4 -n 20 SERVER", 4 * 20 * 100},
		{"9 RFC 6062 over TLS", "-T -S -y -m 2 -n 50 SERVER", 2 * 50 * 100},
		{"11 IPv6 client", "-c -X -m 2 -n 50 -e 127.0.0.1 ::1", 2 * 50 * 100},
		{"11 IPv6 relay", "-c -x -m 2 -n 50 -e ::1 SERVER", 2 * 50 * 100},
		{"11 IPv6 client and relay", "-c -x -m 2 -n 50 -e ::1 ::1", 2 * 50 * 100},
		{"12 dual allocation", "-Z -m 2 -n 50 -e 127.0.0.1 SERVER", 2 * 50 * 100},
		{"14 extra requests", "-G -c -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"18 ORIGIN", "-o http://crinna.org:80 -c -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"18 BANDWIDTH", "-a 20000 -c -m 2 -n 50 -e 127.0.0.1 -X SERVER", 2 * 50 * 100},
		{"22 large", "-l 1400 -c -m 1 -n 20 -e 127.0.0.1 -X SERVER", 20 * 1400},
		{"eight clients to one peer", "-c -m 8 -n 25 -e 127.0.0.1 -X SERVER", 8 * 25 * 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(strings.ReplaceAll(c.args, "SERVER", at))
			x := uclient(t, args...)
			for tries := 1; tries < 3 && slices.Contains(args, "-S") && x.lost > 0; tries++ {
				x = uclient(t, args...) // of two records that come at once it leaves one unread
			}
			if slices.Contains(args, "-S") && x.finished && x.sent == c.bytes && x.received >= c.bytes*4/5 {
				return // on a busy machine many come at once, whatever the try
			}
			x.whole(t, c.bytes)
		})
	}
	t.Run("10 RFC 6062 from the peer", func(t *testing.T) {
		t.Parallel()
		// The client counts what goes out at both ends, and what comes in at one.
		x := uclient(t, "-P", "-m", "4", "-n", "20", at)
		require.True(t, x.finished, x.log)
		require.Equal(t, 4*20*100, x.sent)
		require.Equal(t, x.sent/2, x.received)
	})
	t.Run("15 disconnects", func(t *testing.T) {
		t.Parallel()
		x := uclient(t, "-B", "-c", "-m", "2", "-n", "20", "-e", "127.0.0.1", "-X", at)
		require.True(t, x.finished, x.log)
		require.Positive(t, x.received)
		require.True(t, plain.Running())
	})
	t.Run("20 Binding", func(t *testing.T) {
		t.Parallel()
		out, log, err := peer.Try(t, live, "turnutils_stunclient", at)
		require.NoError(t, err, log)
		require.Contains(t, string(out)+log, "UDP reflexive addr: 127.0.0.1:")
	})
	t.Run("a wrong password", func(t *testing.T) {
		t.Parallel()
		x := uclientAs(t, "-u", "user", "-w", "wrong", "-c", "-n", "5", "-e", "127.0.0.1", "-X", at)
		require.Zero(t, x.received, x.log)
	})
}

// TestCoturnMobility: row 13. Servers without mobility let this client pass
// too, so the server's log has to tell of the moves.
func TestCoturnMobility(t *testing.T) {
	t.Parallel()
	echoes2(t)
	for name, args := range map[string]string{"UDP": "", "TCP": "-t"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, "-rfc5766-channels", "-mobility", "-relay-ip", "127.0.0.1")
			uclient(t, append(strings.Fields(args), "-M", "-c", "-m", "1", "-n", "20", "-r", "3490", "-e", "127.0.0.1", "-X", s.at.String())...).whole(t, 2000)
			require.Positive(t, s.count("session moved"), s.Log())
		})
	}
}

func echoes2(t *testing.T) {
	t.Helper()
	alone(t)
	peer.Start(t, "turnutils_peer", "-p", "3490", "-L", "127.0.0.1")
}

// TestCoturnSecrets: row 16. Each of two secrets is right, a third is not.
func TestCoturnSecrets(t *testing.T) {
	t.Parallel()
	alone(t)
	peer.Start(t, "turnutils_peer", "-p", "3492", "-L", "127.0.0.1")
	at := newAddr(t)
	startServerAt(t, at, "-secret", "old secret", "-secret", "new secret", "-realm", "example.org", "-rfc5766-channels", "-relay-ip", "127.0.0.1")
	for _, secret := range []string{"old secret", "new secret", "no secret"} {
		t.Run(secret, func(t *testing.T) {
			t.Parallel()
			x := uclientAs(t, "-u", "alice", "-W", secret, "-c", "-m", "1", "-n", "20", "-r", "3492", "-e", "127.0.0.1", "-X", at.String())
			if secret == "no secret" {
				require.Zero(t, x.received, x.log)
				return
			}
			x.whole(t, 2000)
		})
	}
}

// coturnRows makes an SQLite database with coturn's schema and the rows of its
// test set-up.
func coturnRows(t *testing.T) string {
	t.Helper()
	rows, err := os.ReadFile("/usr/share/coturn/testsqldbsetup.sql")
	if err != nil {
		peer.Need(t, "/usr/share/coturn/testsqldbsetup.sql")
	}
	schema, err := os.ReadFile("/usr/share/coturn/schema.sql")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "turndb")
	db, err := sqlite.Create(path)
	require.NoError(t, err)
	defer db.Close()
	for _, script := range [][]byte{schema, rows} {
		_, err = db.SQL.Exec(string(script))
		require.NoError(t, err)
	}
	return path
}

// TestCoturnOAuth: row 17. The client has the keys of coturn's test database
// built in and picks one by itself.
func TestCoturnOAuth(t *testing.T) {
	t.Parallel()
	alone(t)
	peer.Start(t, "turnutils_peer", "-p", "3494", "-L", "127.0.0.1")
	at := newAddr(t)
	startServerAt(t, at, "-db", "sqlite://"+coturnRows(t), "-oauth", "-server-name", "blackdow.carleon.gov", "-realm", "north.gov",
		"-rfc5766-channels", "-relay-ip", "127.0.0.1")
	for _, args := range []string{"", "", "", "-t"} {
		t.Run("token "+args, func(t *testing.T) {
			t.Parallel()
			uclient(t, append(strings.Fields(args), "-J", "-c", "-m", "1", "-n", "20", "-r", "3494", "-e", "127.0.0.1", "-X", at.String())...).whole(t, 2000)
		})
	}
	t.Run("user of the database", func(t *testing.T) {
		t.Parallel()
		uclientAs(t, "-u", "ninefingers", "-w", "youhavetoberealistic", "-c", "-m", "1", "-n", "20", "-r", "3494", "-e", "127.0.0.1", "-X", at.String()).whole(t, 2000)
	})
	t.Run("secret of the database", func(t *testing.T) {
		t.Parallel()
		uclientAs(t, "-u", "alice", "-W", "bloody9", "-c", "-m", "1", "-n", "20", "-r", "3494", "-e", "127.0.0.1", "-X", at.String()).whole(t, 2000)
	})
	t.Run("realm of an origin", func(t *testing.T) {
		t.Parallel()
		uclientAs(t, "-o", "http://crinna.org:80", "-u", "whirrun", "-w", "sword", "-c", "-m", "1", "-n", "20", "-r", "3494", "-e", "127.0.0.1", "-X", at.String()).whole(t, 2000)
	})
}

// TestCoturnAlternate: row 19.
func TestCoturnAlternate(t *testing.T) {
	t.Parallel()
	alone(t)
	peer.Start(t, "turnutils_peer", "-p", "3496", "-L", "127.0.0.1")
	to := startServer(t, "-rfc5766-channels", "-relay-ip", "127.0.0.1")
	from := startServer(t, "-rfc5766-channels", "-alternate-server", to.at.String()+":3478")
	x := uclient(t, "-v", "-c", "-n", "2", "-r", "3496", "-e", "127.0.0.1", "-X", from.at.String())
	require.Contains(t, x.log, "error 300")
	x.whole(t, 200)
	require.Positive(t, to.count("session began"), to.Log())
}

// TestCoturnDiscovery: row 21.
func TestCoturnDiscovery(t *testing.T) {
	t.Parallel()
	other := newAddr(t)
	s := startServer(t, "-rfc5780", "-listen", other.String()+":3478")
	at := s.at.String()
	out, log, err := peer.Try(t, live, "turnutils_stunclient", "-f", at)
	require.NoError(t, err, log)
	require.Equal(t, 3, strings.Count(string(out)+log, "RFC 5780 response"), "%s%s", out, log)
	for args, says := range map[string][]string{
		"-m -f": {"Endpoint Independent Mapping", "Endpoint Independent Filtering"},
		"-H":    {"successful hairpinning"},
		"-m -P": {"Endpoint Independent Mapping"},
	} {
		out, log, err := peer.Try(t, live, "turnutils_natdiscovery", append(strings.Fields(args), at)...)
		log = string(out) + log
		require.NoError(t, err, log)
		for _, text := range says {
			require.Contains(t, log, text)
		}
	}
	// TURN goes on at the same sockets.
	conn, err := client(s.at, "udp", s.roots).Allocate(t.Context(), nil)
	require.NoError(t, err)
	defer conn.Close()
	exchange(t, conn, echo(t, "127.0.0.1"), 5, 1000)
}
