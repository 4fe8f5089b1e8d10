package relay

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &streamtest.Net{}
		defer network.Close()
		a := newNode(t, network, "a", "runnel://b")
		defer a.close()
		b := newNode(t, network, "b", "runnel://c")
		defer b.close()
		c := newNode(t, network, "c", "runnel://a")
		defer c.close()
		start := time.Now()
		_, err := a.Hub.Subscribe(t.Context(), "live/cam", nil)
		require.ErrorIs(t, err, stream.ErrNotFound)
		require.Less(t, time.Since(start), time.Second)

		// What a viewer at each of them asks for at once ends too.
		var wait sync.WaitGroup
		for _, n := range []*node{a, b, c} {
			wait.Go(func() {
				q := &auth.Request{Action: auth.Play, Stream: "live/x"}
				_, err := n.Guard(auth.AllowAll).Authorize(t.Context(), q)
				require.NoError(t, err)
				_, err = n.Hub.Subscribe(t.Context(), "live/x", nil)
				require.ErrorIs(t, err, stream.ErrNotFound)
			})
		}
		wait.Wait()
		require.Empty(t, a.Jobs())

		// Published at one of them, all have it.
		defer c.publish("live/cam", 0)()
		sub, err := a.Hub.Subscribe(t.Context(), "live/cam", nil)
		require.NoError(t, err)
		defer sub.Close()
		take(t, sub, 20)
		require.Equal(t, []string{"c", "b"}, a.pathOf("live/cam"))
	})
}

func TestForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &streamtest.Net{}
		defer network.Close()
		a := newNode(t, network, "a")
		defer a.close()
		b := newNode(t, network, "b")
		defer b.close()
		c := newNode(t, network, "c")
		defer c.close()
		a.Forward = []Rule{{Match: "live/*", URLs: []string{"runnel://b"}}}
		b.Forward = []Rule{{URLs: []string{"runnel://a/live/{name}", "runnel://c/copy/{app}-{name}"}}}
		asked := 0
		a.Ask = func(_ context.Context, s stream.SessionInfo) ([]string, error) {
			if asked++; asked == 1 {
				return nil, errors.New("not now")
			}
			return []string{"runnel://c/asked/" + s.Stream}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		wait.Go(func() { require.NoError(t, a.Run(ctx)) })
		wait.Go(func() { require.NoError(t, b.Run(ctx)) })
		synctest.Wait()
		stop := a.publish("live/cam", 0)
		time.Sleep(2 * time.Second)
		for _, want := range []struct {
			n    *node
			name string
		}{{b, "live/cam"}, {c, "copy/live-cam"}, {c, "asked/live/cam"}} {
			sub, err := want.n.Hub.Subscribe(t.Context(), want.name, nil)
			require.NoError(t, err, want.name)
			frames := take(t, sub, 40)
			streamtest.CheckTimeline(t, frames, 100*time.Millisecond)
			sub.Close()
		}
		// b may not send to a what came from there.
		refused := false
		for _, s := range b.Jobs() {
			if s.URL == "runnel://a/live/cam" {
				refused = true
				require.False(t, s.Running)
				require.Contains(t, s.Error, "denied")
			}
		}
		require.True(t, refused)

		// The receiver goes and returns.
		b.down()
		time.Sleep(5 * time.Second)
		require.Nil(t, b.Hub.Stream("live/cam"))
		b.up()
		time.Sleep(3 * time.Second)
		require.NotNil(t, b.Hub.Stream("live/cam"))

		stop()
		time.Sleep(3 * time.Second)
		require.Empty(t, a.Jobs())
		require.Nil(t, b.Hub.Stream("live/cam"))
		require.Nil(t, c.Hub.Stream("asked/live/cam"))
		cancel()
		wait.Wait()
	})
}

func TestPublishToOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &streamtest.Net{}
		defer network.Close()
		origin := newNode(t, network, "origin")
		defer origin.close()
		origin.Auth = auth.Func(func(_ context.Context, q *auth.Request) (*auth.Grant, error) {
			if q.Token != "good" {
				return nil, auth.ErrDenied
			}
			return nil, nil
		})
		edges := []*node{newNode(t, network, "edge1", "runnel://origin"), newNode(t, network, "edge2", "runnel://origin")}
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		for _, e := range edges {
			e.PublishToOrigin, e.Traverse = true, true
			defer e.close()
			wait.Go(func() { require.NoError(t, e.Run(ctx)) })
		}
		synctest.Wait()
		publish := func(token string) (*stream.Session, *error) {
			var end error
			s := edges[0].Hub.OpenSession(stream.SessionInfo{Role: stream.RolePublish, Stream: "live/" + token, RawQuery: "token=" + token}, func(err error) { end = err })
			p, err := edges[0].Hub.Publish(t.Context(), "live/"+token, &stream.PublishOptions{Session: s})
			require.NoError(t, err)
			go (&streamtest.Source{Duration: 20 * time.Second}).Feed(t.Context(), p)
			time.Sleep(time.Second)
			synctest.Wait()
			return s, &end
		}
		_, end := publish("bad")
		require.ErrorIs(t, *end, auth.ErrDenied)
		require.Nil(t, origin.Hub.Stream("live/bad"))
		s, end := publish("good")
		require.NoError(t, *end)
		require.NotNil(t, origin.Hub.Stream("live/good"))

		// Another edge's viewer needs the token as well.
		play := func(token string) error {
			q := &auth.Request{Action: auth.Play, Stream: "live/good", RawQuery: "token=" + token, Token: token}
			if _, err := edges[1].Guard(auth.AllowAll).Authorize(t.Context(), q); err != nil {
				return err
			}
			sub, err := edges[1].Hub.Subscribe(t.Context(), "live/good", nil)
			if err == nil {
				take(t, sub, 10)
				sub.Close()
			}
			return err
		}
		require.ErrorIs(t, play("bad"), auth.ErrDenied)
		require.NoError(t, play("good"))
		require.ErrorIs(t, play("bad"), auth.ErrDenied, "though the stream is here now")
		s.Close(nil)
		cancel()
		wait.Wait()
	})
}

func TestPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &streamtest.Net{}
		defer network.Close()
		source := newNode(t, network, "source")
		defer source.close()
		n := newNode(t, network, "n")
		defer n.close()
		require.ErrorIs(t, n.Pull(t.Context(), "in/cam", "gopher://source"), ErrScheme)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.Pull(ctx, "in/cam", "runnel://source/live/cam") }()
		time.Sleep(10 * time.Second)
		require.Nil(t, n.Hub.Stream("in/cam"))
		require.Greater(t, n.Jobs()[0].Attempts, 5)
		require.Less(t, n.Jobs()[0].Attempts, 20)
		stop := source.publish("live/cam", 0)
		time.Sleep(3 * time.Second)
		require.NotNil(t, n.Hub.Stream("in/cam"))
		stop()
		time.Sleep(40 * time.Second)
		require.Nil(t, n.Hub.Stream("in/cam"), "Hold is over")
		defer source.publish("live/cam", 0)()
		time.Sleep(3 * time.Second)
		require.NotNil(t, n.Hub.Stream("in/cam"), "it is still tried")
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.Nil(t, n.Hub.Stream("in/cam"))

		// An operator ends it.
		go func() { ended <- n.Pull(t.Context(), "in/cam", "runnel://source/live/cam") }()
		time.Sleep(3 * time.Second)
		for s := range n.Hub.Sessions() {
			s.Kick(nil)
		}
		require.ErrorIs(t, <-ended, stream.ErrKicked)

		// A publisher that takes over stays.
		go func() { ended <- n.Pull(t.Context(), "in/cam", "runnel://source/live/cam") }()
		time.Sleep(3 * time.Second)
		pub, err := n.Hub.Publish(t.Context(), "in/cam", &stream.PublishOptions{Replace: true})
		require.NoError(t, err)
		require.ErrorIs(t, <-ended, stream.ErrReplaced)
		require.True(t, n.Hub.Stream("in/cam").Publishing())
		require.ErrorIs(t, n.Pull(t.Context(), "in/cam", "runnel://source/live/cam"), stream.ErrBusy)
		pub.Close()
	})
}
