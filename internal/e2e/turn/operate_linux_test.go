package turn

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/turn"
)

// signal sends a signal to the server and waits until its log says that it was
// obeyed.
func (s *server) signal(t *testing.T, sig syscall.Signal, says string) {
	t.Helper()
	before := s.count(says)
	require.NoError(t, syscall.Kill(s.PID(), sig))
	peer.Eventually(t, live, says, func() bool { return s.count(says) > before })
}

// try reports whether a user gets an allocation.
func (s *server) try(t *testing.T, user, password string) error {
	t.Helper()
	c := client(s.at, "udp", s.roots)
	c.Username, c.Password = user, password
	ctx, cancel := context.WithTimeout(t.Context(), live)
	defer cancel()
	p, err := c.Allocate(ctx, nil)
	if err == nil {
		p.Close()
	}
	return err
}

// TestReload: a turnserver.conf is read, and read again at SIGHUP, with live
// sessions going on; SIGUSR2 changes the certificate.
func TestReload(t *testing.T) {
	t.Parallel()
	at := newAddr(t)
	dir := t.TempDir()
	conf, cert, key := filepath.Join(dir, "turnserver.conf"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	copyPair := func() (pool func(*turn.Client)) {
		c, k, roots := certificate(t)
		for from, to := range map[string]string{c: cert, k: key} {
			b, err := os.ReadFile(from)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(to, b, 0o600))
		}
		return func(c *turn.Client) { c.TLS.RootCAs = roots }
	}
	first := copyPair()
	write := func(lines ...string) {
		text := fmt.Sprintf(`# as coturn has it
listening-ip=%s
listening-port=3478
tls-listening-port=5349
cert=%s
pkey=%s
realm=example.org
lt-cred-mech
fingerprint
no-cli
allow-loopback-peers
cli-password=x
%s
`, at, cert, key, strings.Join(lines, "\n"))
		require.NoError(t, os.WriteFile(conf, []byte(text), 0o600))
	}
	write("user=user:pass", "user-quota=2")
	s := &server{Process: peer.Start(t, program(t), "-config", conf), at: at}
	peer.Eventually(t, live, "an answer", func() bool { return answers(at.String() + ":3478") })
	s.WaitLog(t, "Listening on", live) // its log reaches us after its answer may have
	require.Contains(t, s.Log(), "cli-password")
	require.NotContains(t, s.Log(), "fingerprint")

	tls := client(at, "tls", nil)
	first(tls)
	old, err := tls.Allocate(t.Context(), nil)
	require.NoError(t, err)
	defer old.Close()
	to := echo(t, "127.0.0.1")
	exchange(t, old, to, 3, 100)

	logged := func() string {
		b, _ := os.ReadFile(filepath.Join(dir, "log")) // not there yet: empty
		return string(b)
	}
	write("user=other:word", "denied-peer-ip=127.0.0.9", "min-port=50000", "log-file="+filepath.Join(dir, "log"))
	require.NoError(t, syscall.Kill(s.PID(), syscall.SIGHUP))
	peer.Eventually(t, live, "the new configuration", func() bool { return strings.Contains(logged(), "configuration reloaded") })
	require.Regexp(t, `takes a restart.*min-port`, logged())
	exchange(t, old, to, 3, 100)
	require.NoError(t, s.try(t, "other", "word"))
	require.ErrorIs(t, s.try(t, "user", "pass"), turn.ErrUnauthorized)
	_, err = old.WriteTo([]byte("x"), &netAddr{"127.0.0.9:9"})
	require.ErrorIs(t, err, turn.ErrForbidden)

	require.NoError(t, os.Rename(filepath.Join(dir, "log"), filepath.Join(dir, "log.1")))
	require.NoError(t, syscall.Kill(s.PID(), syscall.SIGHUP))
	peer.Eventually(t, live, "a new log file", func() bool { return strings.Contains(logged(), "configuration reloaded") })

	second := copyPair()
	require.NoError(t, syscall.Kill(s.PID(), syscall.SIGUSR2))
	peer.Eventually(t, live, "the new certificate", func() bool { // SIGHUP has read the old one once more
		return strings.Count(logged(), "certificates reloaded") == 2
	})
	for _, transport := range []string{"tls", "dtls"} {
		c := client(at, transport, nil)
		c.Username, c.Password = "other", "word"
		first(c)
		_, err = c.Allocate(t.Context(), nil)
		require.Error(t, err, "the old certificate is gone")
		second(c)
		p, err := c.Allocate(t.Context(), nil)
		require.NoError(t, err)
		p.Close()
	}
	exchange(t, old, to, 3, 100)

	// A configuration that is wrong changes nothing.
	write("user=broken")
	require.NoError(t, syscall.Kill(s.PID(), syscall.SIGHUP))
	peer.Eventually(t, live, "the error", func() bool { return strings.Contains(logged(), "nothing has changed") })
	require.NoError(t, s.try(t, "other", "word"))
	require.NoError(t, s.Stop(t, live), "SIGTERM ends it with status 0")
}

