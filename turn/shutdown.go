package turn

import (
	"context"
	"errors"
	"time"
)

// Shutdown drains the server: allocations that are live go on, new ones are
// refused, with the policy's Alternates if there are some (300), else with 508.
// Listeners stay open for it, and for those who have an allocation: the data
// connections of RFC 6062 are connections of their own, and so may be the path
// that a client moves to. Everything is closed when no allocation is left or
// ctx ends; the error is ctx's then.
func (s *Server) Shutdown(ctx context.Context) error {
	s.init()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.draining = true
	if s.empty == nil {
		s.empty = make(chan struct{})
		s.drained()
	}
	empty, done := s.empty, s.done
	s.mu.Unlock()
	var err error
	select {
	case <-empty:
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return errors.Join(err, s.Close())
}

// drained ends Shutdown if nothing is left to wait for; mu is held.
func (s *Server) drained() {
	if s.empty == nil || len(s.live) > 0 || s.held > 0 {
		return
	}
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// hold keeps Shutdown from its end until letGo.
func (s *Server) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held++
}

func (s *Server) letGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	s.drained()
}

// isEmpty reports whether Shutdown waits for nothing but what is held.
func (s *Server) isEmpty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.empty != nil && len(s.live) == 0
}

// Close ends every allocation and closes every socket at once. It waits for
// the goroutines that serve them.
func (s *Server) Close() error {
	s.init()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.serving.Wait()
		return nil
	}
	s.closed = true
	close(s.done)
	s.cancel()
	allocations := make([]*Allocation, 0, len(s.live))
	for _, a := range s.live {
		allocations = append(allocations, a)
	}
	closers := make([]closer, 0, len(s.closers))
	for c := range s.closers {
		closers = append(closers, c)
	}
	s.mu.Unlock()
	for _, a := range allocations {
		a.end(EndServerClosed)
	}
	s.dropReservations(func(*reservation) bool { return true })
	for _, c := range closers {
		_ = c.Close() // nobody is left to be told
	}
	s.serving.Wait()
	s.events.Close()
	return nil
}

// sweep looks once a second at what has run out.
func (s *Server) sweep() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var due []*Allocation
	for {
		select {
		case <-s.done:
			return
		case <-tick.C:
		}
		now := s.clock()
		due = due[:0]
		s.mu.Lock()
		for _, a := range s.live {
			if a.due.Load() <= now {
				due = append(due, a)
			}
		}
		s.mu.Unlock()
		for _, a := range due {
			a.tick(now)
		}
		clear(due)
		s.dropReservations(func(r *reservation) bool { return r.expires <= now })
		s.sweepRealms(now)
	}
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}
