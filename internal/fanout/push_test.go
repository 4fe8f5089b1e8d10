package fanout

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pusher takes so much at a time, and keeps what it took.
type pusher struct {
	mu    sync.Mutex
	room  int
	got   []byte
	gone  bool
	calls int
}

func (p *pusher) Push(bufs *[3][]byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.gone {
		return 0, net.ErrClosed
	}
	for _, b := range bufs {
		k := min(len(b), p.room-n)
		p.got = append(p.got, b[:k]...)
		n += k
	}
	return n, nil
}

func (p *pusher) Write([]byte) (int, error)        { return 0, errors.New("not to be called") }
func (p *pusher) SetWriteDeadline(time.Time) error { return nil }

func (p *pusher) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.got)
}

// A Pusher gets every byte, also where it has little room, and needs no
// goroutine.
func TestPusher(t *testing.T) {
	l := &Log{}
	ended := make(chan error, 2)
	wide, narrow := &pusher{room: 1 << 20}, &pusher{room: 1000}
	require.False(t, CanHear(wide))
	for _, p := range []*pusher{wide, narrow} {
		l.Attach(p, Options{First: []byte("first"), OnEnd: func(err error) { ended <- err }})
	}
	want := []byte("first")
	for i := range 20 {
		frame := bytes.Repeat([]byte{byte(i)}, 700)
		if i == 0 {
			l.Mark(Point{})
		}
		l.Append(time.Now(), len(frame), func(dst []byte) []byte { return append(dst, frame...) })
		l.Flush()
		want = append(want, frame...)
	}
	require.Eventually(t, func() bool { return wide.size() == len(want) && narrow.size() == len(want) }, 30*time.Second, time.Millisecond)
	require.True(t, bytes.Equal(want, wide.got))
	require.True(t, bytes.Equal(want, narrow.got))

	narrow.mu.Lock()
	narrow.gone = true
	narrow.mu.Unlock()
	l.Append(time.Now(), 1, func(dst []byte) []byte { return append(dst, 1) })
	l.Flush()
	require.ErrorIs(t, <-ended, net.ErrClosed)
	l.End(nil)
	require.NoError(t, <-ended)
	require.Zero(t, l.Players())
}
