package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// sink keeps what it is given.
type sink struct {
	events []Event
	block  chan struct{} // not nil: Write waits
	err    error
}

func (s *sink) Write(_ context.Context, e *Event) error {
	if s.block != nil {
		<-s.block
	}
	s.events = append(s.events, *e)
	return s.err
}

func TestAuthorizer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &sink{}
		trail := &Trail{Sinks: []Sink{s}, Log: slog.New(slog.NewTextHandler(&log, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- trail.Run(ctx) }()
		tokens := auth.Tokens{}
		down := errors.New("database at 10.0.0.1 is down")
		addresses := &auth.Addresses{Deny: []auth.IPRange{{From: netip.MustParseAddr("192.0.2.9"), To: netip.MustParseAddr("192.0.2.9")}}}
		a := trail.Authorizer(auth.All(addresses, auth.ByStream{
			{Pattern: "down", Auth: auth.Func(func(context.Context, *auth.Request) (*auth.Grant, error) { return nil, down })},
			{Pattern: "open", Auth: auth.AllowAll},
			{Pattern: "**", Auth: tokens},
		}))
		for _, r := range []auth.Request{
			{Action: auth.Publish, Protocol: "rtmp", Stream: "live/a", Token: "a secret that is wrong", User: "ann", RawQuery: "token=a+secret", Remote: netip.MustParseAddrPort("192.0.2.1:5")},
			{Action: auth.Play, Stream: "live/a"},
			{Action: auth.Play, Stream: "open", Remote: netip.MustParseAddrPort("192.0.2.9:5"), Token: "x"},
			{Action: auth.Play, Stream: "open", Remote: netip.MustParseAddrPort("192.0.2.1:5")},
			{Action: auth.Play, Stream: "down", Remote: netip.MustParseAddrPort("192.0.2.1:5"), Token: "x"},
		} {
			_, _ = a.Authorize(t.Context(), &r)
		}
		trail.Tripped(limit.Trip{Reason: limit.ConnsPerAddr, Addr: netip.MustParseAddr("192.0.2.1"), Count: 7})
		trail.Record(Event{Kind: Call, User: "root", Target: strings.Repeat("x", 1000) + "\xff", Result: Allowed, Status: 200})
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-ran, context.Canceled)
		var got []string
		for _, e := range s.events {
			require.False(t, e.Time.IsZero())
			got = append(got, fmt.Sprint(e.Kind, " ", e.Result, " ", e.Reason, " ", e.Count))
		}
		require.Equal(t, []string{
			"auth denied auth: denied: unknown token 0", "policy denied auth: denied by policy: address 0", "policy denied auth: denied by policy: address 0",
			"auth failed the authorizer failed 0", "limit denied connections_per_address 7", "call allowed  0",
		}, got)
		require.Len(t, s.events[5].Target, maxText)
		all := fmt.Sprint(s.events) + log.String()
		require.NotContains(t, all, "secret")
		require.NotContains(t, all, "10.0.0.1")
		require.Contains(t, log.String(), "reason=connections_per_address")
		require.NotContains(t, log.String(), "root", "calls are logged by the control plane")
	})
}

// A Sink that does not go on keeps nobody waiting, and what is lost is counted.
func TestNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{block: make(chan struct{}), err: errors.New("disk full")}
		var log bytes.Buffer
		trail := &Trail{Sinks: []Sink{s}, Log: slog.New(slog.NewTextHandler(&log, nil)), Queue: 4}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- trail.Run(ctx) }()
		for range 100 {
			trail.Record(Event{Kind: Call, Result: Allowed})
			synctest.Wait()
		}
		require.EqualValues(t, 95, trail.Lost())
		close(s.block)
		synctest.Wait()
		cancel()
		<-ran
		require.Len(t, s.events, 6)
		require.Equal(t, Event{Time: s.events[1].Time, Kind: Lost, Result: Failed, Count: 95}, s.events[1])
		require.Equal(t, 1, strings.Count(log.String(), "disk full"), "it does not complain each time")
	})
	var none *Trail
	none.Record(Event{})
	require.Zero(t, none.Lost())
	_, err := none.Authorizer(nil).Authorize(t.Context(), &auth.Request{})
	require.ErrorIs(t, err, auth.ErrDenied)
}

var event = &Event{Time: time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC), Kind: Auth, User: "ann\n<1>", From: netip.MustParseAddrPort("[2001:db8::1]:5"),
	Action: "publish", Protocol: "rtmp", Target: "live/a", Result: Denied, Reason: "wrong"}

