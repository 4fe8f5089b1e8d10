package webrtc

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/srtp/v3"

	rsrtp "github.com/runnel-media/runnel/internal/srtp"
)

// A Session is one peer. Its methods are safe for concurrent use.
type Session struct {
	transport *Transport
	peer      Fingerprint // of its certificate
	lines     []*line
	bundle    bool // the answer has a BUNDLE group
	handler   Handler
	active    bool // we begin the DTLS handshake
	begun     time.Time
	source    netip.Addr // as Transport.MaxPerSource has it
	home      *port      // whose loop looks after its timeouts
	dtls      association

	ice  atomic.Pointer[credentials]
	path atomic.Pointer[path] // where to send; nil before ICE
	last atomic.Int64         // when the peer last proved to be there, Unix ns; 0: never

	finish sync.Once
	done   chan struct{} // closed at the end

	mu       sync.Mutex
	err      error         // why it ended
	after    []func()      // that are to be called then
	in       *srtp.Context // nil before DTLS
	out      *srtp.Context // RTCP only
	sealer   *rsrtp.Sealer // RTP
	incoming incomings
	outgoing outgoings
	checks   *checker // nil: the agent is lite, or its peer a server
	scratch  []byte
}

// A path is a way to the peer.
type path struct {
	port *port
	addr netip.AddrPort
	tcp  *tcpConn // nil: UDP
}

// write sends a datagram.
func (to *path) write(b []byte) {
	if to.tcp != nil {
		to.tcp.send(b)
	} else {
		_ = to.port.conn.WriteTo(b, to.addr) // lost as on a network
	}
}

// A Handler is told what happens to a Session. Its functions may be nil.
type Handler struct {
	// Connected is called once, when media can flow.
	Connected func()
	// Frame is called for each frame of a peer that sends, in the goroutine
	// that reads the socket. It must not block.
	Frame func(*Incoming, Frame)
	// KeyNeeded is called when a viewer can't go on without a key frame.
	KeyNeeded func()
	// Ended is called once, with why.
	Ended func(error)
}

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why it has ended.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// RemoteAddr returns where the peer is now; zero before it has come.
func (s *Session) RemoteAddr() netip.AddrPort {
	if p := s.path.Load(); p != nil {
		return p.addr
	}
	return netip.AddrPort{}
}

// Close ends the session.
func (s *Session) Close() error {
	s.end(ErrClosed)
	return nil
}

func (s *Session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// end ends the session, once.
func (s *Session) end(err error) {
	s.finish.Do(func() {
		s.mu.Lock()
		s.err = err
		after := s.after
		s.after = nil
		close(s.done)
		s.mu.Unlock()
		s.transport.remove(s)
		s.dtls.shut()
		if s.handler.Ended != nil {
			s.handler.Ended(err)
		}
		for _, f := range after {
			f()
		}
	})
}

// atEnd has f called at the session's end, at once if that has been.
func (s *Session) atEnd(f func()) {
	s.mu.Lock()
	ended := s.ended()
	if !ended {
		s.after = append(s.after, f)
	}
	s.mu.Unlock()
	if ended {
		f()
	}
}

// late says why the session is to end now, nil if it is not.
func (s *Session) late(now time.Time) error {
	s.mu.Lock()
	secure := s.in != nil
	s.mu.Unlock()
	last := s.last.Load()
	switch {
	case !secure && now.Sub(s.begun) > or(s.transport.Setup, 15*time.Second):
		return ErrNoPath
	case last != 0 && now.Sub(time.Unix(0, last)) > or(s.transport.Timeout, 30*time.Second):
		return ErrGone
	}
	return nil
}

// secure takes the keys of the DTLS handshake.
func (s *Session) secure(c *srtp.Config) (err error) {
	k := c.Keys
	in, err := srtp.CreateContext(k.RemoteMasterKey, k.RemoteMasterSalt, c.Profile,
		srtp.SRTPReplayProtection(1024), srtp.SRTCPReplayProtection(64))
	if err != nil {
		return err
	}
	out, err := srtp.CreateContext(k.LocalMasterKey, k.LocalMasterSalt, c.Profile)
	if err != nil {
		return err
	}
	sealer, err := rsrtp.NewSealer(c.Profile, k.LocalMasterKey, k.LocalMasterSalt)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in, s.out, s.sealer = in, out, sealer
	return nil
}

func (s *Session) connected() {
	if s.handler.Connected != nil {
		s.handler.Connected()
	}
}

// receives reports whether the peer sends media.
func (s *Session) receives() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lines {
		if l.format != nil && l.receive {
			return true
		}
	}
	return false
}

// write sends a datagram to the peer.
func (s *Session) write(b []byte) {
	if to := s.path.Load(); to != nil {
		to.write(b)
	}
}

// media takes an RTP or RTCP datagram from an address of the peer.
func (s *Session) media(p *port, d []byte, now time.Time) bool {
	if len(d) < 8 {
		return false
	}
	var frames []arrived
	var w wish
	s.mu.Lock()
	ok := s.in != nil
	switch {
	case !ok:
	case d[1] >= 192 && d[1] < 224: // RTCP (RFC 5761 Section 4)
		ok = s.control(p, d, now, &w)
	default:
		ok, frames = s.receive(p, d, now)
	}
	s.mu.Unlock()
	if ok {
		s.last.Store(now.UnixNano())
	}
	s.tell(frames)
	s.resend(w.again, now)
	if w.key && s.handler.KeyNeeded != nil {
		s.handler.KeyNeeded()
	}
	return ok
}

// tell calls the handler, without the lock.
func (s *Session) tell(frames []arrived) {
	if s.handler.Frame != nil {
		for _, f := range frames {
			s.handler.Frame(f.track, f.frame)
		}
	}
}

// control takes an RTCP packet. Called with s.mu held.
func (s *Session) control(p *port, d []byte, now time.Time, w *wish) bool {
	plain, err := s.in.DecryptRTCP(p.plain[:0], d, nil)
	if err != nil {
		return false
	}
	for b := plain; len(b) >= 4; {
		n := 4 * (int(b[2])<<8 + int(b[3]) + 1)
		if n > len(b) {
			break
		}
		s.report(b[:n], now, w)
		b = b[n:]
	}
	return true
}

// sendRTCP sends a compound packet. Called with s.mu held.
func (s *Session) sendRTCP(b []byte) {
	if s.out == nil {
		return
	}
	if out, err := s.out.EncryptRTCP(s.scratch[:0], b, nil); err == nil {
		s.scratch = out
		s.write(out)
	}
}
