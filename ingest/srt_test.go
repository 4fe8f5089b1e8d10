package ingest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/srt"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// playsBytes is a PlayServer that plays the same bytes to everybody, and keeps
// the connection until its peer leaves.
type playsBytes struct {
	refuse error
	bytes  []byte
	asked  chan auth.Request
}

func (p *playsBytes) ServePlay(_ context.Context, c stream.PlayConn, r *auth.Request) error {
	p.asked <- *r
	if p.refuse != nil {
		return p.refuse
	}
	_, _ = c.Write(c.Accept())
	if _, err := c.Write(p.bytes); err != nil {
		return err
	}
	if _, err := c.ReadControl(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// srtWorld is a server with an SRT port on loopback.
type srtWorld struct {
	*Server
	addr string
}

func newSRTWorld(t *testing.T, a auth.Authorizer, players PlayServer, o SRT, change ...func(*Server)) *srtWorld {
	if o.Latency == 0 {
		o.Latency = 200 * time.Millisecond
	}
	s := &Server{Hub: &stream.Hub{}, Auth: a, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), SRT: o}
	for _, f := range change {
		f(s)
	}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.ServeSRT(pc, players) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-ended, ErrServerClosed)
		s.Hub.Close()
	})
	return &srtWorld{s, pc.LocalAddr().String()}
}

func (w *srtWorld) dial(t *testing.T, streamID, passphrase string) (*srt.Conn, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := srt.Dial(ctx, w.addr, &srt.Endpoint{Latency: 200 * time.Millisecond}, srt.DialOptions{StreamID: streamID, Passphrase: passphrase})
	if err == nil {
		t.Cleanup(func() {
			c.Abort()
			<-c.Done()
		})
	}
	return c, err
}

func TestSRTPublish(t *testing.T) {
	var mu sync.Mutex
	var asked auth.Request
	w := newSRTWorld(t, auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = *r
		if !r.Proof(auth.Secret{Plain: "the camera's own"}) {
			return nil, auth.ErrDenied
		}
		return &auth.Grant{User: "me"}, nil
	}), nil, SRT{})
	sub := make(chan []*stream.Frame, 1)
	go func() {
		r, err := w.Hub.Subscribe(t.Context(), "live/cam", &stream.SubscribeOptions{Wait: 20 * time.Second})
		if err != nil {
			t.Error(err)
			sub <- nil
			return
		}
		sub <- streamtest.Collect(t.Context(), t, r, -1)
	}()
	const id = "#!::r=live/cam,m=publish,u=bob,s=sesame,k=v"
	c, err := w.dial(t, id, "the camera's own")
	require.NoError(t, err)
	_, err = c.Write(tsFile(t, &streamtest.Pattern{BFrames: 2}, 200))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	frames := <-sub
	require.Greater(t, len(frames), 150)
	streamtest.CheckTimeline(t, frames, 0)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, auth.Publish, asked.Action)
	require.Equal(t, []string{"srt", "live/cam", "live", "cam", "bob", "sesame", "k=v"},
		[]string{asked.Protocol, asked.Stream, asked.App, asked.Name, asked.User, asked.Token, asked.RawQuery})
}

// Refusals are in SRT's words, and leave nothing behind.
func TestSRTRefusals(t *testing.T) {
	players := &playsBytes{refuse: stream.ErrNotFound, asked: make(chan auth.Request, 10)}
	w := newSRTWorld(t, auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		if r.Name == "open" || r.Name == "busy" || r.Name == "secret" && r.Proof != nil && r.Proof(auth.Secret{Plain: "passphrase"}) ||
			r.Name == "secret2" && r.Proof(auth.Secret{Plain: "passphrase"}) {
			return nil, nil
		}
		return nil, auth.ErrDenied
	}), players, SRT{})
	pub, err := w.Hub.Publish(t.Context(), "live/busy", nil)
	require.NoError(t, err)
	defer pub.Close()
	for id, c := range map[string]struct {
		passphrase string
		why        srt.Reason
	}{
		"":                             {"", srt.BadRequest},
		"#!::m=publish":                {"", srt.BadRequest},
		"#!::r=live/../x,m=publish":    {"", srt.BadRequest},
		"#!::r=live/open,m=both":       {"", srt.BadRequest},
		"#!::r=live/busy,m=publish":    {"", srt.Conflict},
		"#!::r=live/secret,m=publish":  {"", srt.Unauthorized},
		"#!::r=live/secret2,m=publish": {"passphrasf", srt.BadSecret},
		"#!::r=live/open,m=publish":    {"passphrase", srt.Unsecure},
		"live/cam":                     {"", srt.NotFound},
	} {
		_, err := w.dial(t, id, c.passphrase)
		var r *srt.Rejection
		require.ErrorAs(t, err, &r, id)
		require.Equal(t, c.why, r.Reason, id)
	}
	n := 0
	for range w.Hub.Sessions() {
		n++
	}
	require.Zero(t, n)
	require.Equal(t, auth.Play, (<-players.asked).Action)
}

