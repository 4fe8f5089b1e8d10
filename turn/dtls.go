package turn

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
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
		Closed: func(c *dtlsmux.Conn) {
			if o, ok := c.Owner.(*dtlsClient); ok {
				if a := o.path.alloc.Load(); a != nil {
					a.lost(o.path)
				}
			}
		},
	}
}

// A dtlsClient is the Owner of a DTLS association, in the goroutine of its Mux.
type dtlsClient struct {
	path *path
	idle int64 // clock: when it began, or was last seen with an allocation
}

// dtlsIdle is dtlsmux.Mux.Idle. As over TCP, who has no allocation does not get
// more time by talking.
func (s *Server) dtlsIdle(c *dtlsmux.Conn) time.Duration {
	limit := s.policy.Load().IdleTimeout
	o, ok := c.Owner.(*dtlsClient)
	if !ok {
		return limit // it has said nothing yet
	}
	now := s.clock()
	if o.path.alloc.Load() != nil {
		o.idle = now
		return absoluteMaxLifetime // the allocation's lifetime decides
	}
	if now-o.idle > int64(limit) {
		return -1
	}
	return limit
}

// fromDTLS takes a datagram of a DTLS client.
func (sh *shard) fromDTLS(c *dtlsmux.Conn, b []byte) {
	o, ok := c.Owner.(*dtlsClient)
	if !ok {
		p := &path{srv: sh.srv, shard: sh, kind: overDTLS, local: sh.conn.LocalAddr(), remote: sh.client, to: c.RemoteAddr(), dtls: c}
		state := c.ConnectionState()
		if len(state.PeerCertificates) > 0 && sh.srv.DTLS.ClientAuth >= tls.VerifyClientCertIfGiven {
			p.certified = true
			state.VerifiedChains = [][]*x509.Certificate{state.PeerCertificates} // up to the authority, which only the handshake saw
		}
		p.tls = &state
		o = &dtlsClient{path: p, idle: sh.srv.clock()}
		c.Owner = o
	}
	sh.datagram(o.path, sh.srv.policy.Load(), b, sh.mark, sh.srv.clock())
}
