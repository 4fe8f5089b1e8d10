package stun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	pion "github.com/pion/stun/v2"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// Errors of a Client's transactions that callers branch on.
var (
	// ErrTimeout: nobody answered.
	ErrTimeout = errors.New("stun: no answer")
	// ErrIntegrity: answers came, but none that proved to be the server's
	// (RFC 8489 Sections 9.1.4 and 9.2.5). The password is wrong or somebody is
	// between.
	ErrIntegrity = errors.New("stun: no answer with the right integrity")
	// ErrBidDown: somebody has taken security features out of an answer, or
	// the server offers no algorithm that is known.
	ErrBidDown = errors.New("stun: security features are missing from the answer")
)

// A ResponseError is an error response.
type ResponseError struct {
	Code     int    // 300 to 699
	Reason   string // of the server, cut; "" as a rule
	Response *Message
}

// Error names the code and the reason.
func (e *ResponseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("stun: error %d", e.Code)
	}
	return fmt.Sprintf("stun: error %d: %q", e.Code, e.Reason)
}

// An AlternateError is an authenticated error 300: ask another server (RFC
// 8489 Section 10), with the same credentials.
type AlternateError struct {
	Servers []netip.AddrPort // the one of the address family in use first
	Domain  string           // what the certificate there has to be for; "": as before
}

// Error names the servers.
func (e *AlternateError) Error() string { return fmt.Sprintf("stun: redirected to %v", e.Servers) }

// A Client makes transactions: a request, sent until it is answered. The zero
// value is ready; its fields must not change once it is used; its methods may
// be called from many goroutines, with a connection each.
//
// Over UDP and DTLS it sends again as RFC 8489 Section 6.2.1 says; over TCP
// and TLS it sends once.
type Client struct {
	// Credentials prove who asks. nil: nobody does. Short-term credentials go
	// with every request, long-term ones when the server asks for them.
	Credentials *Credentials
	Software    string // sent as SOFTWARE if it is not ""
	Fingerprint bool   // FINGERPRINT is sent, and answers must not have a wrong one

	RTO      time.Duration // until the first retransmission, doubled for each further. 0: 500 ms
	Requests int           // how many are sent at most (Rc). 0: 7
	LastWait int           // how many RTOs are waited after the last (Rm). 0: 16
	// StreamTimeout is how long an answer over TCP or TLS may take (Ti). 0:
	// 39.5 s.
	StreamTimeout time.Duration

	// Dial, if set, connects to the server that an authenticated error 300
	// names; domain is what its certificate is to be for, "" the same as
	// before. Binding follows then, to at most 4 servers.
	Dial func(ctx context.Context, server netip.AddrPort, domain string) (net.Conn, error)

	mu     sync.Mutex
	logins map[string]*login // by server; what it has asked for
}

func (c *Client) rto() time.Duration {
	if c.RTO > 0 {
		return c.RTO
	}
	return 500 * time.Millisecond
}

func orDefault(n, standard int) int {
	if n > 0 {
		return n
	}
	return standard
}

// Binding asks a server which address it sees: the address that a NAT between
// has given to conn. conn is read meanwhile; nobody else must.
func (c *Client) Binding(ctx context.Context, conn net.Conn) (netip.AddrPort, error) {
	tried := map[netip.AddrPort]bool{addrPortOf(conn.RemoteAddr()): true}
	for {
		m, err := c.Do(ctx, conn, &Message{Type: pion.BindingRequest})
		var to *AlternateError
		if err == nil {
			return MappedAddress(m)
		}
		if !errors.As(err, &to) || c.Dial == nil || len(tried) > 4 || tried[to.Servers[0]] {
			return netip.AddrPort{}, err // a server that was asked already is not asked again
		}
		tried[to.Servers[0]] = true
		next, err := c.Dial(ctx, to.Servers[0], to.Domain)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("stun: %w", err)
		}
		defer next.Close()
		conn = next
	}
}

// BindingPacket is Binding through a socket that talks to others too. What
// comes from elsewhere than the server meanwhile is lost; where that matters,
// use a Mux.
func (c *Client) BindingPacket(ctx context.Context, pc net.PacketConn, server netip.AddrPort) (netip.AddrPort, error) {
	m, err := c.Do(ctx, &peerConn{PacketConn: pc, peer: unmap(server)}, &Message{Type: pion.BindingRequest})
	if err != nil {
		return netip.AddrPort{}, err
	}
	return MappedAddress(m)
}

// MappedAddress returns the XOR-MAPPED-ADDRESS of a response, or else its
// MAPPED-ADDRESS.
func MappedAddress(m *Message) (netip.AddrPort, error) {
	var w stunwire.Message
	if err := w.Parse(m.Raw); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w", ErrNotSTUN, err)
	}
	return mapped(&w)
}

func mapped(w *stunwire.Message) (netip.AddrPort, error) {
	ap, err := netip.AddrPort{}, errors.New("stun: a response without an address")
	if v, ok := w.Get(stunwire.AttrXORMappedAddress); ok {
		ap, err = w.XORAddr(v)
	} else if v, ok := w.Get(stunwire.AttrMappedAddress); ok {
		ap, err = w.Addr(v)
	}
	return unmap(ap), err
}

func unmap(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Do sends a request and returns the success response to it. Of req the type
// and the attributes are taken, but for those that the Client adds by itself:
// credentials, SOFTWARE, FINGERPRINT; every try has a transaction id of its
// own. Challenges for credentials are answered. An error response is a
// *ResponseError or *AlternateError. conn is read meanwhile; nobody else must.
//
// An ended ctx ends the transaction. conn has no read deadline afterwards.
func (c *Client) Do(ctx context.Context, conn net.Conn, req *Message) (*Message, error) {
	defer conn.SetReadDeadline(time.Time{})
	key := conn.RemoteAddr().Network() + " " + conn.RemoteAddr().String()
	l := c.login(key)
	for tries := 0; ; tries++ {
		t, err := c.newTransaction(req, l)
		if err != nil {
			return nil, err
		}
		if err := t.run(ctx, conn); err != nil {
			return nil, err
		}
		if t.code == 401 || t.code == 438 {
			next, err := c.Credentials.answer(&t.response, l, t.code)
			if err != nil {
				return nil, err
			}
			if next != nil && tries < 4 {
				l = next
				c.keep(key, l)
				continue
			}
		}
		if t.code == 0 && l != nil {
			c.keep(key, l.proven(&t.response))
		}
		return t.result()
	}
}

// login returns what is known of a server. nil: nothing.
func (c *Client) login(key string) *login {
	if c.Credentials == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.logins[key]; l != nil || !c.Credentials.ShortTerm {
		return l
	}
	return c.Credentials.shortTerm()
}

func (c *Client) keep(key string, l *login) {
	const most = 64
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.logins == nil {
		c.logins = make(map[string]*login)
	}
	for old := range c.logins {
		if len(c.logins) < most {
			break
		}
		delete(c.logins, old) // any: it is only asked again
	}
	c.logins[key] = l
}

// peerConn is a net.PacketConn that talks to one peer.
type peerConn struct {
	net.PacketConn
	peer netip.AddrPort
}

func (c *peerConn) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.peer) }

func (c *peerConn) Write(b []byte) (int, error) { return c.WriteTo(b, c.RemoteAddr()) }

func (c *peerConn) Read(b []byte) (int, error) {
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil || addrPortOf(from) == c.peer {
			return n, err
		}
	}
}
