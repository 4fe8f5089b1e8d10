package stream

import (
	"crypto/rand"
	"iter"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Role is what the peer of a session does.
type Role string

// The roles of a session.
const (
	RolePublish Role = "publish"
	RolePlay    Role = "play"
)

// SessionInfo says who a session is. It does not change.
type SessionInfo struct {
	ID       string            `json:"id"` // unguessable; OpenSession chooses one if empty
	Role     Role              `json:"role"`
	Protocol string            `json:"protocol"` // as in auth.Request
	Stream   string            `json:"stream"`   // hub key
	User     string            `json:"user,omitempty"`
	Remote   netip.AddrPort    `json:"remote"`
	Started  time.Time         `json:"started"` // OpenSession fills it in if zero
	Labels   map[string]string `json:"labels,omitempty"`

	// What the peer asked for, as in auth.Request. A peer's query may hold its
	// secrets, so that none of this goes where sessions are listed by themselves.
	VHost    string `json:"-"`
	App      string `json:"-"`
	Name     string `json:"-"`
	RawQuery string `json:"-"`
	TCURL    string `json:"-"`
	PageURL  string `json:"-"`
}

// SessionStats are the figures of a session at one moment.
type SessionStats struct {
	BytesIn    uint64        `json:"bytes_in"`    // media received
	BytesOut   uint64        `json:"bytes_out"`   // media sent
	Dropped    uint64        `json:"dropped"`     // bytes not sent because the peer was too slow
	Skips      uint64        `json:"skips"`       // how often it skipped to a key frame
	FirstFrame time.Duration `json:"first_frame"` // from the session's start to its first media; 0: none yet
	BitRate    float64       `json:"bit_rate"`    // bits a second over the last seconds, both ways
}

// A Session is one peer that publishes or plays, for statistics and for those
// who end it. Its counters are written by whoever moves the bytes. All methods
// may be called from many goroutines at once, and do nothing on a nil Session.
type Session struct {
	hub  *Hub
	info SessionInfo
	kick func(error)

	in, out, dropped, skips atomic.Uint64
	first                   atomic.Int64 // ns from start to first media

	mu          sync.Mutex
	kicked      bool
	closed      bool
	onClose     func() // of OnClose
	measure     func() any
	older, last sample // for BitRate
}

type sample struct {
	at    time.Time
	bytes uint64
}

type sessionTable struct {
	mu  sync.Mutex
	all map[string]*Session
}

// OpenSession enters a peer in the hub's table and tells the listeners of
// Events. kick ends the peer's connection, and may be called once, from any
// goroutine; it must not block. Close the session when the peer is gone.
func (h *Hub) OpenSession(info SessionInfo, kick func(error)) *Session {
	if info.ID == "" {
		info.ID = rand.Text()
	}
	if info.Started.IsZero() {
		info.Started = time.Now()
	}
	s := &Session{hub: h, info: info, kick: kick}
	s.older.at, s.last.at = info.Started, info.Started
	h.sessions.mu.Lock()
	if h.sessions.all == nil {
		h.sessions.all = make(map[string]*Session)
	}
	h.sessions.all[info.ID] = s
	h.sessions.mu.Unlock()
	h.emit(SessionOpened{Time: info.Started, Session: info})
	return s
}

// Session returns the open session of that ID, or nil.
func (h *Hub) Session(id string) *Session {
	h.sessions.mu.Lock()
	defer h.sessions.mu.Unlock()
	return h.sessions.all[id]
}

// Sessions yields the sessions that are open when it is called, in no order.
func (h *Hub) Sessions() iter.Seq[*Session] {
	h.sessions.mu.Lock()
	all := make([]*Session, 0, len(h.sessions.all))
	for _, s := range h.sessions.all {
		all = append(all, s)
	}
	h.sessions.mu.Unlock()
	return func(yield func(*Session) bool) {
		for _, s := range all {
			if !yield(s) {
				return
			}
		}
	}
}

// ID returns the session's ID, "" for a nil session.
func (s *Session) ID() string {
	if s == nil {
		return ""
	}
	return s.info.ID
}

// Info returns who the session is.
func (s *Session) Info() SessionInfo {
	if s == nil {
		return SessionInfo{}
	}
	return s.info
}

// AddIn counts media bytes received.
func (s *Session) AddIn(n int) {
	if s != nil {
		s.in.Add(uint64(n))
		s.mark()
	}
}

// AddOut counts media bytes sent.
func (s *Session) AddOut(n int) {
	if s != nil {
		s.out.Add(uint64(n))
		s.mark()
	}
}

// AddSkip counts a skip to a key frame that left out n bytes.
func (s *Session) AddSkip(n int) {
	if s != nil {
		s.skips.Add(1)
		s.dropped.Add(uint64(n))
	}
}

func (s *Session) mark() {
	if s.first.Load() == 0 {
		s.first.CompareAndSwap(0, int64(max(1, time.Since(s.info.Started))))
	}
}

// rateWindow is the least time that BitRate averages over.
const rateWindow = 5 * time.Second

// Stats returns the session's figures now.
func (s *Session) Stats() SessionStats {
	if s == nil {
		return SessionStats{}
	}
	st := SessionStats{
		BytesIn:    s.in.Load(),
		BytesOut:   s.out.Load(),
		Dropped:    s.dropped.Load(),
		Skips:      s.skips.Load(),
		FirstFrame: time.Duration(s.first.Load()),
	}
	now := sample{time.Now(), st.BytesIn + st.BytesOut}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.at.Sub(s.last.at) >= rateWindow {
		s.older, s.last = s.last, now
	}
	if d := now.at.Sub(s.older.at).Seconds(); d > 0 {
		st.BitRate = float64(now.bytes-s.older.bytes) * 8 / d
	}
	return st
}

// Bytes returns how much media was received and sent so far.
func (s *Session) Bytes() uint64 {
	if s == nil {
		return 0
	}
	return s.in.Load() + s.out.Load()
}

// Measure has Measured return what f does: the figures that the session's
// protocol has of its connection, a value that encodes as a JSON object. f must
// not block, and may be called from any goroutine, after the session's end too.
func (s *Session) Measure(f func() any) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.measure = f
}

