package halfopen

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Listener accepts connections from Listener and hands out those that Open
// made something of. Open runs in a goroutine for each, so that a peer that
// says nothing keeps nobody waiting; how many there are at a time the Gate
// bounds: one too many is closed at once. Set the fields before the first
// Accept, which starts the accept loop; Close ends it and what is half open.
type Listener struct {
	net.Listener // the inner one

	// Open does what has to be done before a connection is handed out, and
	// returns it or what it wraps. An error closes the connection. It has
	// until the deadline that is set on the connection.
	Open    func(net.Conn) (net.Conn, error)
	Timeout time.Duration // for Open; it must be positive
	Gate    *Gate         // nil: no bound

	// Failed is told why a connection was not handed out; nil: nobody is.
	Failed func(remote net.Addr, err error)

	once  sync.Once
	ready chan accepted
	done  chan struct{}

	mu     sync.Mutex
	closed bool                  // guarded by mu
	half   map[net.Conn]struct{} // guarded by mu; connections that Open has
}

type accepted struct {
	conn net.Conn
	err  error
}

func (l *Listener) init(run bool) {
	l.once.Do(func() {
		l.ready = make(chan accepted)
		l.done = make(chan struct{})
		if run {
			go l.loop()
		}
	})
}

// Accept returns the next connection that opened. Errors are those of the inner
// Listener, net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	l.init(true)
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case a := <-l.ready:
		return a.conn, a.err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close closes the inner Listener and every connection that is half open.
func (l *Listener) Close() error {
	l.init(false)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.done)
	half := l.half
	l.half = nil
	l.mu.Unlock()
	err := l.Listener.Close()
	for c := range half {
		c.Close()
	}
	return err
}

// loop accepts until the inner Listener has nothing more to give.
func (l *Listener) loop() {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			select {
			case l.ready <- accepted{err: err}: // the caller knows whether to go on
			case <-l.done:
				return
			}
			if ne, ok := err.(interface{ Temporary() bool }); !ok || !ne.Temporary() {
				return
			}
			continue
		}
		src := AddrOf(c.RemoteAddr())
		if l.Gate != nil && !l.Gate.Enter(src) {
			l.fail(c, errFull)
			continue
		}
		if !l.track(c) {
			c.Close()
			l.leave(src)
			return
		}
		go l.open(c, src)
	}
}

// open runs Open on one connection and hands it out.
func (l *Listener) open(c net.Conn, src netip.Addr) {
	defer l.leave(src)
	c.SetDeadline(time.Now().Add(l.Timeout))
	conn, err := l.Open(c)
	l.untrack(c)
	if err != nil {
		l.fail(c, err)
		return
	}
	c.SetDeadline(time.Time{})
	select {
	case l.ready <- accepted{conn: conn}:
	case <-l.done:
		conn.Close()
	}
}

func (l *Listener) fail(c net.Conn, err error) {
	c.Close()
	if l.Failed != nil {
		l.Failed(c.RemoteAddr(), err)
	}
}

func (l *Listener) leave(src netip.Addr) {
	if l.Gate != nil {
		l.Gate.Leave(src)
	}
}

// track remembers a connection for Close; false if that was already.
func (l *Listener) track(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if l.half == nil {
		l.half = make(map[net.Conn]struct{})
	}
	l.half[c] = struct{}{}
	return true
}

func (l *Listener) untrack(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.half, c)
}

// AddrOf returns the IP address of a net.Addr, the invalid one if it has none.
func AddrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case nil:
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
