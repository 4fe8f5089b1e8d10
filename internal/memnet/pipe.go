package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// errShutdown is what a write returns after CloseWrite or the peer's Close.
const errShutdown = syscall.EPIPE

// segment is the most that one step of the bandwidth limit carries.
const segment = 1460

// pipe is one direction of a connection: a ring buffer with a reading and a
// writing end. Bytes are taken into the ring when they are written and become
// readable when they have arrived.
type pipe struct {
	max       int
	latency   time.Duration
	bandwidth int

	mu      sync.Mutex
	changed sync.Cond // any field below changed
	ring    []byte    // grows up to max
	start   int       // of the oldest byte in ring
	size    int       // bytes in ring
	arrived int       // of them, those that can be read
	busy    time.Time // the link carries earlier bytes until then
	eof     bool      // the writer's end has arrived
	writing bool      // a write is under way: writes do not mix

	readClosed bool  // by the reader
	writeErr   error // of a closed writing end

	readDeadline, writeDeadline deadline
}

func newPipe(max int, latency time.Duration, bandwidth int) *pipe {
	p := &pipe{max: max, latency: latency, bandwidth: bandwidth}
	p.changed.L = &p.mu
	return p
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.readClosed:
			return 0, net.ErrClosed
		case p.readDeadline.passed:
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case p.arrived > 0:
			n := p.take(b[:min(len(b), p.arrived)])
			p.changed.Broadcast()
			return n, nil
		case p.eof && p.size == 0:
			return 0, io.EOF
		}
		p.changed.Wait()
	}
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.writing && p.writable() == nil {
		p.changed.Wait()
	}
	if err := p.writable(); err != nil {
		return 0, err
	}
	p.writing = true
	defer func() {
		p.writing = false
		p.changed.Broadcast()
	}()
	for n < len(b) {
		if err := p.writable(); err != nil {
			return n, err
		}
		room := min(p.max-p.size, len(b)-n)
		if room == 0 {
			p.changed.Wait()
			continue
		}
		if p.bandwidth > 0 {
			room = min(room, segment)
		}
		p.put(b[n : n+room])
		p.send(room)
		n += room
	}
	return n, nil
}

// writable returns the error that a write meets now.
func (p *pipe) writable() error {
	switch {
	case p.writeErr != nil:
		return p.writeErr
	case p.readClosed:
		return errShutdown
	case p.writeDeadline.passed:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// send makes n bytes readable when the link has carried them.
func (p *pipe) send(n int) {
	if p.latency == 0 && p.bandwidth == 0 { // without the allocation of a closure
		p.arrived += n
		p.changed.Broadcast()
		return
	}
	p.after(n, func() { p.arrived = min(p.arrived+n, p.size) })
}

// after runs f, with p.mu held, when n more bytes have crossed the link.
func (p *pipe) after(n int, f func()) {
	if p.latency == 0 && p.bandwidth == 0 {
		f()
		p.changed.Broadcast()
		return
	}
	now := time.Now()
	if p.busy.Before(now) {
		p.busy = now
	}
	if p.bandwidth > 0 {
		p.busy = p.busy.Add(time.Duration(n) * time.Second / time.Duration(p.bandwidth))
	}
	time.AfterFunc(p.busy.Sub(now)+p.latency, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		f()
		p.changed.Broadcast()
	})
}

// put appends b, for which there is room below max, to the ring.
func (p *pipe) put(b []byte) {
	if need := p.size + len(b); need > len(p.ring) {
		ring := make([]byte, min(p.max, max(need, 2*len(p.ring), 512)))
		n := copy(ring, p.ring[p.start:min(p.start+p.size, len(p.ring))])
		copy(ring[n:], p.ring[:p.size-n])
		p.ring, p.start = ring, 0
	}
	end := (p.start + p.size) % len(p.ring)
	n := copy(p.ring[end:], b)
	copy(p.ring, b[n:])
	p.size += len(b)
}

// take moves the oldest len(b) bytes, which have arrived, to b.
func (p *pipe) take(b []byte) int {
	n := copy(b, p.ring[p.start:])
	copy(b[n:], p.ring)
	p.start = (p.start + len(b)) % len(p.ring)
	p.size -= len(b)
	p.arrived -= len(b)
	return len(b)
}

// closeRead drops what nobody will read and fails the writer.
func (p *pipe) closeRead() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readClosed = true
	p.ring, p.start, p.size, p.arrived = nil, 0, 0, 0
	p.readDeadline.stop()
	p.changed.Broadcast()
}

// closeWrite makes writes fail with err, and the reader meet the end of the
// stream after what was written.
func (p *pipe) closeWrite(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writeErr == net.ErrClosed {
		return net.ErrClosed
	}
	ended := p.writeErr != nil
	p.writeErr = err
	p.writeDeadline.stop()
	if !ended {
		p.after(0, func() { p.eof = true })
	}
	p.changed.Broadcast()
	return nil
}

func (p *pipe) setReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readClosed {
		return net.ErrClosed
	}
	p.readDeadline.set(p, t)
	return nil
}

func (p *pipe) setWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writeErr == net.ErrClosed {
		return net.ErrClosed
	}
	p.writeDeadline.set(p, t)
	return nil
}

// deadline is guarded by the mutex of its pipe.
type deadline struct {
	passed bool
	timer  *time.Timer
}

// set replaces the deadline by t; the zero time is none.
func (d *deadline) set(p *pipe, t time.Time) {
	d.stop()
	d.passed = false
	wait := time.Until(t)
	switch {
	case t.IsZero():
	case wait <= 0:
		d.passed = true
	default:
		var timer *time.Timer
		timer = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if d.timer == timer { // not replaced while this one was about to run
				d.passed = true
				p.changed.Broadcast()
			}
		})
		d.timer = timer
	}
	p.changed.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
