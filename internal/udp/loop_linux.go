package udp

import (
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sysLoop reads sockets that are ready, as epoll says, into one arena.
type sysLoop struct {
	// Guarded by mu.
	open  bool
	file  *os.File // epoll, known to the runtime's poller
	clock *os.File // timer, known to it too
	ep    int      // file's descriptor
	event int      // eventfd that ends a wait
	timer int      // timerfd that does
	slots []*slot
	free  []uint32

	// Owned by run.
	armed  time.Time // what timer is set to; zero: it is not
	fired  bool      // it has fired since
	events []unix.EpollEvent
	ready  []reading
	rx     *receiver
	ps     []Packet
	arena  []byte
	off    int
	round  uint32
}

// A slot holds a socket. The number of a slot and its age go through epoll.
type slot struct {
	c   *Conn // nil: free
	h   Handler
	age uint32

	// Owned by run.
	in   uint8  // messages to read at once
	had  uint8  // messages that came last
	last uint32 // round in which it was read
	full bool   // the last time it had them all
}

// A reading is a socket that has something.
type reading struct {
	c    *Conn
	h    Handler
	slot *slot
	what uint32 // epoll's events
}

const (
	wakeSlot  = ^uint32(0) // stands for the eventfd
	timerSlot = wakeSlot - 1

	// A message is read to a window that takes the largest. The next one
	// begins elsewhere in a page, or all would share a few lines of the
	// processor's cache.
	window  = maxDatagram + 1280
	windows = maxMessages

	// Bytes of a window before its message, for Packet.Front.
	front = 64
)

// addSys is Add for sockets; mu is held.
func (l *Loop) addSys(c *Conn, h Handler) error {
	s := &l.sys
	if !s.open {
		if err := s.init(); err != nil {
			return err
		}
		if l.state == loopRuns { // without sockets until now
			select {
			case l.wake <- struct{}{}:
			default:
			}
		}
	}
	if !c.sys.acquire() {
		return net.ErrClosed
	}
	defer c.sys.release()
	var i uint32
	if n := len(s.free); n > 0 {
		i, s.free = s.free[n-1], s.free[:n-1]
	} else {
		i = uint32(len(s.slots))
		s.slots = append(s.slots, new(slot))
	}
	p := s.slots[i]
	p.c, p.h = c, h
	p.age++
	c.sys.slot = i
	c.sys.loop.Store(l)
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i), Pad: int32(p.age)}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.ep), unix.EPOLL_CTL_ADD, uintptr(c.sys.fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		c.sys.loop.Store(nil)
		s.release(i)
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

func (s *sysLoop) init() error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return os.NewSyscallError("eventfd", err)
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		unix.Close(event)
		return os.NewSyscallError("timerfd_create", err)
	}
	for slot, fd := range map[uint32]int{wakeSlot: event, timerSlot: timer} {
		if err == nil {
			err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(slot)})
		}
	}
	if err == nil { // the runtime's poller takes what does not block
		err = unix.SetNonblock(ep, true)
	}
	if err != nil {
		unix.Close(ep)
		unix.Close(event)
		unix.Close(timer)
		return os.NewSyscallError("epoll_ctl", err)
	}
	s.file, s.clock = os.NewFile(uintptr(ep), "epoll"), os.NewFile(uintptr(timer), "timerfd")
	s.ep, s.event, s.timer, s.open = ep, event, timer, true
	return nil
}

// arm sets the timer, of which a zero time is none. A timer of the runtime's
// would do, but costs four wake-ups instead of one: its poller waits for whole
// milliseconds, and then for what is left of one, and the scheduler's watchdog
// wakes up for it too.
func (s *sysLoop) arm(at time.Time) {
	if at.Equal(s.armed) && !s.fired {
		return
	}
	s.armed, s.fired = at, false // to set it takes back that it has fired
	var spec unix.ItimerSpec
	if !at.IsZero() {
		spec.Value = unix.NsecToTimespec(int64(max(1, time.Until(at))))
	}
	_ = unix.TimerfdSettime(s.timer, 0, &spec, nil) // no value of it is wrong
}

