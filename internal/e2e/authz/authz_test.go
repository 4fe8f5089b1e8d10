package authz

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/auth/proxied"
	"github.com/runnel-media/runnel/auth/webhook"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/internal/rtmp"
	"github.com/runnel-media/runnel/internal/srt"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A world is a host with a stream live/src, at addresses of loopback.
type world struct {
	hub             *stream.Hub
	limits          *limit.Limiter
	rtmp, http, srt string // "host:port"
	closed          chan stream.SessionClosed
}

func newWorld(t *testing.T, authorizer auth.Authorizer, p *limit.Policy, proxies *proxied.Proxies) *world {
	log := slog.New(slog.DiscardHandler)
	w := &world{hub: &stream.Hub{Log: log}, limits: &limit.Limiter{}, closed: make(chan stream.SessionClosed, 1000)}
	w.limits.SetPolicy(p)
	t.Cleanup(func() { w.hub.Close() })
	go func() {
		for e := range w.hub.Events(t.Context()) {
			if c, ok := e.(stream.SessionClosed); ok {
				w.closed <- c
			}
		}
	}()
	in := &ingest.Server{Hub: w.hub, Auth: authorizer, Log: log, Limits: w.limits}
	out := &deliver.Server{Hub: w.hub, Auth: authorizer, Log: log, Limits: w.limits, HLS: deliver.HLS{Segment: 500 * time.Millisecond}}
	go func() { _ = out.Run(t.Context()) }()
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return ln
	}
	r, h := listen(), listen()
	w.rtmp, w.http = r.Addr().String(), h.Addr().String()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	w.srt = pc.LocalAddr().String()
	go in.ServeSRT(pc, out)
	go in.ServeRTMP(w.limits.Listen(proxies.Listen(r)), out)
	web := &http.Server{Handler: proxies.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			in.ServeHTTP(rw, r)
			return
		}
		out.ServeHTTP(rw, r)
	}))}
	go web.Serve(w.limits.Listen(h))
	t.Cleanup(func() { in.Close(); out.Close(); web.Close() })
	go (&streamtest.Source{}).Run(t.Context(), w.hub, "live/src")
	require.Eventually(t, func() bool { s := w.hub.Stream("live/src"); return s != nil && len(s.Tracks()) > 0 }, 20*time.Second, 5*time.Millisecond)
	return w
}

// client is http.DefaultClient, without connections that are kept.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (w *world) get(ctx context.Context, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.http+path, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(r)
}

