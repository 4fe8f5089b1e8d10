package stun

import (
	"errors"
	"net/netip"
)

// Errors of a Mux's sessions.
var (
	ErrTaken   = errors.New("stun: taken by another session")
	errUfrag   = errors.New("stun: a user name fragment has 4 to 256 characters, none of them a colon")
	errHandler = errors.New("stun: a session needs a handler")
	errAddrs   = errors.New("stun: a session has too many addresses")
)

// maxSessionAddrs is how many addresses a session may have taken: more than
// the candidates of any peer, few enough for nobody to fill the table.
const maxSessionAddrs = 128

// A Session is one of ICE: a peer that may come from several addresses. Its
// methods may be called from many goroutines, its handler included.
type Session struct {
	mux    *Mux
	ufrag  string
	handle Handler

	closed bool // guarded by mux.mu, as addrs
	addrs  map[netip.AddrPort]struct{}
	view   *PacketView // of Listen, else nil
}

// Session adds a session. handle gets the Binding requests whose user name
// begins with the fragment and a colon, from wherever they come: nobody has
// proven anything yet. Check their integrity, then Take the address, and it
// gets everything that comes from there.
func (m *Mux) Session(ufrag string, handle Handler) (*Session, error) {
	if handle == nil {
		return nil, errHandler
	}
	s := &Session{mux: m, ufrag: ufrag, handle: handle}
	return s, s.add()
}

func (s *Session) add() error {
	m := s.mux
	if !validUfrag(s.ufrag) {
		return errUfrag
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return ErrMuxClosed
	case m.sessions[s.ufrag] != nil:
		return ErrTaken
	case m.sessions == nil:
		m.sessions, m.addrs = make(map[string]*Session), make(map[netip.AddrPort]*Session)
	}
	m.sessions[s.ufrag] = s
	return nil
}

func validUfrag(u string) bool {
	if len(u) < 4 || len(u) > 256 {
		return false
	}
	for i := range len(u) {
		if u[i] == ':' {
			return false
		}
	}
	return true
}

// Take makes an address the session's: all that comes from there goes to it,
// but for Binding requests that name another. ErrTaken if another session has
// it.
func (s *Session) Take(addr netip.AddrPort) error {
	addr = unmap(addr)
	m := s.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case s.closed:
		return ErrMuxClosed
	case m.addrs[addr] == s:
		return nil
	case m.addrs[addr] != nil:
		return ErrTaken
	case len(s.addrs) >= maxSessionAddrs:
		return errAddrs
	case s.addrs == nil:
		s.addrs = make(map[netip.AddrPort]struct{})
	}
	m.addrs[addr] = s
	s.addrs[addr] = struct{}{}
	return nil
}

// Release gives an address back.
func (s *Session) Release(addr netip.AddrPort) {
	addr = unmap(addr)
	m := s.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.addrs[addr] == s {
		delete(m.addrs, addr)
		delete(s.addrs, addr)
	}
}

// WriteTo sends a datagram, as the Mux's does.
func (s *Session) WriteTo(b []byte, to netip.AddrPort) error { return s.mux.WriteTo(b, to) }

// Close ends the session. Its handler may still be running when it returns, or
// be about to for packets that had come before.
func (s *Session) Close() error {
	m := s.mux
	m.mu.Lock()
	closed := s.closed
	s.closed = true
	if m.sessions[s.ufrag] == s {
		delete(m.sessions, s.ufrag)
	}
	for a := range s.addrs {
		delete(m.addrs, a)
	}
	s.addrs = nil
	m.mu.Unlock()
	if s.view != nil && !closed {
		s.view.shut()
	}
	return nil
}
