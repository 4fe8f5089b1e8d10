package turn

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/dtlsmux"
)

// newDTLS makes the DTLS side of a shard's socket; nil if there is none.
func (s *Server) newDTLS(sh *shard) *dtlsmux.Mux {
	c := s.DTLS
	if c == nil {
		return nil
	}
	certificate := c.GetCertificate
	if certificate == nil {
		if len(c.Certificates) == 0 {
			return nil
		}
		certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.Certificates[0], nil }
	}
	return &dtlsmux.Mux{
		GetCertificate: certificate,
		NextProtos:     c.NextProtos,
		ClientAuth:     c.ClientAuth,
		ClientCAs:      c.ClientCAs,
		Log:            s.Log,
		Send: func(b []byte, to netip.AddrPort) error {
			return sh.conn.WriteTo(b, to)
		},
		Receive: sh.fromDTLS,
		Idle:    s.dtlsIdle,
		Opened:  s.openedDTLS,
		Closed: func(c *dtlsmux.Conn) {
			o := c.Owner.(*dtlsClient)
			if o.path != nil {
				if a := o.path.alloc.Load(); a != nil {
					a.lost(o.path)
				}
			}
			o.wait.finish()
		},
	}
}

// A dtlsClient is the Owner of a DTLS association, in the goroutine of its Mux.
type dtlsClient struct {
	path *path // nil: it has said nothing yet
	idle int64 // clock: when it began, or was last seen with an allocation
	wait dtlsWait
}

// A dtlsWait counts a DTLS association without an allocation as one of those
// that wait, like a TCP connection.
type dtlsWait struct {
	srv    *Server
	source netip.Addr

	mu    sync.Mutex // guards what follows
	waits bool       // it counts to Server.waiting
	over  bool       // the association has ended
}

// openedDTLS counts a new association, and reports false if too many wait.
func (s *Server) openedDTLS(c *dtlsmux.Conn) bool {
	o := &dtlsClient{idle: s.clock()}
	o.wait.srv = s
	if from := c.RemoteAddr().Addr(); !s.proxied(from) { // else who it is shows later
		o.wait.source = from
	}
	c.Owner = o
	o.wait.begin()
	return o.wait.waits
}

// begin has it wait, if there is room.
func (w *dtlsWait) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || w.waits {
		return
	}
	if w.waits = w.srv.waiting.Enter(w.source); !w.waits {
		w.srv.stats.drop(dropWaiting, 1)
	}
}

// settled ends the waiting.
func (w *dtlsWait) settled() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waits {
		w.waits = false
		w.srv.waiting.Leave(w.source)
	}
}

// finish ends it for good.
func (w *dtlsWait) finish() {
	w.settled()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

func (w *dtlsWait) isWaiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waits
}

// dtlsIdle is dtlsmux.Mux.Idle. As over TCP, who has no allocation does not get
// more time by talking.
func (s *Server) dtlsIdle(c *dtlsmux.Conn) time.Duration {
	limit := s.policy.Load().IdleTimeout
	o := c.Owner.(*dtlsClient)
	now := s.clock()
	if o.path != nil && o.path.alloc.Load() != nil {
		o.idle = now
		return absoluteMaxLifetime // the allocation's lifetime decides
	}
	if now-o.idle > int64(limit) || !o.wait.isWaiting() { // no room to wait for another allocation
		return -1
	}
	return limit
}

// fromDTLS takes a datagram of a DTLS client.
func (sh *shard) fromDTLS(c *dtlsmux.Conn, b []byte) {
	o := c.Owner.(*dtlsClient)
	if o.path == nil {
		p := &path{srv: sh.srv, shard: sh, kind: overDTLS, local: sh.conn.LocalAddr(), remote: sh.client, to: c.RemoteAddr(), dtls: c, wait: &o.wait}
		state := c.ConnectionState()
		if len(state.PeerCertificates) > 0 && sh.srv.DTLS.ClientAuth >= tls.VerifyClientCertIfGiven {
			p.certified = true
			state.VerifiedChains = [][]*x509.Certificate{state.PeerCertificates} // up to the authority, which only the handshake saw
		}
		p.tls = &state
		o.path = p
	}
	sh.datagram(o.path, sh.srv.policy.Load(), b, sh.mark, sh.srv.clock())
}
