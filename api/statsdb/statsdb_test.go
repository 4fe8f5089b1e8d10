package statsdb

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/turn"
)

// A script takes the place of Redis: it keeps the commands that come.
type script struct {
	mu   sync.Mutex
	got  []string
	fail error
}

func (s *script) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network here") }
}
func (s *script) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (s *script) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range cmds {
			var words []string
			for _, a := range c.Args() {
				if w, ok := a.(string); ok {
					words = append(words, w)
				}
			}
			s.got = append(s.got, strings.Join(words, " "))
		}
		return s.fail
	}
}

func (s *script) has(prefix string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.got {
		if strings.HasPrefix(c, prefix) {
			return true
		}
	}
	return false
}

// TestWriter: the keys and channels of a session's life. The form against a
// real Redis is internal/e2e/turn's to test.
func TestWriter(t *testing.T) {
	s := &script{}
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	client.AddHook(s)
	srv := &turn.Server{Realm: "example.org", Auth: auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		if !r.Proof(auth.Secret{Plain: "pass"}) {
			return nil, auth.ErrDenied
		}
		return &auth.Grant{}, nil
	})}
	srv.SetPolicy(&turn.Policy{Peers: turn.PeerPolicy{AllowLoopback: true}})
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = srv.ServePacket(pc) }()
	w := &Writer{Server: srv, Client: client, Interval: 10 * time.Millisecond}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()

	// Whoever is new is written once Run follows the events.
	var p *turn.PacketConn
	const name = "a %s/b" // nothing is done with what it looks like
	require.Eventually(t, func() bool {
		if p != nil {
			_ = p.Close()
		}
		p, err = (&turn.Client{Server: pc.LocalAddr().String(), Username: name, Password: "pass"}).Allocate(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(10 * time.Millisecond)
		return s.has("publish turn/realm/example.org/user/" + name + "/allocation/00000000000000000")
	}, 30*time.Second, time.Millisecond)
	require.True(t, s.has("set turn/realm/example.org/user/"+name+"/allocation/"))
	_, err = p.WriteToAddrPort(make([]byte, 50), netip.MustParseAddrPort("127.0.0.1:9"))
	require.NoError(t, err)
	key := ""
	for a := range srv.Allocations() {
		i := a.Info()
		session := i.Session()
		key = keyOf(&session)
	}
	require.Eventually(t, func() bool { return s.has("publish " + key + "/traffic rcvp=1, rcvb=50, sentp=0, sentb=0") }, 30*time.Second, time.Millisecond)
	require.NoError(t, p.Close())
	require.Eventually(t, func() bool { return s.has("publish " + key + "/total_traffic rcvp=1, rcvb=50, sentp=0, sentb=0") }, 30*time.Second, time.Millisecond)
	require.True(t, s.has("del "+key+"/status"))
	require.True(t, s.has("publish "+key+"/status deleted"))
	require.NoError(t, srv.Close())
	require.NoError(t, <-ended, "it ends with the server")
}

// TestRedisDown: nobody waits for a Redis that does not answer, and the log
// says so.
func TestRedisDown(t *testing.T) {
	s := &script{fail: errors.New("down")}
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	client.AddHook(s)
	var log strings.Builder
	w := &Writer{Server: &turn.Server{Realm: "x"}, Client: client, Log: slog.New(slog.NewTextHandler(&log, nil))}
	w.status(t.Context(), "new", &turn.Session{User: "alice", ID: 7, Transport: "tls"}, time.Minute)
	require.Contains(t, log.String(), "down")
	require.True(t, s.has("set turn/user/alice/allocation/000000000000000007/status new lifetime=60, type=TLS/TCP"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, w.Run(ctx), context.Canceled)
}

func ExampleWriter() {
	srv := &turn.Server{Realm: "example.org"}
	w := &Writer{Server: srv, Client: redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})}
	go func() { _ = w.Run(context.Background()) }() // ends with srv
}
