package srt

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

const patience = 30 * time.Second

// A server is a hub with an SRT port.
type server struct {
	hub  *stream.Hub
	addr string
}

func serve(t *testing.T, a auth.Authorizer, o ingest.SRT) *server {
	hub := &stream.Hub{Log: slog.New(slog.DiscardHandler)}
	in := &ingest.Server{Hub: hub, Auth: a, SRT: o, Log: hub.Log}
	out := &deliver.Server{Hub: hub, Auth: a, Log: hub.Log}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = in.ServeSRT(pc, out)
	}()
	t.Cleanup(func() {
		in.Close()
		out.Close()
		hub.Close()
		<-done
	})
	return &server{hub, pc.LocalAddr().String()}
}

func publish(t *testing.T, hub *stream.Hub, name string, s *streamtest.Source) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx, hub, name)
	}()
	end := func() { cancel(); <-done }
	t.Cleanup(end)
	require.Eventually(t, func() bool { return hub.Stream(name) != nil }, patience, time.Millisecond)
	return end
}

func newRelay(t *testing.T, hub *stream.Hub) *relay.Relay {
	r := &relay.Relay{Hub: hub, Log: slog.New(slog.DiscardHandler), Transports: map[string]relay.Transport{"srt": &Transport{}}}
	t.Cleanup(func() { r.Close() })
	return r
}

// watch reads frames until both kinds have come.
func watch(t *testing.T, hub *stream.Hub, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sub, err := hub.Subscribe(ctx, name, &stream.SubscribeOptions{Wait: patience})
	require.NoError(t, err)
	defer sub.Close()
	count := map[stream.Codec]int{}
	for f, err := range sub.Frames(ctx) {
		require.NoError(t, err)
		count[f.Track.Codec]++
		if count[stream.H264] >= 10 && count[stream.AAC] >= 10 {
			return
		}
	}
	t.Fatalf("the stream ended: %v", count)
}

func TestPullAndPush(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, query, passphrase string }{
		{"clear", "?latency=50000", ""},
		{"encrypted", "?passphrase=0123456789&pbkeylen=32", "0123456789"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan auth.Request, 10)
			origin := serve(t, auth.Func(func(_ context.Context, q *auth.Request) (*auth.Grant, error) {
				asked <- *q
				return &auth.Grant{}, nil
			}), ingest.SRT{Passphrase: tt.passphrase})
			publish(t, origin.hub, "live/cam", &streamtest.Source{})
			edge := &stream.Hub{}
			defer edge.Close()
			r := newRelay(t, edge)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 2)
			go func() { ended <- r.Pull(ctx, "live/cam", "srt://"+origin.addr+"/live/cam"+tt.query+"&token=t") }()
			watch(t, edge, "live/cam")
			q := <-asked
			require.Equal(t, auth.Play, q.Action)
			require.Equal(t, "t", q.Token)
			require.Contains(t, q.RawQuery, "runnel-hops=", "loops can be found")

			go func() {
				ended <- r.Push(ctx, "live/cam", "srt://"+origin.addr+tt.query+"&streamid=%23!::r=live/copy,m=publish")
			}()
			watch(t, origin.hub, "live/copy")
			require.Equal(t, auth.Publish, (<-asked).Action)
			require.Eventually(t, func() bool {
				for _, j := range r.Jobs() {
					if !j.Running || j.Bytes == 0 {
						return false
					}
				}
				return true
			}, patience, time.Millisecond)
			cancel()
			require.ErrorIs(t, <-ended, context.Canceled)
			require.ErrorIs(t, <-ended, context.Canceled)
		})
	}
}