// netAddr is an address that is no *net.UDPAddr.
type netAddr struct{ s string }

func (a *netAddr) Network() string { return "udp" }
func (a *netAddr) String() string  { return a.s }

// TestDrain: after SIGUSR1 a live session goes on, no other begins, and the
// process ends well with the last.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p, err := client(s.at, "udp", s.roots).Allocate(t.Context(), nil)
	require.NoError(t, err)
	to := echo(t, "127.0.0.1")
	exchange(t, p, to, 3, 100)
	s.signal(t, syscall.SIGUSR1, "draining")
	peer.Eventually(t, live, "a refusal", func() bool { return s.try(t, "user", "pass") != nil })
	exchange(t, p, to, 3, 100)
	require.True(t, s.Running())
	require.NoError(t, p.Close())
	require.NoError(t, s.Wait(t, live))
}

// call asks the API.
func call(t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

// TestControl: the API and the metrics of a running server.
func TestControl(t *testing.T) {
	t.Parallel()
	at := newAddr(t)
	admin, metrics := "http://"+at.String()+":8080", "http://"+at.String()+":9641"
	s := startServerAt(t, at, "-user", "user:pass", "-realm", "example.org", "-admin", at.String()+":8080", "-admin-token", "a secret of the admin",
		"-metrics", at.String()+":9641", "-coturn-metrics")

	for _, token := range []string{"", "wrong"} {
		status, _ := call(t, "GET", admin+"/sessions", token, "")
		require.Equal(t, http.StatusUnauthorized, status)
	}
	status, _ := call(t, "GET", metrics+"/", "", "")
	require.Equal(t, http.StatusOK, status)

	p, err := client(at, "tcp", s.roots).Allocate(t.Context(), nil)
	require.NoError(t, err)
	defer p.Close()
	exchange(t, p, echo(t, "127.0.0.1"), 10, 100)

	// Clients do not reach what operators do.
	_, err = p.WriteTo([]byte("x"), &netAddr{at.String() + ":8080"})
	if err == nil { // permissions are for addresses; the port counts when data is sent
		require.NoError(t, p.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
		_, _, err = p.ReadFrom(make([]byte, 10))
	}
	require.Error(t, err)

	_, text := call(t, "GET", metrics+"/metrics", "", "")
	for name, want := range map[string]float64{
		`runnel_turn_allocations{transport="tcp"}`:                             1,
		`runnel_turn_bytes_total{direction="from_client",realm="example.org"}`: 1000,
		`runnel_turn_bytes_total{direction="to_client",realm="example.org"}`:   1000,
		`runnel_turn_packets_total{direction="from_peer",realm="example.org"}`: 10,
		`runnel_turn_authorize_seconds_count`:                                  1,
		`turn_traffic_rcvb{realm="example.org"}`:                               1000,
		`turn_total_traffic_peer_sentp`:                                        10,
		`turn_total_allocations{type="TCP"}`:                                   1,
		`runnel_turn_dropped_packets_total{reason="malformed"}`:                0,
	} {
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(text)
		require.NotNil(t, m, "%s in\n%s", name, text)
		got, err := strconv.ParseFloat(m[1], 64)
		require.NoError(t, err)
		if strings.Contains(name, "from_client") || strings.HasSuffix(name, "rcvb{realm=\"example.org\"}") {
			require.GreaterOrEqual(t, got, want, name) // the byte for the API's port is among them
		} else {
			require.InDelta(t, want, got, 0, name)
		}
	}

	status, text = call(t, "GET", admin+"/sessions?user=user", "a secret of the admin", "")
	require.Equal(t, http.StatusOK, status)
	var list struct{ Sessions []turn.AllocationInfo }
	require.NoError(t, json.Unmarshal([]byte(text), &list))
	require.Len(t, list.Sessions, 1)
	require.Equal(t, p.Relayed(), list.Sessions[0].Relayed)
	require.Equal(t, "tcp", list.Sessions[0].Transport)

	status, text = call(t, "PATCH", admin+"/policy", "a secret of the admin", `{"userQuota": 1}`)
	require.Equal(t, http.StatusOK, status, text)
	require.ErrorIs(t, s.try(t, "user", "pass"), turn.ErrQuota)
	status, _ = call(t, "PUT", admin+"/users/bob", "a secret of the admin", `{"password": "builder"}`)
	require.Equal(t, http.StatusNoContent, status)
	require.NoError(t, s.try(t, "bob", "builder"))
	status, _ = call(t, "DELETE", admin+"/users/bob", "a secret of the admin", "")
	require.Equal(t, http.StatusNoContent, status)
	require.ErrorIs(t, s.try(t, "bob", "builder"), turn.ErrUnauthorized)

	status, _ = call(t, "DELETE", fmt.Sprintf("%s/sessions/%d", admin, list.Sessions[0].ID), "a secret of the admin", "")
	require.Equal(t, http.StatusNoContent, status)
	require.ErrorIs(t, p.Permit(t.Context(), netip.MustParseAddr("127.0.0.77")), turn.ErrNoAllocation)
	status, _ = call(t, "POST", admin+"/drain", "a secret of the admin", "")
	require.Equal(t, http.StatusAccepted, status)
	require.NoError(t, s.Wait(t, live))
}

// TestStatsdb: what coturn writes to its Redis for statistics.
func TestStatsdb(t *testing.T) {
	t.Parallel()
	at := newAddr(t)
	db := at.String() + ":6379"
	peer.Start(t, "redis-server", "--bind", at.String(), "--port", "6379", "--save", "", "--appendonly", "no", "--daemonize", "no", "--protected-mode", "no")
	c := redis.NewClient(&redis.Options{Addr: db})
	defer c.Close()
	peer.Eventually(t, live, "Redis", func() bool { return c.Ping(t.Context()).Err() == nil })
	messages := c.PSubscribe(t.Context(), "turn/realm/*/user/*/allocation/*")
	defer messages.Close()
	_, err := messages.Receive(t.Context())
	require.NoError(t, err)
	next := func() (channel, payload string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), live)
		defer cancel()
		m, err := messages.ReceiveMessage(ctx)
		require.NoError(t, err)
		return m.Channel, m.Payload
	}

	s := startServerAt(t, at, "-user", "user:pass", "-realm", "example.org", "-statsdb", "redis:ip="+at.String()+" port=6379")
	p, err := client(at, "udp", s.roots).Allocate(t.Context(), nil)
	require.NoError(t, err)
	const key = "turn/realm/example.org/user/user/allocation/000000000000000001"
	channel, payload := next()
	require.Equal(t, key+"/status", channel)
	require.Regexp(t, `^new lifetime=600, type=UDP, local=127\.1\.\d+\.\d+:3478, remote=127\.0\.0\.1:\d+$`, payload)
	value, err := c.Get(t.Context(), key+"/status").Result()
	require.NoError(t, err)
	require.Equal(t, payload, value)

	exchange(t, p, echo(t, "127.0.0.1"), 10, 100)
	require.NoError(t, p.Close())
	got := map[string]string{}
	for range 3 {
		channel, payload := next()
		got[strings.TrimPrefix(channel, key)] = payload
	}
	require.Equal(t, map[string]string{
		"/status":             "deleted",
		"/total_traffic":      "rcvp=10, rcvb=1000, sentp=10, sentb=1000",
		"/total_traffic/peer": "rcvp=10, rcvb=1000, sentp=10, sentb=1000",
	}, got)
	require.ErrorIs(t, c.Get(t.Context(), key+"/status").Err(), redis.Nil)
}

// GHSA "psd" of coturn: an operator's command that wrote to any file. No request
// of the API names one.
func TestGHSA_psd_NoFileIsNamedByTheAPI(t *testing.T) {
	t.Parallel()
	at := newAddr(t)
	admin, token := "http://"+at.String()+":8080", "a secret of the admin"
	startServerAt(t, at, "-user", "user:pass", "-realm", "example.org", "-admin", at.String()+":8080", "-admin-token", token)
	file := filepath.Join(t.TempDir(), "written")
	for _, name := range []string{"file", "path", "logFile", "log-file", "cert", "key", "config"} {
		status, _ := call(t, "PATCH", admin+"/policy", token, fmt.Sprintf("{%q: %q}", name, file))
		require.Equal(t, http.StatusBadRequest, status, name)
	}
	for _, path := range []string{"/drain", "/certificates", "/users/..%2f..%2fbob", "/sessions/..%2f1"} {
		_, _ = call(t, "PUT", admin+path+"?file="+file, token, fmt.Sprintf(`{"password": "x", "file": %q}`, file))
	}
	require.NoFileExists(t, file)
}
