package cluster

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// A link is what connections to a server go through that is far away.
type link struct {
	to    string        // the server's address
	delay time.Duration // each way

	wait sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]bool
}

// far returns the address by which a server is that far away, until the test
// ends.
func far(t *testing.T, to string, delay time.Duration) string {
	t.Helper()
	l := &link{to: to, delay: delay, open: make(map[net.Conn]bool)}
	listener := peer.Listen(t)
	l.wait.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			l.wait.Go(func() { l.carry(c) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		l.mu.Lock()
		l.closed = true
		for c := range l.open {
			c.Close()
		}
		l.mu.Unlock()
		l.wait.Wait()
	})
	return listener.Addr().String()
}

// own has a connection closed with the link, and reports false if that was.
func (l *link) own(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close()
		return false
	}
	l.open[c] = true
	return true
}

func (l *link) disown(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

func (l *link) carry(near net.Conn) {
	if !l.own(near) {
		return
	}
	defer l.disown(near)
	time.Sleep(2 * l.delay) // a connection takes a round trip
	there, err := net.Dial("tcp", l.to)
	if err != nil || !l.own(there) {
		return
	}
	defer l.disown(there)
	var both sync.WaitGroup
	both.Go(func() { l.copy(there, near) })
	both.Go(func() { l.copy(near, there) })
	both.Wait()
}

// copy passes on what is read when its time has come, and the end of it.
func (l *link) copy(to, from net.Conn) {
	type packet struct {
		due   time.Time
		bytes []byte
	}
	way := make(chan packet, 4096) // more than comes in that time
	go func() {
		defer close(way)
		for {
			b := make([]byte, 16<<10)
			n, err := from.Read(b)
			way <- packet{time.Now().Add(l.delay), b[:n]}
			if err != nil {
				return
			}
		}
	}()
	defer to.Close()
	for p := range way {
		time.Sleep(time.Until(p.due))
		// What cannot be written is read all the same, to its end.
		_, _ = to.Write(p.bytes)
	}
}

// TestFarEdge: an edge with 200 ms to its origin and as many back, whose process
// is killed and returns. Viewers at the edge stay and go on.
func TestFarEdge(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffmpeg")
	run := func(args ...string) *server {
		s := &server{t: t, rtmp: freeAddr(t), http: freeAddr(t)}
		s.args = append([]string{"-rtmp", s.rtmp, "-http", s.http, "-srt", "", "-webrtc", "", "-publish-token", "secret", "-demo=false"}, args...)
		s.start()
		return s
	}
	origin := run()
	const delay = 200 * time.Millisecond
	edge := run("-origin", "runnel://"+far(t, origin.http, delay))
	origin.up()
	edge.up()
	publisher := publish(t, origin, "cam")
	asked := time.Now()
	viewers := []*viewer{watch(t, edge, "cam"), watch(t, edge, "cam")}
	viewers[0].expect(t, 1)
	t.Logf("a viewer at the edge had frames %v after it asked", time.Since(asked).Round(time.Millisecond))
	hls := watchHLS(t, edge, "cam")
	for _, v := range viewers {
		v.longest()
		v.expect(t, 50)
		t.Logf("longest time without a frame: %v", v.longest().Round(time.Millisecond))
	}

	origin.process.Kill()
	publisher.stop()
	for _, v := range viewers {
		v.quiet(t)
	}
	origin.start()
	origin.up()
	returned := time.Now()
	publish(t, origin, "cam")
	t.Logf("the publisher was back %v after its origin answered again", time.Since(returned).Round(time.Millisecond))
	for _, v := range viewers {
		v.expect(t, 1)
		t.Logf("a viewer had frames again %v after the origin answered", time.Since(returned).Round(time.Millisecond))
	}
	for _, v := range viewers {
		v.expect(t, 20)
	}
	hls.expect(t)
	require.Empty(t, hls.errors(), "of the playlist")
}
