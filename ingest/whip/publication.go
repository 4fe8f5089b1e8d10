package whip

import (
	"context"
	"sync"

	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// A publication is a peer that publishes a stream.
type publication struct {
	pub    *stream.Publisher
	cancel context.CancelFunc

	mu      sync.Mutex
	session *webrtc.Session
	over    bool
	reason  error // why it was evicted

	frames webrtc.Assembler
}

// attach is told the session. What the peer sends may come before.
func (p *publication) attach(s *webrtc.Session) {
	p.mu.Lock()
	over := p.over
	p.session = s
	p.mu.Unlock()
	if over {
		s.Close()
	}
}

func (p *publication) requestKey() { p.requestKeyOf(p.frames.Main()) }

// requestKeyOf asks for a key frame of a layer, or of all there is if that is nil.
func (p *publication) requestKeyOf(of *webrtc.Incoming) {
	p.mu.Lock()
	s := p.session
	p.mu.Unlock()
	if s != nil {
		s.RequestKeyOf(of)
	}
}

// evict ends the peer's session, by somebody else's will.
func (p *publication) evict(err error) {
	p.mu.Lock()
	s := p.session
	p.over, p.reason = true, err
	p.mu.Unlock()
	if s != nil {
		s.Close()
	}
}

// ended closes the publisher, when the peer's session has ended.
func (p *publication) ended(err error) {
	p.mu.Lock()
	if p.reason != nil {
		err = p.reason
	}
	p.over = true
	p.mu.Unlock()
	if err == webrtc.ErrHungUp {
		err = nil
	}
	session := p.pub.Session()
	p.frames.Close()
	_ = p.pub.Close()
	session.Close(err)
	p.cancel()
}

// frame takes a frame of the peer's.
func (p *publication) frame(in *webrtc.Incoming, f webrtc.Frame) {
	p.mu.Lock()
	over := p.over
	p.mu.Unlock()
	if !over {
		p.pub.Session().AddIn(len(f.Data))
		p.frames.Frame(in, f)
	}
}
