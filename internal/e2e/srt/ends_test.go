package srt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/internal/srt"
)

const packet = 1316

// payload makes packets that tell their number.
func payload(packets int) []byte {
	b := make([]byte, packets*packet)
	for i := range packets {
		p := b[i*packet:]
		binary.BigEndian.PutUint64(p, uint64(i)<<16|0x4711)
		for k := 8; k < packet; k++ {
			p[k] = byte(k*7 + i*13)
		}
	}
	return b
}

// A sender sends packets, at a rate, to where it is connected, and returns when
// it has sent each.
type sender interface {
	send(t *testing.T, b []byte, interval time.Duration) []time.Time
}

// A receiver keeps what comes.
type receiver interface {
	arrived() *arrivals
}

// First bytes of packets that do not count: those that go ahead until some come,
// and those that go after. Where one of the latter came the fate of all before it
// is decided, for packets are handed out in their order.
const (
	ahead = 0xff
	after = 0xfe
)

// arrivals is what has come, of which it keeps the packets that count.
type arrivals struct {
	mu    sync.Mutex
	rest  []byte // of a packet
	b     []byte
	begun bool // something has come
	done  bool // one of the packets that go after
}

func (a *arrivals) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(b)
	for len(b) > 0 {
		k := min(packet-len(a.rest), len(b))
		a.rest = append(a.rest, b[:k]...)
		if b = b[k:]; len(a.rest) < packet {
			break
		}
		a.begun = true
		switch a.rest[0] {
		case ahead:
		case after:
			a.done = true
		default:
			a.b = append(a.b, a.rest...)
		}
		a.rest = a.rest[:0]
	}
	return n, nil
}

func (a *arrivals) sink(due [][]byte) {
	for _, p := range due {
		_, _ = a.Write(p)
	}
}

func (a *arrivals) started() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.begun
}

func (a *arrivals) ended() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done
}

func (a *arrivals) bytes() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Clone(a.b)
}

// transfer sends b and returns what has come of it, and when each packet was
// sent.
func transfer(t *testing.T, tx sender, rx receiver, b []byte, interval time.Duration) (got []byte, sent []time.Time) {
	t.Helper()
	pad := func(first byte, until func() bool) {
		p := bytes.Repeat([]byte{first}, packet)
		peer.Eventually(t, time.Minute, "a packet", func() bool {
			tx.send(t, p, 0)
			return until()
		})
	}
	// srt-live-transmit throws away what it reads before it knows that it is
	// connected.
	pad(ahead, rx.arrived().started)
	sent = tx.send(t, b, interval)
	// Who has nothing more to send does not learn that its last packets were lost.
	pad(after, rx.arrived().ended)
	return rx.arrived().bytes(), sent
}

// options are those of both ends.
type options struct {
	latency    time.Duration
	passphrase string
	filter     string
	refresh    uint64
}

// query is what srt-live-transmit is told.
func (o options) query() string {
	q := fmt.Sprintf("&conntimeo=60000&peeridletimeo=60000&latency=%d", o.latency.Milliseconds())
	if o.passphrase != "" {
		q += "&passphrase=" + o.passphrase + "&pbkeylen=16"
	}
	if o.filter != "" {
		q += "&packetfilter=" + o.filter
	}
	if o.refresh != 0 {
		q += fmt.Sprintf("&kmrefreshrate=%d&kmpreannounce=%d", o.refresh, o.refresh/3)
	}
	return q
}

func (o options) endpoint() *srt.Endpoint {
	return &srt.Endpoint{Latency: o.latency, PeerIdle: time.Minute, Filter: o.filter, KeyRefresh: o.refresh}
}

// ours is one end of ours.
type ours struct {
	conn *srt.Conn
	got  arrivals
}

func (e *ours) arrived() *arrivals { return &e.got }

func (e *ours) send(t *testing.T, b []byte, interval time.Duration) []time.Time {
	return pace(b, interval, func(p []byte) {
		_, err := e.conn.Write(p)
		require.NoError(t, err)
	})
}

