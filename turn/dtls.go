package turn

import (
	"crypto/tls"
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
		Idle: func(c *dtlsmux.Conn) time.Duration {
			if p, ok := c.Owner.(*path); ok && p.alloc.Load() != nil {
				return absoluteMaxLifetime // the allocation's lifetime decides
			}
			return s.policy.Load().IdleTimeout
		},
		Closed: func(c *dtlsmux.Conn) {
			if p, ok := c.Owner.(*path); ok {
				if a := p.alloc.Load(); a != nil {
					a.lost(p)
				}
			}
		},
	}
}

// fromDTLS takes a datagram of a DTLS client.
func (sh *shard) fromDTLS(c *dtlsmux.Conn, b []byte) {
	p, ok := c.Owner.(*path)
	if !ok {
		p = &path{srv: sh.srv, shard: sh, kind: overDTLS, local: sh.conn.LocalAddr(), remote: sh.client, to: c.RemoteAddr(), dtls: c}
		state := c.ConnectionState()
		p.tls = &state
		p.certified = len(state.PeerCertificates) > 0 && sh.srv.DTLS.ClientAuth >= tls.VerifyClientCertIfGiven
		c.Owner = p
	}
	sh.datagram(p, sh.srv.policy.Load(), b, sh.mark, sh.srv.clock())
}
