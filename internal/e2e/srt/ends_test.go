package srt

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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

// A sender sends packets, at a rate, to where it is connected.
type sender interface {
	send(t *testing.T, b []byte, interval time.Duration)
}

// A receiver returns what it has got once it has n bytes, or nothing comes any
// more.
type receiver interface {
	received(t *testing.T, n int) []byte
	size() int
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
	q := "&latency=" + itoa(int(o.latency.Milliseconds()))
	if o.passphrase != "" {
		q += "&passphrase=" + o.passphrase + "&pbkeylen=16"
	}
	if o.filter != "" {
		q += "&packetfilter=" + o.filter
	}
	if o.refresh != 0 {
		q += "&kmrefreshrate=" + itoa(int(o.refresh)) + "&kmpreannounce=" + itoa(int(o.refresh/3))
	}
	return q
}

func itoa(n int) string { return string(appendInt(nil, n)) }

func appendInt(b []byte, n int) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

func (o options) endpoint() *srt.Endpoint {
	return &srt.Endpoint{Latency: o.latency, Filter: o.filter, KeyRefresh: o.refresh}
}

// ours is one end of ours.
type ours struct {
	conn *srt.Conn
	mu   sync.Mutex
	got  []byte
}

func (e *ours) sink(due [][]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range due {
		e.got = append(e.got, p...)
	}
}

func (e *ours) size() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.got)
}

func (e *ours) send(t *testing.T, b []byte, interval time.Duration) {
	pace(b, interval, func(p []byte) {
		_, err := e.conn.Write(p)
		require.NoError(t, err)
	})
}

func (e *ours) received(t *testing.T, n int) []byte {
	settle(e.size, n+1<<20)
	e.mu.Lock()
	defer e.mu.Unlock()
	return counted(bytes.Clone(e.got))
}

// pace calls send with one packet after the other at a rate.
func pace(b []byte, interval time.Duration, send func([]byte)) {
	began := time.Now()
	for i := 0; len(b) > 0; i++ {
		if d := time.Until(began.Add(time.Duration(i) * interval)); d > 0 {
			time.Sleep(d)
		}
		k := min(packet, len(b))
		send(b[:k])
		b = b[k:]
	}
}

// settle waits until there are n bytes, or a second brings none.
func settle(size func() int, n int) {
	last, at := size(), time.Now()
	for last < n && time.Since(at) < time.Second {
		time.Sleep(20 * time.Millisecond)
		if k := size(); k != last {
			last, at = k, time.Now()
		}
	}
}

// ourListener listens; the connection is there when a caller has come.
func ourListener(t *testing.T, o options) (e *ours, addr string, ready chan struct{}) {
	e, ready = &ours{}, make(chan struct{})
	end := o.endpoint()
	end.Handler = func(c *srt.Call) {
		if o.passphrase != "" {
			c.Secret(o.passphrase)
		}
		if conn, err := c.Accept(e.sink); err == nil {
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
	peer.Eventually(t, 20*time.Second, "a connection", func() bool {
		conn, err := srt.Dial(context.Background(), addr, o.endpoint(), srt.DialOptions{StreamID: "live/a", Passphrase: o.passphrase, Sink: e.sink})
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
	cmd  *exec.Cmd
	in   io.WriteCloser
	file string
}

// transmitter starts srt-live-transmit between a pipe and an SRT address.
func transmitter(t *testing.T, url string, sends bool) *theirs {
	e := &theirs{file: filepath.Join(t.TempDir(), "out")}
	args := []string{"-a", "no", "-q", "-loglevel", "error", "-chunk", "1316"}
	if sends {
		args = append(args, "file://con", url)
	} else {
		args = append(args, url, "file://con")
	}
	cmd := exec.Command(peer.Need(t, "srt-live-transmit"), args...)
	cmd.Stderr = t.Output()
	out, err := os.Create(e.file)
	require.NoError(t, err)
	cmd.Stdout = out
	e.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	e.cmd = cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		out.Close()
	})
	return e
}

func (e *theirs) send(t *testing.T, b []byte, interval time.Duration) {
	pace(b, interval, func(p []byte) {
		_, err := e.in.Write(p)
		require.NoError(t, err)
	})
}

func (e *theirs) size() int {
	info, err := os.Stat(e.file)
	if err != nil {
		return 0
	}
	return int(info.Size())
}

func (e *theirs) received(t *testing.T, n int) []byte {
	settle(e.size, n+1<<20) // it writes blocks, and the rest in the end
	require.NoError(t, e.cmd.Process.Signal(os.Interrupt))
	_ = e.cmd.Wait()
	b, err := os.ReadFile(e.file)
	require.NoError(t, err)
	return counted(b)
}

// An end is one of a transfer: who it is, and what it does.
type end struct {
	libsrt, listens bool
}

// connect connects two ends through a network.
func connect(t *testing.T, from, to end, n network, dataOnly bool, o options) (sender, receiver, func() time.Duration) {
	t.Helper()
	listener, caller := from, to
	if to.listens {
		listener, caller = to, from
	}
	var a, b any // listener, caller
	var addr string
	ready := make(chan struct{})
	if listener.libsrt {
		addr = freeUDP(t)
		a = transmitter(t, "srt://"+addr+"?mode=listener"+o.query(), listener == from)
		close(ready)
	} else {
		a, addr, ready = ourListener(t, o)
	}
	addr, late := proxy(t, addr, n, dataOnly)
	if caller.libsrt {
		b = transmitter(t, "srt://"+addr+"?streamid=live/a"+o.query(), caller == from)
	} else {
		b = ourCaller(t, addr, o)
	}
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody called")
	}
	tx, rx := b, a
	if listener == from {
		tx, rx = a, b
	}
	warm(t, tx.(sender), rx.(receiver))
	return tx.(sender), rx.(receiver), late
}

// warm sends packets that do not count until some have come: srt-live-transmit
// throws away what it reads before it knows that it is connected.
func warm(t *testing.T, tx sender, rx receiver) {
	p := bytes.Repeat([]byte{0xff}, packet)
	peer.Eventually(t, 20*time.Second, "a first packet", func() bool {
		tx.send(t, p, 0)
		return rx.size() > 0
	})
}

// trail sends packets that do not count for a while: a sender that has nothing
// more to send does not learn that its last packets were lost.
func trail(t *testing.T, tx sender) {
	tx.send(t, bytes.Repeat([]byte{0xff}, 100*packet), 5*time.Millisecond)
}

// counted returns got without what warm and trail have sent.
func counted(got []byte) []byte {
	n := 0
	for p := got; len(p) >= packet; p = p[packet:] {
		if p[0] != 0xff {
			n += copy(got[n:], p[:packet])
		}
	}
	return got[:n]
}

// freeUDP returns a loopback address for a listener of another program.
func freeUDP(t *testing.T) string {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer pc.Close()
	return pc.LocalAddr().String()
}
