package ingest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/memnet"
	"github.com/runnel-media/runnel/internal/rtmp"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

var quiet = slog.New(slog.DiscardHandler)

func newServer() *Server {
	return &Server{Hub: &stream.Hub{}, Auth: auth.AllowAll, Log: quiet}
}

func sessions(hub *stream.Hub) (all []*stream.Session) {
	for s := range hub.Sessions() {
		all = append(all, s)
	}
	return all
}

// grant is an Authorizer that answers every question alike.
func grant(g *auth.Grant, err error) auth.Authorizer {
	return auth.Func(func(context.Context, *auth.Request) (*auth.Grant, error) { return g, err })
}

func TestPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.Auth = grant(&auth.Grant{User: "ann", Labels: map[string]string{"plan": "gold"}}, nil)
		r := &auth.Request{Protocol: "test", Stream: "live/cam"}
		p, err := s.Publish(t.Context(), r, nil)
		require.NoError(t, err)
		require.Equal(t, auth.Publish, r.Action)
		info := p.Session().Info()
		require.Equal(t, "ann", info.User)
		require.Equal(t, "test", info.Protocol)
		require.Equal(t, stream.RolePublish, info.Role)
		require.Equal(t, map[string]string{"plan": "gold"}, info.Labels)
		require.Len(t, sessions(s.Hub), 1)

		_, err = s.Publish(t.Context(), r, nil)
		require.ErrorIs(t, err, stream.ErrBusy)
		require.Len(t, sessions(s.Hub), 1)
		require.NoError(t, p.Close())
		p.Session().Close(nil)
		require.Empty(t, sessions(s.Hub))
	})
}

func TestPublishRefused(t *testing.T) {
	broken := errors.New("database is down")
	redirect := &auth.Redirect{Location: "rtmp://other/live/cam"}
	for _, c := range []struct {
		name   string
		auth   auth.Authorizer
		stream string
		want   error
	}{
		{"no authorizer", nil, "live/cam", auth.ErrDenied},
		{"denied", grant(nil, auth.ErrDenied), "live/cam", auth.ErrDenied},
		{"broken authorizer", grant(nil, broken), "live/cam", broken},
		{"redirected", grant(nil, redirect), "live/cam", redirect},
		{"expired", grant(&auth.Grant{Expires: time.Now().Add(-time.Second)}, nil), "live/cam", auth.ErrDenied},
		{"bad name, whoever asks", nil, "../cam", stream.ErrName},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer()
			s.Auth = c.auth
			_, err := s.Publish(t.Context(), &auth.Request{Stream: c.stream}, nil)
			require.ErrorIs(t, err, c.want)
			require.Empty(t, sessions(s.Hub))
		})
	}
}

// The ways by which a publisher ends that is not closed by its caller.
func TestPublishEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(s *Server, cancel context.CancelFunc)
		want error // that OnEvict is told; nil: nothing
	}{
		{"context", func(_ *Server, cancel context.CancelFunc) { cancel() }, nil},
		{"kick", func(s *Server, _ context.CancelFunc) { sessions(s.Hub)[0].Kick(nil) }, stream.ErrKicked},
		{"expiry", func(s *Server, _ context.CancelFunc) { time.Sleep(time.Hour) }, auth.ErrDenied},
		{"replaced", func(s *Server, _ context.CancelFunc) {
			_, err := s.Hub.Publish(context.Background(), "live/cam", &stream.PublishOptions{Replace: true})
			require.NoError(t, err)
		}, stream.ErrReplaced},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				s.Auth = grant(&auth.Grant{Expires: time.Now().Add(time.Hour)}, nil)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var told []error
				p, err := s.Publish(ctx, &auth.Request{Stream: "live/cam"}, &stream.PublishOptions{OnEvict: func(err error) { told = append(told, err) }})
				require.NoError(t, err)
				track := &stream.Track{ID: 2, Codec: stream.MP3}
				require.NoError(t, p.SetTracks(track))
				c.end(s, cancel)
				synctest.Wait()
				require.Error(t, p.Write(&stream.Frame{Track: track, Data: []byte{1}}))
				if c.want == nil {
					require.Empty(t, told)
				} else {
					require.Equal(t, []error{c.want}, told)
				}
				cancel()
				synctest.Wait()
				require.Empty(t, sessions(s.Hub))
			})
		})
	}
}