// play reads a response to its end.
func (w *world) play(ctx context.Context, path string) error {
	res, err := w.get(ctx, path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

// upload publishes what is played from live/src.
func (w *world) upload(ctx context.Context, ext string) error {
	src, err := w.get(ctx, "/live/src."+ext+"?inside")
	if err != nil {
		return err
	}
	defer src.Body.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.http+"/live/x."+ext, src.Body)
	if err != nil {
		return err
	}
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return fmt.Errorf("status %d", res.StatusCode)
}

func (w *world) dial(ctx context.Context, name string) (*rtmp.Client, error) {
	return (&rtmp.Dialer{}).Dial(ctx, "rtmp://"+w.rtmp+"/"+name)
}

type discard struct{}

func (discard) SetTracks(...*stream.Track) error { return nil }
func (discard) SetMetadata(stream.Metadata)      {}
func (discard) Write(*stream.Frame) error        { return nil }

var _ flv.Sink = discard{}

// protocols are all ways in and out: each runs until it is ended.
var protocols = []struct {
	protocol string
	run      func(ctx context.Context, w *world) error
}{
	{"rtmp", func(ctx context.Context, w *world) error { // publish
		c, err := w.dial(ctx, "live/x")
		if err != nil {
			return err
		}
		defer c.Close()
		writer, err := c.Publish(ctx)
		if err != nil {
			return err
		}
		return (&streamtest.Source{}).Feed(ctx, writer)
	}},
	{"http-flv", func(ctx context.Context, w *world) error { return w.upload(ctx, "flv") }},
	{"http-ts", func(ctx context.Context, w *world) error { return w.upload(ctx, "ts") }},
	{"rtmp", func(ctx context.Context, w *world) error { // play
		c, err := w.dial(ctx, "live/src")
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Play(ctx, discard{})
	}},
	{"http-flv", func(ctx context.Context, w *world) error { return w.play(ctx, "/live/src.flv") }},
	{"http-ts", func(ctx context.Context, w *world) error { return w.play(ctx, "/live/src.ts") }},
	{"http-mp4", func(ctx context.Context, w *world) error { return w.play(ctx, "/live/src.mp4") }},
	{"ws-flv", func(ctx context.Context, w *world) error {
		c, _, err := websocket.Dial(ctx, "ws://"+w.http+"/live/src.flv", nil)
		if err != nil {
			return err
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		for {
			if _, _, err := c.Read(ctx); err != nil {
				return err
			}
		}
	}},
	{"hls", func(ctx context.Context, w *world) error {
		playlist := ""
		for ctx.Err() == nil {
			path := playlist
			if path == "" {
				path = "/live/src.m3u8"
			}
			res, err := w.get(ctx, path)
			if err != nil {
				return err
			}
			for s := bufio.NewScanner(res.Body); s.Scan(); {
				if line := s.Text(); playlist == "" && strings.Contains(line, ".m3u8") && !strings.HasPrefix(line, "#") {
					playlist = "/live/" + strings.TrimPrefix(line, "./")
				}
			}
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("status %d", res.StatusCode)
			}
			time.Sleep(50 * time.Millisecond)
		}
		return ctx.Err()
	}},
	{"srt", func(ctx context.Context, w *world) error { // publish
		src, err := w.get(ctx, "/live/src.ts?inside")
		if err != nil {
			return err
		}
		defer src.Body.Close()
		c, err := srt.Dial(ctx, w.srt, &srt.Endpoint{}, srt.DialOptions{StreamID: "#!::r=live/x,m=publish"})
		if err != nil {
			return err
		}
		defer c.Close()
		packets := make([]byte, 7*188)
		for err == nil {
			if _, err = io.ReadFull(src.Body, packets); err == nil {
				_, err = c.Write(packets)
			}
		}
		return err
	}},
	{"srt", func(ctx context.Context, w *world) error { // play
		c, err := srt.Dial(ctx, w.srt, &srt.Endpoint{}, srt.DialOptions{StreamID: "live/src"})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.Copy(io.Discard, c)
		return err
	}},
	{"dash", func(ctx context.Context, w *world) error {
		for ctx.Err() == nil {
			res, err := w.get(ctx, "/live/src.mpd")
			if err != nil {
				return err
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("status %d", res.StatusCode)
			}
			time.Sleep(50 * time.Millisecond)
		}
		return ctx.Err()
	}},
}

// inside is what the tests themselves may.
func inside(r *auth.Request) bool { return r.RawQuery == "inside" }

// each runs a test for each protocol.
func each(t *testing.T, test func(t *testing.T, protocol string, run func(context.Context, *world) error)) {
	var all sync.WaitGroup
	for i, p := range protocols {
		all.Go(func() { // all at once: they mostly wait
			t.Run(fmt.Sprint(i, " ", p.protocol), func(t *testing.T) { test(t, p.protocol, p.run) })
		})
	}
	all.Wait()
}

// ended waits until a session of the protocol has been ended for want of a right.
func (w *world) ended(t *testing.T, protocol string, result <-chan error) error {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case c := <-w.closed:
			if c.Session.Protocol == protocol && c.Session.User == "ann" {
				require.ErrorIs(t, c.Err, auth.ErrDenied)
				select {
				case <-result: // as an error, or where a connection's end is a stream's, as that
				case <-deadline:
					t.Fatal("the peer goes on")
				}
				return c.Err
			}
		case <-deadline:
			t.Fatal("the session goes on")
		}
	}
}

func start(t *testing.T, w *world, run func(context.Context, *world) error) <-chan error {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	result := make(chan error, 1)
	go func() { result <- run(ctx, w) }()
	return result
}