// release frees a slot; mu is held.
func (s *sysLoop) release(i uint32) {
	s.slots[i].c, s.slots[i].h = nil, nil
	s.free = append(s.free, i)
}

// remove forgets c, which is about to be closed.
func (l *Loop) remove(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.sys
	if i := c.sys.slot; s.open && int(i) < len(s.slots) && s.slots[i].c == c {
		_ = unix.EpollCtl(s.ep, unix.EPOLL_CTL_DEL, c.sys.fd, nil)
		s.release(i)
	}
}

func (l *Loop) hasSys() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sys.open
}

// connsSys appends the sockets; mu is held.
func (l *Loop) connsSys(cs []*Conn) []*Conn {
	for _, p := range l.sys.slots {
		if p.c != nil {
			cs = append(cs, p.c)
		}
	}
	return cs
}

// wakeSys ends a wait; mu is held.
func (l *Loop) wakeSys() {
	if l.sys.open {
		one := [8]byte{7: 1, 0: 1} // not zero in either byte order
		// It fails when the counter is full: then the loop is awake.
		_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(l.sys.event), uintptr(unsafe.Pointer(&one)), uintptr(len(one)))
	}
}

// closeSys closes what the loop reads sockets with; mu is held.
func (l *Loop) closeSys() {
	if s := &l.sys; s.open {
		s.open = false
		unix.Close(s.event)
		s.clock.Close()
		s.file.Close()
	}
}

// runSys reads the sockets until Close.
func (l *Loop) runSys(must bool) error {
	s := &l.sys
	s.events = make([]unix.EpollEvent, 64)
	s.ready = make([]reading, 0, len(s.events))
	s.rx = newReceiver(windows)
	s.ps = make([]Packet, windows)
	s.arena = make([]byte, windows*window)
	poll, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	clock, err := s.clock.SyscallConn()
	if err != nil {
		return err
	}
	n := 0
	look := func(fd uintptr) bool {
		n = epollNow(fd, s.events)
		return n > 0
	}
	rested := func(uintptr) bool { return !time.Now().Before(s.armed) }
	quiet := false // it rests: epoll says nothing of the sockets
	more := false  // a socket had as much as it was asked for, and is to be asked again
	for {
		n = 0
		switch {
		case must || more:
		case quiet:
			err, s.fired = clock.Read(rested), true
		default:
			// The goroutine waits in the runtime's poller for epoll to have
			// something. To wait in epoll_wait itself costs twice as much: the
			// scheduler watches threads that are in a system call.
			err = poll.Read(look)
		}
		if err != nil {
			return err
		}
		l.collect(s.events[:n], quiet)
		select {
		case <-l.done:
			return net.ErrClosed
		case <-l.wake:
			must = true
			select {
			case <-l.done: // select has no order, and what ended the wait is used up
				return net.ErrClosed
			default:
			}
		default:
		}
		l.turn.Lock()
		read, full := more, false
		for i := range s.ready {
			r := &s.ready[i]
			read = l.readReady(r) || read
			full = full || r.slot.full
		}
		if len(s.ready) > 0 {
			l.flush()
			s.off = 0
			clear(s.ready)
		}
		var next time.Time
		if l.Tick != nil && (must || !l.next.IsZero()) {
			next = l.tick(time.Now(), must)
		}
		rest := time.Duration(0)
		if l.Rest != nil && read && !full {
			rest = l.Rest()
		}
		l.turn.Unlock()
		must = false
		if more = full && quiet; !more && quiet != (rest > 0) {
			quiet = rest > 0
			l.listen(quiet)
		}
		if quiet && !more {
			next = time.Now().Add(rest)
		}
		s.arm(next)
	}
}

