package turn

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// An Alternate is a server that clients may be sent to (RFC 8489 Section 10).
// A client that has authenticated and asks for an allocation is given one of
// its own address family, by weight, that answers Binding requests. If none
// does the allocation is made here, unless the server drains.
type Alternate struct {
	Server netip.AddrPort
	Domain string // ALTERNATE-DOMAIN, the name in the certificate; "": none
	Weight int    // how often it is chosen, compared with the others; 0: 1

	// Transport restricts the alternate to clients that come by "udp", "tcp",
	// "tls" or "dtls". "": all.
	Transport string

	// NoProbe takes it as healthy without asking: it answers no Binding
	// requests over UDP.
	NoProbe bool
}

// An alternate is an Alternate and its health.
type alternate struct {
	Alternate
	down atomic.Bool
}

func (a *alternate) weight() int { return max(a.Weight, 1) }

// choose picks the alternate for a client; nil: there is none.
func (p *policy) choose(from *path) *alternate {
	fits := func(a *alternate) bool {
		return !a.down.Load() && (a.Transport == "" || a.Transport == from.kind.String()) &&
			a.Server.Addr().Unmap().Is4() == from.remote.Addr().Is4()
	}
	sum := 0
	for _, a := range p.alternates {
		if fits(a) {
			sum += a.weight()
		}
	}
	if sum == 0 {
		return nil
	}
	n := int(random(uint32(sum)))
	for _, a := range p.alternates {
		if !fits(a) {
			continue
		}
		if n -= a.weight(); n < 0 {
			return a
		}
	}
	return nil
}

// redirect answers 300 if the client is to go elsewhere. The answer has
// integrity, so that nobody else can send clients away.
func (r *request) redirect() bool {
	a := r.policy.choose(r.path)
	if a == nil {
		return false
	}
	b := r.build(stunwire.Error)
	b.AddError(300, r.reason(300))
	b.AddAddr(stunwire.AttrAlternateServer, a.Server)
	if a.Domain != "" {
		b.AddString(stunwire.AttrAlternateDomain, a.Domain[:min(len(a.Domain), 255)])
	}
	r.srv.stats.refused(300)
	r.finish(&b)
	return true
}

const (
	probeInterval = 5 * time.Second
	probeTimeout  = time.Second
	probeTries    = 3
)

// probeAlternates asks the alternates whether they are there.
func (s *Server) probeAlternates() {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		for _, a := range s.policy.Load().alternates {
			if a.NoProbe {
				continue
			}
			down := !s.answers(a.Server)
			if a.down.Swap(down) != down {
				s.log().Info("turn: alternate server", "server", a.Server, "down", down)
			}
		}
		select {
		case <-s.done:
			return
		case <-tick.C:
		}
	}
}

// answers reports whether a server answers a Binding request.
func (s *Server) answers(server netip.AddrPort) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return false
	}
	defer c.Close()
	defer context.AfterFunc(s.base, func() { _ = c.Close() })()
	var id stunwire.TxID
	rand.Read(id[:])
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), id)
	question := b.Bytes()
	var buf [1500]byte
	for range probeTries {
		if s.base.Err() != nil {
			return true // being closed: nothing is known
		}
		if _, err := c.Write(question); err != nil {
			continue // the report on the one before
		}
		_ = c.SetReadDeadline(time.Now().Add(probeTimeout)) // it is open
		for {
			n, err := c.Read(buf[:])
			if err != nil {
				break
			}
			if n >= stunwire.HeaderSize && binary.BigEndian.Uint32(buf[4:]) == stunwire.Cookie && stunwire.TxID(buf[8:20]) == id {
				return true // an error is an answer, too
			}
		}
	}
	return false
}