// pace calls send with one packet after the other, at a rate at most.
func pace(b []byte, interval time.Duration, send func([]byte)) (sent []time.Time) {
	next := time.Now()
	for len(b) > 0 {
		if d := time.Until(next); d > 0 {
			time.Sleep(d)
		} else if d < -longSilence {
			next = time.Now() // all at once would be another test
		}
		next = next.Add(interval)
		k := min(packet, len(b))
		send(b[:k])
		sent = append(sent, time.Now())
		b = b[k:]
	}
	return sent
}

// ourListener listens; the connection is there when a caller has come.
func ourListener(t *testing.T, o options) (e *ours, addr string, ready chan struct{}) {
	e, ready = &ours{}, make(chan struct{})
	end := o.endpoint()
	end.Handler = func(c *srt.Call) {
		if o.passphrase != "" {
			c.Secret(o.passphrase)
		}
		if conn, err := c.Accept(e.got.sink); err == nil {
			e.conn = conn
			close(ready)
		}
	}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = end.Serve(pc)
	}()
	t.Cleanup(func() {
		end.Close()
		<-served
	})
	return e, pc.LocalAddr().String(), ready
}

// ourCaller calls.
func ourCaller(t *testing.T, addr string, o options) *ours {
	e := &ours{}
	peer.Eventually(t, time.Minute, "a connection", func() bool {
		conn, err := srt.Dial(context.Background(), addr, o.endpoint(), srt.DialOptions{StreamID: "live/a", Passphrase: o.passphrase, Sink: e.got.sink})
		e.conn = conn
		return err == nil
	})
	t.Cleanup(func() {
		e.conn.Abort()
		<-e.conn.Done()
	})
	return e
}

// theirs is srt-live-transmit.
type theirs struct {
	in  io.WriteCloser
	got arrivals
}

func (e *theirs) arrived() *arrivals { return &e.got }

// transmitter starts srt-live-transmit between a pipe and an SRT address.
func transmitter(t *testing.T, url string, sends bool) *theirs {
	e := &theirs{}
	args := []string{"-a", "no", "-q", "-loglevel", "error", "-chunk", "1316"}
	if sends {
		args = append(args, "file://con", url)
	} else {
		args = append(args, url, "file://con")
	}
	cmd := exec.Command(peer.Need(t, "srt-live-transmit"), args...)
	cmd.Stdout, cmd.Stderr = &e.got, t.Output()
	var err error
	e.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); t.Failed() {
			t.Logf("srt-live-transmit ended with: %v", err)
		}
	})
	return e
}

func (e *theirs) send(t *testing.T, b []byte, interval time.Duration) []time.Time {
	return pace(b, interval, func(p []byte) {
		_, err := e.in.Write(p)
		require.NoError(t, err)
	})
}

// An end is one of a transfer: who it is, and what it does.
type end struct {
	libsrt, listens bool
}

// connect connects two ends through a network.
func (w *wires) connect(t *testing.T, from, to end, n network, dataOnly bool, o options) (sender, receiver, *stalls) {
	t.Helper()
	listener, caller := from, to
	if to.listens {
		listener, caller = to, from
	}
	var a, b any // listener, caller
	var addr string
	ready := make(chan struct{})
	if listener.libsrt {
		addr = peer.FreeAddr(t)
		a = transmitter(t, "srt://"+addr+"?mode=listener"+o.query(), listener == from)
		close(ready)
	} else {
		a, addr, ready = ourListener(t, o)
	}
	addr, s := w.proxy(t, addr, n, dataOnly)
	if caller.libsrt {
		b = transmitter(t, "srt://"+addr+"?streamid=live/a"+o.query(), caller == from)
	} else {
		b = ourCaller(t, addr, o)
	}
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("nobody called")
	}
	tx, rx := b, a
	if listener == from {
		tx, rx = a, b
	}
	return tx.(sender), rx.(receiver), s
}
