package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A drain reads and throws away what players receive, in one thread and
// without a copy. It looks at all sockets every so often, or waits for them
// with epoll. Where it waits, the server pays for it: each of its sends then
// finds somebody to wake up, which on a network is not its business.
type drain struct {
	every time.Duration // 0: wait
	epoll int
	done  chan struct{}

	mu    sync.Mutex
	conns map[int32]*drained
	stop  bool
}

type drained struct {
	*player
	fd   int32
	file *os.File
	rtmp bool
	ackd int64 // bytes acknowledged
}

func newDrain(every time.Duration) (*drain, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("bench: epoll: %w", err)
	}
	d := &drain{every: every, epoll: fd, done: make(chan struct{}), conns: make(map[int32]*drained)}
	go d.run()
	return d, nil
}

// add has the drain read f from now on. It owns f.
func (d *drain) add(p *player, f *os.File, rtmp bool) error {
	fd := int32(f.Fd())
	d.mu.Lock()
	d.conns[fd] = &drained{player: p, fd: fd, file: f, rtmp: rtmp}
	d.mu.Unlock()
	if d.every > 0 {
		return nil
	}
	if err := unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: fd}); err != nil {
		return fmt.Errorf("bench: epoll: %w", err)
	}
	return nil
}

func (d *drain) close() {
	d.mu.Lock()
	d.stop = true
	d.mu.Unlock()
	<-d.done
}

func (d *drain) run() {
	runtime.LockOSThread()
	defer close(d.done)
	defer unix.Close(d.epoll)
	events := make([]unix.EpollEvent, 256)
	var batch []*drained
	for {
		n := 0
		if d.every > 0 {
			ts := unix.NsecToTimespec(int64(d.every))
			_ = unix.Nanosleep(&ts, nil) // a signal may cut it short
		} else {
			var err error
			if n, err = unix.EpollWait(d.epoll, events, 100); err != nil && err != unix.EINTR {
				return
			}
		}
		batch = batch[:0]
		d.mu.Lock()
		stop := d.stop
		for _, e := range events[:max(n, 0)] {
			if c := d.conns[e.Fd]; c != nil {
				batch = append(batch, c)
			}
		}
		if d.every > 0 {
			for _, c := range d.conns {
				batch = append(batch, c)
			}
		}
		d.mu.Unlock()
		if stop {
			return
		}
		for _, c := range batch {
			if !c.read() {
				c.gone.Store(true)
				d.mu.Lock()
				delete(d.conns, c.fd)
				d.mu.Unlock()
				c.file.Close()
			}
		}
	}
}

// read discards what there is. It returns false when the connection has ended.
func (c *drained) read() bool {
	// MSG_TRUNC on TCP: the bytes are dropped without a copy, and the buffer
	// is none.
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), 0, 8<<20, unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return true
	case errno != 0 || n == 0:
		return false
	}
	total := c.bytes.Add(int64(n))
	if c.rtmp && total-c.ackd >= ackEvery {
		c.ackd = total
		_, err := unix.Write(int(c.fd), appendAck(nil, total))
		return err == nil
	}
	return true
}
