package deliver

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// pushes is a player as the SRT engine has them.
type pushes struct {
	net.Conn // nil: not to be used

	mu       sync.Mutex
	got      []byte
	accepted bool
	gone     []func(error)
}

func (p *pushes) Accept() []byte {
	p.accepted = true
	return nil
}

func (p *pushes) Push(bufs *[3][]byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range bufs {
		p.got = append(p.got, b...)
		n += len(b)
	}
	return n, nil
}

func (p *pushes) OnEnd(f func(error))                { p.gone = append(p.gone, f) }
func (*pushes) ReadControl() (stream.Control, error) { return stream.Control{}, io.EOF }
func (*pushes) SetReadDeadline(time.Time) error      { return nil }
func (*pushes) SetWriteDeadline(time.Time) error     { return nil }
func (*pushes) Write([]byte) (int, error)            { panic("not to be called") }

func (p *pushes) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.got)
}

// A player over SRT gets whole packets of a transport stream, needs no
// goroutine, and leaves when its peer does.
func TestSRTPlayersArePushed(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	s := &Server{Hub: hub, Auth: auth.AllowAll, Wait: 10 * time.Second}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = (&streamtest.Source{}).Run(ctx, hub, "live/a") }()
	p := &pushes{}
	ended := make(chan error, 1)
	require.NoError(t, s.StartPlay(t.Context(), p, &auth.Request{Protocol: "srt", Stream: "live/a"}, func(err error) { ended <- err }))
	require.True(t, p.accepted)
	require.Eventually(t, func() bool { return p.size() > 20*mpegts.PacketSize }, 20*time.Second, 5*time.Millisecond)
	p.mu.Lock()
	require.Zero(t, len(p.got)%mpegts.PacketSize)
	for at := 0; at < len(p.got); at += mpegts.PacketSize {
		require.Equal(t, byte(0x47), p.got[at])
	}
	p.mu.Unlock()
	require.Len(t, p.gone, 1)
	go p.gone[0](net.ErrClosed)
	require.NoError(t, <-ended)
	n := 0
	for session := range hub.Sessions() {
		if session.Info().Role == stream.RolePlay {
			n++
		}
	}
	require.Zero(t, n)
}
