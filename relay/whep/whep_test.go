package whep

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/deliver/whep"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/ingest/whip"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// A server has WHIP and WHEP endpoints, for those who know the token.
type server struct {
	hub *stream.Hub
	at  string // host and port
}

func serve(t *testing.T) *server {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	hub := &stream.Hub{Log: log}
	door := auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		if r.Token != "sesame" {
			return nil, auth.ErrDenied
		}
		return &auth.Grant{}, nil
	})
	in, out := &ingest.Server{Hub: hub, Auth: door, Log: log}, &deliver.Server{Hub: hub, Auth: door, Log: log}
	media, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	transport := &whep.Transport{Log: log}
	done := make(chan struct{})
	go func() { defer close(done); _ = transport.ServePacket(media) }()
	mux := http.NewServeMux()
	mux.Handle("/whip/", http.StripPrefix("/whip", &whip.Handler{Server: in, Transport: transport}))
	mux.Handle("/whep/", http.StripPrefix("/whep", &whep.Handler{Server: out, Transport: transport}))
	web := httptest.NewServer(mux)
	t.Cleanup(func() {
		in.Close()
		out.Close()
		transport.Close()
		<-done
		web.Close()
		hub.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return &server{hub, strings.TrimPrefix(web.URL, "http://")}
}

// publish feeds H.264 and Opus.
func publish(t *testing.T, hub *stream.Hub, name string) {
	t.Helper()
	p := &streamtest.Pattern{Video: stream.H264, Audio: stream.Opus, FPS: 25}
	pub, err := hub.Publish(t.Context(), name, nil)
	require.NoError(t, err)
	require.NoError(t, pub.SetTracks(p.Tracks()...))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = streamtest.Feed(ctx, pub, p.Frames(1<<20), 1)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		pub.Close()
	})
}

func watch(t *testing.T, hub *stream.Hub, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sub, err := hub.Subscribe(ctx, name, &stream.SubscribeOptions{Wait: patience})
	require.NoError(t, err)
	defer sub.Close()
	count := map[stream.Codec]int{}
	for f, err := range sub.Frames(ctx) {
		require.NoError(t, err, "%v", count)
		if count[f.Track.Codec]++; count[stream.H264] >= 10 && count[stream.Opus] >= 10 {
			return
		}
	}
	t.Fatalf("the stream ended: %v", count)
}

func newRelay(hub *stream.Hub) *relay.Relay {
	tr := &Transport{Log: slog.New(slog.DiscardHandler)}
	return &relay.Relay{Hub: hub, Log: slog.New(slog.DiscardHandler), Transports: map[string]relay.Transport{"whep": tr, "whip": tr}}
}

func TestPullAndPush(t *testing.T) {
	origin := serve(t)
	publish(t, origin.hub, "live/cam")
	edge := &stream.Hub{Log: slog.New(slog.DiscardHandler)}
	defer edge.Close()
	r := newRelay(edge)
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 2)
	go func() { ended <- r.Pull(ctx, "live/cam", "whep://"+origin.at+"/whep/live/cam?token=sesame") }()
	watch(t, edge, "live/cam")
	go func() { ended <- r.Push(ctx, "live/cam", "whip://"+origin.at+"/whip/live/copy?token=sesame") }()
	watch(t, origin.hub, "live/copy")
	require.Eventually(t, func() bool {
		jobs := r.Jobs()
		for _, j := range jobs {
			if !j.Running || j.Bytes == 0 {
				return false
			}
		}
		return len(jobs) == 2
	}, patience, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestRefusals(t *testing.T) {
	origin := serve(t)
	tr := &Transport{Log: slog.New(slog.DiscardHandler)}
	for url, want := range map[string]error{
		"whep://" + origin.at + "/whep/live/cam":              auth.ErrDenied,
		"whep://" + origin.at + "/whep/live/cam?token=sesame": stream.ErrNotFound,
		"whep://" + origin.at + "/nowhere":                    stream.ErrNotFound,
		"rtmp://" + origin.at + "/whep/live/cam":              errURL,
		"whep:///x":                                           errURL,
	} {
		err := tr.Pull(t.Context(), url, nil, &relay.Options{Hops: "runnel-hops=a"})
		require.ErrorIs(t, err, want, url)
		require.NotContains(t, err.Error(), "sesame")
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	err := tr.Pull(t.Context(), "whep"+strings.TrimPrefix(closed.URL, "http")+"/?token=sesame", nil, &relay.Options{})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "sesame")
}

func TestAddress(t *testing.T) {
	for _, tt := range []struct{ raw, kind, want string }{
		{"WHEPS://h/whep/a?x=1", "whep", "https://h/whep/a?x=1&runnel-hops=a"},
		{"whip://h:8/a", "whip", "http://h:8/a?runnel-hops=a"},
	} {
		got, err := address(tt.raw, "runnel-hops=a", tt.kind)
		require.NoError(t, err)
		require.Equal(t, tt.want, got)
	}
	_, err := address("whep://h/a", "", "whip")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = address("whips://h/a", "", "whep")
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