// Measured returns what the session's protocol says of its connection, nil if
// it says nothing: round trips, losses, repeats.
func (s *Session) Measured() any {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	f := s.measure
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f()
}

// OnClose has f called once when the session is closed, at once if it is. f must
// not block; a second one takes the place of the first.
func (s *Session) OnClose(f func()) {
	if s == nil {
		return
	}
	s.mu.Lock()
	closed := s.closed
	s.onClose = f
	s.mu.Unlock()
	if closed {
		f()
	}
}

// Kick ends the peer's connection with err, ErrKicked if nil, and reports
// whether it was this call that did.
func (s *Session) Kick(err error) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	done := s.kicked || s.closed
	s.kicked = true
	s.mu.Unlock()
	if done || s.kick == nil {
		return false
	}
	if err == nil {
		err = ErrKicked
	}
	s.kick(err)
	return true
}

// Close takes the session off the table. err says why it ended, nil if by the
// peer's own will.
func (s *Session) Close(err error) {
	if s == nil {
		return
	}
	s.mu.Lock()
	closed, after := s.closed, s.onClose
	s.closed = true
	s.mu.Unlock()
	if closed {
		return
	}
	if after != nil {
		after()
	}
	s.hub.sessions.mu.Lock()
	if s.hub.sessions.all[s.info.ID] == s {
		delete(s.hub.sessions.all, s.info.ID)
	}
	s.hub.sessions.mu.Unlock()
	s.hub.emit(SessionClosed{Time: time.Now(), Session: s.info, Err: err, Stats: s.Stats()})
}