func TestSRTPassphraseOfAll(t *testing.T) {
	w := newSRTWorld(t, auth.AllowAll, nil, SRT{Passphrase: "for everybody"})
	for passphrase, why := range map[string]srt.Reason{"": srt.Unsecure, "for nobody": srt.BadSecret, "for everybody": srt.Forbidden} {
		_, err := w.dial(t, "live/cam", passphrase) // to play, and nobody plays here
		var r *srt.Rejection
		require.ErrorAs(t, err, &r)
		if passphrase == "for everybody" {
			require.Contains(t, []srt.Reason{srt.Forbidden, srt.Unauthorized}, r.Reason)
			continue
		}
		require.Equal(t, why, r.Reason, passphrase)
	}
	_, err := w.dial(t, "#!::r=live/cam,m=publish", "for everybody")
	require.NoError(t, err)
}

func TestSRTPlay(t *testing.T) {
	players := &playsBytes{bytes: make([]byte, 7*188*20), asked: make(chan auth.Request, 1)}
	w := newSRTWorld(t, auth.AllowAll, players, SRT{})
	c, err := w.dial(t, "live/cam?token=x", "")
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
	b := make([]byte, 2000)
	for got := 0; got < len(players.bytes); {
		n, err := c.Read(b)
		require.NoError(t, err)
		got += n
	}
	r := <-players.asked
	require.Equal(t, []string{"srt", "live/cam", "x"}, []string{r.Protocol, r.Stream, r.Token})
	n := 0
	for p := range w.SRTConns() {
		n++
		require.False(t, p.Publish)
		require.Equal(t, uint64(20), p.Stats.PktSentUnique)
	}
	require.Equal(t, 1, n)
	require.NoError(t, c.Close())
}

// A publisher who is replaced, kicked or silent loses the connection; Shutdown
// waits for the others.
func TestSRTPublisherEnds(t *testing.T) {
	w := newSRTWorld(t, auth.AllowAll, nil, SRT{}, func(s *Server) {
		s.IdleTimeout, s.FirstPacketTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	c, err := w.dial(t, "#!::r=live/silent,m=publish", "")
	require.NoError(t, err)
	<-c.Done()

	w = newSRTWorld(t, auth.AllowAll, nil, SRT{})
	c, err = w.dial(t, "#!::r=live/kicked,m=publish", "")
	require.NoError(t, err)
	// The session opens when the handshake is over, which the publisher knows first.
	session := func(name string) *stream.Session {
		var found *stream.Session
		require.Eventually(t, func() bool {
			for s := range w.Hub.Sessions() {
				if s.Info().Stream == name {
					found = s
				}
			}
			return found != nil
		}, 30*time.Second, time.Millisecond, name)
		return found
	}
	require.Equal(t, "srt", session("live/kicked").Info().Protocol)
	session("live/kicked").Kick(nil)
	<-c.Done()

	c, err = w.dial(t, "#!::r=live/last,m=publish", "")
	require.NoError(t, err)
	session("live/last")
	done := make(chan error, 1)
	go func() { done <- w.Shutdown(context.Background()) }()
	_, err = c.Write(make([]byte, 1316))
	require.NoError(t, err)
	select {
	case err := <-done:
		t.Fatal("Shutdown did not wait", err)
	case <-time.After(50 * time.Millisecond):
	}
	require.NoError(t, c.Close())
	require.NoError(t, <-done)
}

func TestSRTServeAfterClose(t *testing.T) {
	s := &Server{Hub: &stream.Hub{}}
	require.NoError(t, s.Close())
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.ErrorIs(t, s.ServeSRT(pc, nil), ErrServerClosed)
}
