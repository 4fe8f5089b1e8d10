package udp

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// A Loop reads many Conns and calls their handlers, one at a time. The zero
// value is ready.
type Loop struct {
	// Set before Run.

	// Flush, if set, is called after handlers have run and before what they
	// got is overwritten, and after each Do and Tick.
	Flush func()
	// Tick, if set, is called when Run begins, after Wake, and when the time
	// that it has returned last has come; a zero time is none. It may be late
	// by a millisecond, and more when the machine is busy.
	Tick func(now time.Time) (next time.Time)
	// Rest, if set, is called when something was read, and returns for how long
	// nothing is to be: what comes meanwhile waits in the kernel, and is read
	// together. It trades delay for CPU, for to be woken costs much more than to
	// read a packet. Tick and Wake rest too, and after a rest every socket is
	// looked at, which is for loops that have few. It has an effect where Linux's
	// calls are used.
	Rest func() time.Duration

	turn sync.Mutex // held while callbacks run
	next time.Time  // of Tick; guarded by turn

	mu      sync.Mutex // guards what follows; taken after turn
	state   loopState
	foreign map[*Conn]Handler // Conns that are read by a goroutine each
	readers sync.WaitGroup
	done    chan struct{}
	wake    chan struct{} // has room for one
	sys     sysLoop
}

// maxFailures is how many reads may fail one after the other.
const maxFailures = 100

type loopState uint8

const (
	loopNew loopState = iota
	loopRuns
	loopClosed
)

// init makes what the zero value lacks; mu is held.
func (l *Loop) init() {
	if l.done == nil {
		l.done = make(chan struct{})
		l.wake = make(chan struct{}, 1)
		l.foreign = make(map[*Conn]Handler)
	}
}

// Add lets the loop read c until c is closed and call h. Packets that come
// before Run wait in the kernel. It fails with net.ErrClosed if the loop or c
// is closed.
func (l *Loop) Add(c *Conn, h Handler) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init()
	if l.state == loopClosed {
		return net.ErrClosed
	}
	if c.pc == nil {
		return l.addSys(c, h)
	}
	l.foreign[c] = h
	if l.state == loopRuns {
		l.read(c, h)
	}
	return nil
}

// read reads c in a goroutine of its own; mu is held.
func (l *Loop) read(c *Conn, h Handler) {
	l.readers.Add(1)
	go func() {
		defer l.readers.Done()
		defer l.forget(c)
		ps := make([]Packet, 1)
		buf := make([]byte, maxDatagram)
		n := 0
		handle := func() { h.HandlePackets(ps[:n]) }
		for failures := 0; failures < maxFailures; {
			ps[0].Data = buf
			var err error
			n, err = c.ReadBatch(ps)
			var errno syscall.Errno
			switch {
			case err == nil:
				failures = 0
				l.call(handle)
			case errors.Is(err, net.ErrClosed) || !errors.As(err, &errno):
				return
			default: // the fate of what was sent, on some systems
				failures++
			}
		}
	}()
}

func (l *Loop) forget(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.foreign, c)
}

// call runs f and then Flush while nothing else does.
func (l *Loop) call(f func()) {
	l.turn.Lock()
	defer l.turn.Unlock()
	f()
	l.flush()
}

func (l *Loop) flush() {
	if l.Flush != nil {
		l.Flush()
	}
}

// tick calls Tick if it is time; turn is held. It returns the time of the
// next.
func (l *Loop) tick(now time.Time, must bool) time.Time {
	if l.Tick != nil && (must || !l.next.IsZero() && !now.Before(l.next)) {
		l.next = l.Tick(now)
		l.flush()
	}
	return l.next
}

// Do runs f, and then Flush, while no handler runs, and returns when it has.
// It must not be called from a handler.
func (l *Loop) Do(f func()) { l.call(f) }

// Wake has Tick called soon. It may be called from anywhere.
func (l *Loop) Wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init()
	select {
	case l.wake <- struct{}{}:
		l.wakeSys()
	default: // it is on its way
	}
}

// Run reads until Close and returns net.ErrClosed.
func (l *Loop) Run() error {
	l.mu.Lock()
	l.init()
	if l.state != loopNew {
		closed := l.state == loopClosed
		l.mu.Unlock()
		if closed {
			return net.ErrClosed
		}
		return errors.New("udp: Run of a loop that runs")
	}
	l.state = loopRuns
	for c, h := range l.foreign {
		l.read(c, h)
	}
	select {
	case l.wake <- struct{}{}: // for the first Tick
	default:
	}
	l.mu.Unlock()
	err := l.run()
	l.readers.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeSys()
	return err
}

// run calls Tick. Once the loop has a socket to read, runSys does both.
func (l *Loop) run() error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		must := false
		select {
		case <-l.done:
			return net.ErrClosed
		case <-l.wake:
			must = true
		case <-t.C:
			select {
			case <-l.wake: // both were ready
				must = true
			default:
			}
		}
		if l.hasSys() {
			return l.runSys(must)
		}
		l.turn.Lock()
		next := l.tick(time.Now(), must)
		l.turn.Unlock()
		if !next.IsZero() {
			t.Reset(time.Until(next))
		}
	}
}

// Close ends Run and closes the Conns. It does not wait for handlers.
func (l *Loop) Close() error {
	l.mu.Lock()
	l.init()
	if l.state == loopClosed {
		l.mu.Unlock()
		return nil
	}
	ran := l.state == loopRuns
	l.state = loopClosed
	close(l.done)
	conns := l.connsSys(nil)
	for c := range l.foreign {
		conns = append(conns, c)
	}
	if ran {
		l.wakeSys()
	} else {
		l.closeSys()
	}
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // nobody is left to be told
	}
	return nil
}