// listen says whether the sockets are to be waited for. As long as they are
// not, packets wake up nobody.
func (l *Loop) listen(quiet bool) {
	events := uint32(unix.EPOLLIN)
	if quiet {
		events = 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, p := range l.sys.slots {
		if p.c != nil && p.c.sys.acquire() {
			_ = unix.EpollCtl(l.sys.ep, unix.EPOLL_CTL_MOD, p.c.sys.fd, &unix.EpollEvent{Events: events, Fd: int32(i), Pad: int32(p.age)}) // as when it was added
			p.c.sys.release()
		}
	}
}

// epollNow fills in events without waiting and returns how many there are.
func epollNow(ep uintptr, events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, ep, uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 { // EINTR; others would be mistakes of this file
		return 0
	}
	return int(n)
}

// collect makes s.ready of events, or of all sockets.
func (l *Loop) collect(events []unix.EpollEvent, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.sys
	s.round++
	s.ready = s.ready[:0]
	for _, e := range events {
		i := uint32(e.Fd)
		switch i {
		case wakeSlot:
			// Raw, as all calls here that do not wait: the scheduler's watchdog
			// sleeps as long as nobody tells it of a call.
			var b [8]byte
			_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(s.event), uintptr(unsafe.Pointer(&b)), uintptr(len(b)))
			continue
		case timerSlot:
			s.fired = true
			continue
		}
		if p := s.slots[i]; p.c != nil && p.age == uint32(e.Pad) {
			s.ready = append(s.ready, reading{p.c, p.h, p, e.Events})
		}
	}
	if all {
		for _, p := range s.slots {
			if p.c != nil {
				s.ready = append(s.ready, reading{p.c, p.h, p, unix.EPOLLIN})
			}
		}
	}
}

// readReady reads a socket once and calls its handler; turn is held. It reports
// whether there was something.
func (l *Loop) readReady(r *reading) bool {
	s := &l.sys
	c := &r.c.sys
	if !c.acquire() {
		return false // a handler of this round has closed it
	}
	defer c.release()
	if r.what&unix.EPOLLERR != 0 {
		h, _ := r.h.(icmpHandler)
		c.drainErrors(h)
		if r.what&unix.EPOLLIN == 0 {
			return false
		}
	}
	in := r.slot.reads(s.round)
	if l.Rest != nil {
		in = r.slot.readsRested()
	}
	r.slot.full = false
	if len(s.arena)-s.off < in*window {
		l.flush()
		s.off = 0
	}
	for i := range in {
		at := s.off + i*window + front
		s.rx.buffer(i, s.arena[at:at+maxDatagram])
	}
	n, errno := s.rx.receive(c.fd, in)
	if errno != 0 {
		return false // EAGAIN, or the fate of what was sent: the kernel tells again what is there
	}
	r.slot.got(n)
	k := 0
	for i := range n {
		at := s.off + i*window + front
		if p, ok := s.rx.packet(i, s.arena[at:at+maxDatagram]); ok {
			p.front = s.arena[at-front : at : at+len(p.Data)]
			s.ps[k] = p
			k++
		}
	}
	// The last window is not used up: the next socket's begins behind it.
	s.off += (n-1)*window + front + (int(s.rx.msgs[n-1].len)+63)&^63
	if k > 0 {
		r.h.HandlePackets(s.ps[:k])
	}
	return true
}

// reads returns how many messages to ask a socket for. To ask for one that is
// not there costs something, but less than to come again. So a socket that has
// more is asked for more: one that had all that it was asked for, and is back
// in the next round.
func (p *slot) reads(round uint32) int {
	switch {
	case p.in == 0:
		p.in = 1
	case p.last+1 == round && p.in < windows && p.full:
		p.in *= 2
	}
	p.last = round
	return int(p.in)
}

// readsRested is reads where sockets are left alone for a while: as much waits
// as the last time, and what does not come at once comes late.
func (p *slot) readsRested() int {
	p.in = uint8(min(windows, max(4, 2*int(p.had))))
	return int(p.in)
}

// got notes how many messages came.
func (p *slot) got(n int) {
	p.had, p.full = uint8(n), n == int(p.in)
	if n <= int(p.in)/2 {
		p.in /= 2
	}
}