// The end of a stream is told: a pull whose source has gone tries again, and a push
// of a stream that has ended returns.
func TestEnds(t *testing.T) {
	t.Parallel()
	origin := serve(t, auth.AllowAll, ingest.SRT{})
	here := &stream.Hub{}
	defer here.Close()
	r := newRelay(t, here)
	stop := publish(t, here, "live/a", &streamtest.Source{})
	pushed := make(chan error, 1)
	go func() { pushed <- r.Push(t.Context(), "live/a", "srt://"+origin.addr+"/live/a") }()
	watch(t, origin.hub, "live/a")
	stop()
	require.NoError(t, <-pushed)
	require.Eventually(t, func() bool { return origin.hub.Stream("live/a") == nil }, patience, time.Millisecond)

	stop = publish(t, origin.hub, "live/b", &streamtest.Source{})
	ctx, cancel := context.WithCancel(t.Context())
	pulled := make(chan error, 1)
	go func() { pulled <- r.Pull(ctx, "live/b", "srt://"+origin.addr+"/live/b") }()
	watch(t, here, "live/b")
	sub, err := here.Subscribe(ctx, "live/b", &stream.SubscribeOptions{Live: true})
	require.NoError(t, err)
	defer sub.Close()
	stop()
	publish(t, origin.hub, "live/b", &streamtest.Source{})
	back := false
	for f, err := range sub.Frames(ctx) {
		require.NoError(t, err)
		if back = f.Discontinuity; back {
			break
		}
	}
	require.True(t, back)
	cancel()
	require.ErrorIs(t, <-pulled, context.Canceled)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	strict := serve(t, auth.Func(func(_ context.Context, q *auth.Request) (*auth.Grant, error) { return nil, auth.ErrDenied }), ingest.SRT{})
	locked := serve(t, auth.AllowAll, ingest.SRT{Passphrase: "0123456789"})
	tr := &Transport{}
	for url, want := range map[string]error{
		"srt://" + strict.addr + "/live/x":                        auth.ErrDenied,
		"srt://" + locked.addr + "/live/x":                        auth.ErrDenied,
		"srt://" + locked.addr + "/live/x?passphrase=wrong-wrong": auth.ErrDenied,
		"srt://" + locked.addr + "/live/x?passphrase=0123456789":  stream.ErrNotFound,
	} {
		require.ErrorIs(t, tr.Probe(t.Context(), url, &relay.Options{}), want, url)
		require.ErrorIs(t, tr.Pull(t.Context(), url, nil, &relay.Options{}), want, url)
	}
	publish(t, locked.hub, "live/x", &streamtest.Source{})
	require.NoError(t, tr.Probe(t.Context(), "srt://"+locked.addr+"/live/x?passphrase=0123456789", &relay.Options{}))
}

func TestURL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		url     string
		publish bool
		hops    string
		id      string // "" with fault
		fault   string
	}{
		{url: "srt://h:1?streamid=a%2Cb&latency=200000", id: "a,b"},
		{url: "srt://h:1/live/cam", id: "#!::r=live/cam,m=request"},
		{url: "srt://h:1/live/cam?token=t&x=a,b&passphrase=0123456789", publish: true, hops: "runnel-hops=a,b", id: "#!::r=live/cam,m=publish,s=t,x=a%2Cb,runnel-hops=a%2Cb"},
		{url: "srt://h:1/live/cam?token=t%2C", id: "#!::r=live/cam,m=request,token=t%2C"},
		{url: "srt://h/live/cam", fault: "malformed"},
		{url: "srt://:1/live/cam", fault: "malformed"},
		{url: "srt://h:1/a,m=publish", fault: "malformed"},
		{url: "srt://h:1?mode=listener", fault: "callers"},
		{url: "srt://h:1?latency=-1", fault: "latency"},
		{url: "srt://h:1?latency=99999999999", fault: "latency"},
		{url: "srt://h:1?passphrase=short", fault: "passphrase"},
		{url: "srt://h:1?pbkeylen=8", fault: "pbkeylen"},
		{url: "srt://h:1?streamid=" + strings.Repeat("x", 513), fault: "512"},
	} {
		to, err := parse(tt.url, tt.publish, tt.hops)
		if tt.fault != "" {
			require.ErrorContains(t, err, tt.fault, tt.url)
			require.NotContains(t, err.Error(), "short", "nothing of a secret")
			continue
		}
		require.NoError(t, err, tt.url)
		require.Equal(t, tt.id, to.dial.StreamID)
		require.Equal(t, "h:1", to.addr)
	}
}