// left waits until nothing counts any more but what the test has.
func (w *world) left(t *testing.T) {
	require.Eventually(t, func() bool { return w.limits.Usage().Users == 0 }, 30*time.Second, 10*time.Millisecond)
}

func TestGrantExpires(t *testing.T) {
	each(t, func(t *testing.T, protocol string, run func(context.Context, *world) error) {
		until := sync.OnceValue(func() time.Time { return time.Now().Add(2 * time.Second) }) // from the first question on
		w := newWorld(t, auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			if inside(r) {
				return nil, nil
			}
			return &auth.Grant{User: "ann", Expires: until()}, nil
		}), nil, &proxied.Proxies{})
		_ = w.ended(t, protocol, start(t, w, run))
		require.False(t, time.Now().Before(until()))
		w.left(t)
	})
}

// TestReauthorize: a right that is taken away ends what goes on, whatever the
// protocol; an Authorizer that fails does not.
func TestReauthorize(t *testing.T) {
	each(t, func(t *testing.T, protocol string, run func(context.Context, *world) error) {
		var refuse, failing atomic.Bool
		var failed atomic.Int32
		w := newWorld(t, auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			switch {
			case inside(r):
				return nil, nil
			case refuse.Load():
				return nil, auth.ErrDenied
			case failing.Load():
				failed.Add(1)
				return nil, errors.New("the database is down")
			}
			return &auth.Grant{User: "ann"}, nil
		}), &limit.Policy{Reauthorize: time.Millisecond}, &proxied.Proxies{})
		result := start(t, w, run)
		require.Eventually(t, func() bool { return w.limits.Usage().Users == 1 }, 20*time.Second, time.Millisecond)
		if protocol != "dash" { // each manifest asks, and fails
			failing.Store(true)
			require.Eventually(t, func() bool { return failed.Load() > 0 }, 20*time.Second, time.Millisecond)
			require.Equal(t, 1, w.limits.Usage().Users, "it goes on")
		}
		refuse.Store(true)
		_ = w.ended(t, protocol, result)
		w.left(t)
	})
}

// TestSessionLimits: one session of a user is the bound of its Grant, whatever
// the protocol, and the next one is refused.
func TestSessionLimits(t *testing.T) {
	each(t, func(t *testing.T, protocol string, run func(context.Context, *world) error) {
		w := newWorld(t, auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			if inside(r) {
				return nil, nil
			}
			return &auth.Grant{User: "ann", Limits: auth.Limits{Sessions: 1}}, nil
		}), nil, &proxied.Proxies{})
		held := w.hold(t)
		err := run(t.Context(), w)
		require.Error(t, err)
		if status := err.Error(); strings.HasPrefix(status, "status") {
			require.Equal(t, "status 503", status)
		}
		require.Positive(t, w.limits.Usage().Refused[limit.SessionsPerUser])
		held()
		w.left(t)
	})
}

// hold plays as ann, until the function that it returns is called.
func (w *world) hold(t *testing.T) func() {
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _ = w.play(ctx, "/live/src.flv?token=hold") }()
	require.Eventually(t, func() bool { return w.limits.Usage().Users == 1 }, 20*time.Second, time.Millisecond)
	return cancel
}

// TestBitRate: who takes more than its Grant allows is ended.
func TestBitRate(t *testing.T) {
	w := newWorld(t, auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		return &auth.Grant{User: "ann", Limits: auth.Limits{BitRate: 1000}}, nil
	}), nil, &proxied.Proxies{})
	err := w.ended(t, "rtmp", start(t, w, protocols[0].run))
	require.ErrorIs(t, err, limit.ErrReached)
	require.EqualValues(t, 1, w.limits.Usage().Refused[limit.BitRatePerSession])
	w.left(t)
}