const eventJSON = `{"time":"2030-01-02T03:04:05.000006Z","kind":"auth","user":"ann\n\u003c1\u003e","from":"[2001:db8::1]:5",` +
	`"action":"publish","protocol":"rtmp","target":"live/a","result":"denied","reason":"wrong"}`

func TestLines(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, (&Lines{W: &b}).Write(t.Context(), event))
	require.Equal(t, eventJSON+"\n", b.String())
	b.Reset()
	require.NoError(t, (&Lines{W: &b, Syslog: &Syslog{Host: "a b", App: "medi\u00e4", Facility: 10}}).Write(t.Context(), event))
	require.Equal(t, "<84>1 2030-01-02T03:04:05.000006Z a_b medi_ "+strconv.Itoa(os.Getpid())+" auth - "+eventJSON+"\n", b.String())
	require.Equal(t, 1, strings.Count(b.String(), "\n"), "a name can't add a line")
}

func TestSyslogUDP(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer pc.Close()
	s := &Syslog{Network: "udp", Addr: pc.LocalAddr().String(), Host: "h"}
	defer s.Close()
	require.NoError(t, s.Write(t.Context(), event))
	b := make([]byte, 4096)
	require.NoError(t, pc.SetReadDeadline(time.Now().Add(30*time.Second)))
	n, _, err := pc.ReadFrom(b)
	require.NoError(t, err)
	require.Regexp(t, regexp.MustCompile(`^<108>1 2030-01-02T03:04:05.000006Z h runnel \d+ auth - \{`), string(b[:n]))
}

// TestSyslogTCP: messages are counted, and go on after the server was away.
func TestSyslogTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &Syslog{Network: "tcp", Addr: ln.Addr().String(), Host: "h"}
	defer s.Close()
	got := make(chan string, 10)
	serve := func(ln net.Listener) {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		r := bufio.NewReader(c)
		digits, err := r.ReadString(' ')
		size, _ := strconv.Atoi(strings.TrimSpace(digits))
		b := make([]byte, size)
		if err == nil {
			_, err = io.ReadFull(r, b)
		}
		got <- fmt.Sprint(string(b), err)
		c.Close()
	}
	go serve(ln)
	require.NoError(t, s.Write(t.Context(), event))
	first := <-got
	require.Contains(t, first, eventJSON)
	require.True(t, strings.HasSuffix(first, "<nil>"))
	go serve(ln)
	require.Eventually(t, func() bool { // until the kernel has told that the connection is gone
		require.NoError(t, s.Write(t.Context(), event))
		return len(got) > 0
	}, 30*time.Second, 10*time.Millisecond)
	require.Contains(t, <-got, eventJSON)
	ln.Close()
	require.Eventually(t, func() bool { return s.Write(t.Context(), event) != nil }, 30*time.Second, 10*time.Millisecond)
	require.ErrorIs(t, s.Write(t.Context(), event), errPause, "it does not dial each time")
	require.Error(t, (&Syslog{Network: "ip", Addr: "x"}).Write(t.Context(), event))
}

func FuzzMessage(f *testing.F) {
	f.Add("h", "a", "auth", "u\n")
	f.Fuzz(func(t *testing.T, host, app, kind, user string) {
		e := &Event{Kind: Kind(kind), User: cut(user), Result: Denied}
		text, err := json.Marshal(e)
		require.NoError(t, err)
		b := (&Syslog{Host: host, App: app}).message(e, text)
		require.NotContains(t, string(b), "\n")
		require.GreaterOrEqual(t, len(strings.SplitN(string(b), " ", 8)), 8)
	})
}

func ExampleTrail() {
	trail := &Trail{Sinks: []Sink{&Lines{W: os.Stdout}}, Log: quiet()}
	authorizer := trail.Authorizer(auth.Tokens{}) // nobody has one
	_, err := authorizer.Authorize(context.Background(), &auth.Request{
		Action: auth.Publish, Protocol: "rtmp", Stream: "live/demo", Token: "a guess", Remote: netip.MustParseAddrPort("192.0.2.1:5000")})
	fmt.Println(err)
	trail.Record(Event{Time: time.Unix(0, 0).UTC(), Kind: Call, User: "ann", Role: "operator", Action: "DELETE", Target: "/api/v2/streams/live/demo", Result: Allowed, Status: 204})
	<-trail.queue // the first has another time each time
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = trail.Run(ctx)
	// Output:
	// auth: denied: unknown token
	// {"time":"1970-01-01T00:00:00Z","kind":"call","user":"ann","role":"operator","action":"DELETE","target":"/api/v2/streams/live/demo","result":"allowed","status":204}
}
