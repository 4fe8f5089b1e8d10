package turn

import "crypto/rand"

// A reservationToken names a port that is held for a later allocation.
type reservationToken [8]byte

// A reservation is a relay socket that waits for its allocation (RFC 8656
// Section 7.2, EVEN-PORT with R=1). It counts to its user's quota, so that
// nobody can hold more ports than he could allocate.
type reservation struct {
	token   reservationToken
	relay   *openRelay
	lease   *lease
	user    string
	realm   string
	expires int64 // clock
}

// reservationLife is what the RFC says, in nanoseconds.
const reservationLife = int64(30e9)

// reserve holds a relay socket for its user.
func (s *Server) reserve(o *openRelay, cred *credential, limits quotaLimits, now int64) (*reservation, error) {
	l, err := s.quota.acquire(cred.realm, cred.user, limits)
	if err != nil {
		return nil, err
	}
	r := &reservation{relay: o, lease: l, user: cred.user, realm: cred.realm, expires: now + reservationLife}
	rand.Read(r.token[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.release()
		return nil, ErrServerClosed
	}
	s.reserved[r.token] = r
	return r, nil
}

// takeReservation returns what a token stands for, if it is of the same user.
// It is gone then; its relay and its lease are the caller's.
func (s *Server) takeReservation(token reservationToken, cred *credential) *reservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.reserved[token]
	if r == nil || r.user != cred.user || r.realm != cred.realm || r.expires <= s.clock() {
		return nil
	}
	delete(s.reserved, token)
	return r
}

// dropReservations gives up the reservations that which chooses.
func (s *Server) dropReservations(which func(*reservation) bool) {
	var dropped []*reservation
	s.mu.Lock()
	for token, r := range s.reserved {
		if which(r) {
			delete(s.reserved, token)
			dropped = append(dropped, r)
		}
	}
	s.mu.Unlock()
	for _, r := range dropped {
		r.relay.close(s)
		r.lease.release()
	}
}