// TestWebhook: a service decides about a publisher, by signed questions, and
// changes its mind.
func TestWebhook(t *testing.T) {
	key := []byte("what both know")
	var refuse, forged atomic.Bool
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var q webhook.Question
		if err != nil || webhook.Verify(key, r.Header, body, time.Minute) != nil || json.Unmarshal(body, &q) != nil {
			forged.Store(true)
		}
		_ = json.NewEncoder(w).Encode(webhook.Answer{Allow: q.Token == "right" && !refuse.Load(), User: "ann"})
	}))
	defer service.Close()
	w := newWorld(t, &webhook.Authorizer{URL: service.URL, Key: key}, &limit.Policy{Reauthorize: time.Millisecond}, &proxied.Proxies{})
	publish := func(token string) func(context.Context, *world) error {
		return func(ctx context.Context, w *world) error {
			c, err := w.dial(ctx, "live/x?token="+token)
			if err != nil {
				return err
			}
			defer c.Close()
			writer, err := c.Publish(ctx)
			if err != nil {
				return err
			}
			return (&streamtest.Source{}).Feed(ctx, writer)
		}
	}
	require.Error(t, publish("wrong")(t.Context(), w))
	require.Nil(t, w.hub.Stream("live/x"))
	result := start(t, w, publish("right"))
	require.Eventually(t, func() bool { return w.hub.Stream("live/x") != nil }, 20*time.Second, time.Millisecond)
	refuse.Store(true)
	_ = w.ended(t, "rtmp", result)
	require.False(t, forged.Load())
}

// TestForgedAddresses: an address that a peer says it has counts only if a
// trusted proxy says it, by header or by the PROXY protocol.
func TestForgedAddresses(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, c := range []struct {
		trusted []netip.Prefix
		want    string
	}{{local, "198.51.100.7"}, {elsewhere, "127.0.0.1"}, {nil, "127.0.0.1"}} {
		seen := make(chan string, 10)
		w := newWorld(t, auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
			seen <- r.Remote.Addr().String()
			return nil, auth.ErrDenied
		}), nil, &proxied.Proxies{Trusted: c.trusted})
		r, err := http.NewRequest(http.MethodGet, "http://"+w.http+"/live/src.flv", nil)
		require.NoError(t, err)
		for _, h := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "True-Client-Ip", "Cf-Connecting-Ip"} {
			r.Header.Set(h, "198.51.100.7")
		}
		res, err := client.Do(r)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusUnauthorized, res.StatusCode)
		require.Equal(t, c.want, <-seen)

		nc, err := net.Dial("tcp", w.rtmp)
		require.NoError(t, err)
		defer nc.Close()
		_, err = io.WriteString(nc, "PROXY TCP4 198.51.100.7 192.0.2.2 4000 1935\r\n")
		require.NoError(t, err)
		proxied := rtmp.Dialer{DialContext: func(context.Context, string, string) (net.Conn, error) { return nc, nil }}
		cl, err := proxied.Dial(t.Context(), "rtmp://"+w.rtmp+"/live/x")
		if c.want == "127.0.0.1" {
			require.Error(t, err, "the header is no RTMP")
			continue
		}
		require.NoError(t, err)
		_, err = cl.Publish(t.Context())
		require.Error(t, err)
		require.Equal(t, c.want, <-seen)
	}
}

// TestFlood: connections that do not get past the limit do not keep others out,
// and nothing is read of them.
func TestFlood(t *testing.T) {
	w := newWorld(t, auth.AllowAll, &limit.Policy{ConnsPerAddr: 30}, &proxied.Proxies{})
	var conns []net.Conn
	for range 1000 {
		c, err := net.Dial("tcp", w.rtmp)
		require.NoError(t, err)
		conns = append(conns, c)
	}
	require.Eventually(t, func() bool { return w.limits.Usage().Refused[limit.ConnsPerAddr] == 970 }, 20*time.Second, time.Millisecond)
	require.Equal(t, 30, w.limits.Usage().Conns)
	_, err := w.get(t.Context(), "/live/src.m3u8")
	require.Error(t, err, "the address is full, over HTTP too")
	for _, c := range conns {
		c.Close()
	}
	require.Eventually(t, func() bool { return w.limits.Usage().Conns == 0 }, 20*time.Second, time.Millisecond)
	res, err := w.get(t.Context(), "/live/src.m3u8")
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
}
