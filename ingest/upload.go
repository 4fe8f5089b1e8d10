package ingest

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// An upload is a publisher's request body, read with deadlines.
type upload struct {
	rc     *http.ResponseController
	format *format

	// owned by the handler's goroutine
	body    io.Reader
	session *stream.Session
	idle    time.Duration
	touched time.Time
	read    int64

	mu    sync.Mutex
	err   error // why it was evicted
	ended bool  // the handler returns: rc is not to be used any more
}

// Read reads from the body, and moves the deadline when something came.
func (u *upload) Read(b []byte) (int, error) {
	n, err := u.body.Read(b)
	if n > 0 {
		u.read += int64(n)
		u.session.AddIn(n)
		u.touch()
	}
	return n, err
}

func (u *upload) touch() {
	now := time.Now()
	if now.Sub(u.touched) < u.idle/8 {
		return
	}
	u.touched = now
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil {
		_ = u.rc.SetReadDeadline(now.Add(u.idle)) // not possible behind every middleware
	}
}

// evict ends the upload soon.
func (u *upload) evict(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil && !u.ended {
		u.err = err
		_ = u.rc.SetReadDeadline(time.Unix(1, 0))
	}
}

// reason returns why the upload was evicted, nil if it was not.
func (u *upload) reason() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

func (s *Server) addUpload(u *upload) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	if s.uploads == nil {
		s.uploads = make(map[*upload]struct{})
	}
	s.uploads[u] = struct{}{}
	return true
}

func (s *Server) removeUpload(u *upload) {
	u.mu.Lock()
	u.ended = true
	u.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uploads, u)
	if s.drained != nil && len(s.uploads) == 0 {
		close(s.drained)
	}
}

// closeUploads ends all uploads soon.
func (s *Server) closeUploads() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for u := range s.uploads {
		u.evict(ErrServerClosed)
	}
}