// A kick that comes while the hub is asked is not lost.
func TestKickEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		ready := make(chan struct{})
		go func() {
			events := s.Hub.Events(t.Context())
			close(ready)
			for e := range events {
				if e, ok := e.(stream.SessionOpened); ok {
					s.Hub.Session(e.Session.ID).Kick(nil)
				}
			}
		}()
		<-ready
		p, err := s.Publish(t.Context(), &auth.Request{Stream: "live/cam"}, nil)
		require.NoError(t, err)
		synctest.Wait()
		require.Error(t, p.SetTracks(&stream.Track{ID: 2, Codec: stream.MP3}))
		require.NoError(t, s.Hub.Close())
	})
}

type players func(c stream.PlayConn, r *auth.Request) error

func (p players) ServePlay(_ context.Context, c stream.PlayConn, r *auth.Request) error {
	return p(c, r)
}

// Two listeners, one of which has players; then the server shuts down.
func TestServeRTMP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		s := newServer()
		s.Auth = grant(&auth.Grant{Expires: time.Now().Add(time.Minute)}, nil)
		ended := make(chan error, 2)
		playing := make(chan string, 1)
		serve := func(addr string, p PlayServer) {
			ln, err := network.Listen(addr)
			require.NoError(t, err)
			go func() { ended <- s.ServeRTMP(ln, p) }()
		}
		serve("open:1935", players(func(c stream.PlayConn, r *auth.Request) error {
			playing <- r.Stream
			_, _ = c.Write(c.Accept())
			_, err := c.ReadControl()
			return err
		}))
		serve("closed:1935", nil)

		d := rtmp.Dialer{DialContext: network.Dial}
		dial := func(url string) *rtmp.Client {
			c, err := d.Dial(t.Context(), url)
			require.NoError(t, err)
			return c
		}
		pattern := &streamtest.Pattern{}
		publish := func(c *rtmp.Client) *rtmp.Writer {
			w, err := c.Publish(t.Context())
			require.NoError(t, err)
			require.NoError(t, w.SetTracks(pattern.Tracks()...))
			return w
		}
		a, b := publish(dial("rtmp://open/live/a")), publish(dial("rtmp://closed/live/b"))
		require.NotNil(t, s.Hub.Stream("live/a"))
		require.NotNil(t, s.Hub.Stream("live/b"))

		// The same name at the other listener.
		_, err := dial("rtmp://closed/live/a").Publish(t.Context())
		var said *rtmp.StatusError
		require.ErrorAs(t, err, &said)
		require.Equal(t, "NetStream.Publish.BadName", said.Code)

		require.ErrorAs(t, dial("rtmp://closed/live/a").Play(t.Context(), &stream.Publisher{}), &said)
		require.Equal(t, "NetStream.Play.Failed", said.Code)
		player := dial("rtmp://open/live/a")
		done := make(chan error, 1)
		go func() { done <- player.Play(t.Context(), &stream.Publisher{}) }()
		require.Equal(t, "live/a", <-playing)

		// The grant ends one publisher's time; frames do not help.
		go func() { _ = streamtest.Feed(t.Context(), a, pattern.Frames(-1), 1) }()
		go func() { _ = streamtest.Feed(t.Context(), b, pattern.Frames(-1), 1) }()
		at := time.Now()
		<-a.Done()
		<-b.Done()
		require.Equal(t, time.Minute, time.Since(at).Truncate(time.Minute))
		require.ErrorAs(t, a.Err(), &said)
		require.Equal(t, "NetStream.Publish.Denied", said.Code)
		_, _ = a.Close(), b.Close()

		s.Auth = auth.AllowAll
		c := publish(dial("rtmp://open/live/c"))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, <-ended, ErrServerClosed)
		require.ErrorIs(t, <-ended, net.ErrClosed)
		<-c.Done()
		_ = c.Close()
		_, err = s.Publish(t.Context(), &auth.Request{Stream: "live/d"}, nil)
		require.ErrorIs(t, err, ErrServerClosed)
		require.ErrorIs(t, s.ServeRTMP(closer{}, nil), ErrServerClosed)
		require.NoError(t, s.Shutdown(t.Context()))
		require.Error(t, <-done) // the client gave up on a player that was sent nothing

		require.NoError(t, s.Close())
		require.NoError(t, network.Close())
	})
}

type closer struct{ net.Listener }

func (closer) Close() error { return nil }
