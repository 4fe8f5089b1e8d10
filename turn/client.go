package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A Client makes allocations on a TURN server (RFC 8656, and RFC 5766 servers):
// addresses of the server from which the client sends, and at which it
// receives. Every allocation has a transport connection of its own. The fields
// must not be changed once it is in use; it may be used by many goroutines at
// once and holds no resources itself.
type Client struct {
	// Server is "host:port". Without a port it is 3478, and 5349 for "tls"
	// and "dtls".
	Server string

	// Transport to the server: "udp", which "" means too, "tcp", "tls" or
	// "dtls". AllocateTCP needs "tcp" or "tls".
	Transport string

	// TLS configures "tls" and "dtls". Its ServerName is by default the host
	// of Server, its NextProtos "stun.turn" (RFC 7443). For "dtls" its
	// Certificates, RootCAs, ServerName, InsecureSkipVerify, NextProtos and
	// VerifyPeerCertificate count.
	TLS *tls.Config

	// Username and Password are the long-term credential. With a server that
	// offers RFC 8489's algorithms they are proved with SHA-256, and the name
	// goes out hashed if the server can take that.
	Username, Password string

	// Token, if set, is asked for an OAuth access token (RFC 7635) in place of
	// Username and Password. Server is the name that the server gave to the
	// authorization server's side, Realm its realm.
	Token func(ctx context.Context, server, realm string) (*AccessToken, error)

	// Origin goes out as ORIGIN, for servers that choose a realm by it.
	Origin string

	// Dial makes the connections to the server, for network "udp" or "tcp";
	// nil: a net.Dialer. What it returns for "udp" must keep datagrams apart.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Log tells of refreshes that failed and of redirections; nil: nobody.
	Log *slog.Logger
}

// An AccessToken is what an authorization server of RFC 7635 hands out: the
// identifier of the key that it shares with the TURN server, the sealed token,
// and the session key that is sealed in it.
type AccessToken struct {
	KeyID string // "kid"
	Token []byte // opaque to the client
	Key   []byte // "mac_key"
}

// AllocateOptions say what is asked of the server. The zero value is an
// address of the server's choice for ten minutes at a time.
type AllocateOptions struct {
	// Lifetime that is asked for, in whole seconds. The allocation is
	// refreshed for as long as it is open; this is how long it outlives a
	// client that vanishes. 0: the server's choice.
	Lifetime time.Duration

	// Network is the family of the relayed address: "udp4", "udp6", "udp" or
	// "" for the server's choice, or "dual" for one of each (RFC 8656 Section
	// 7.2, ADDITIONAL-ADDRESS-FAMILY). AllocateTCP knows "tcp4", "tcp6",
	// "tcp" and "".
	Network string

	// EvenPort asks for an even port, ReserveNext for the next one, too, for
	// a later allocation with the ReservationToken of this one's PacketConn.
	EvenPort, ReserveNext bool
	ReservationToken      []byte

	// DontFragment asks that relayed packets carry the DF bit.
	DontFragment bool

	// Mobility asks for a ticket (RFC 8016), which PacketConn.Move needs.
	Mobility bool

	// Bandwidth caps the session, in kilobits a second. 0: not asked for.
	Bandwidth uint32

	// ICMP, if set, is called with ICMP errors that came back for what was
	// sent to a peer (RFC 8656 Section 11.5), from the goroutine that reads:
	// it must not block.
	ICMP func(peer netip.Addr, kind, code uint8, data uint32)
}

// IANA protocol numbers for REQUESTED-TRANSPORT.
const (
	protocolTCP = 6
	protocolUDP = 17
)

// Values of REQUESTED-ADDRESS-FAMILY and ADDITIONAL-ADDRESS-FAMILY.
const (
	familyIPv4 = stunwire.FamilyIPv4
	familyIPv6 = stunwire.FamilyIPv6
)

// maxRedirects bounds how many servers in a row may answer 300 (Try Alternate).
const maxRedirects = 5

// Allocate makes an allocation for UDP and returns it as a net.PacketConn. It
// blocks until the server has answered or ctx ends; ctx does not bound the life
// of what is returned. nil options are the zero ones. The error is an *Error
// where the server refused.
func (c *Client) Allocate(ctx context.Context, o *AllocateOptions) (*PacketConn, error) {
	if o == nil {
		o = &AllocateOptions{}
	}
	add, err := o.attributes(protocolUDP)
	if err != nil {
		return nil, err
	}
	p := newPacketConn(c, o)
	s, reply, err := c.allocate(ctx, p.handlers(), add)
	if err != nil {
		return nil, err
	}
	if err := p.start(s, reply); err != nil {
		s.close(err)
		return nil, err
	}
	return p, nil
}

// AllocateTCP makes an allocation for TCP (RFC 6062): Accept of the Listener
// takes connections that permitted peers make to the relayed address, and its
// Dial makes connections from there. It is otherwise like Allocate.
func (c *Client) AllocateTCP(ctx context.Context, o *AllocateOptions) (*Listener, error) {
	if c.Transport != "tcp" && c.Transport != "tls" {
		return nil, errors.New("turn: TCP allocations need the transport tcp or tls")
	}
	if o == nil {
		o = &AllocateOptions{}
	}
	add, err := o.attributes(protocolTCP)
	if err != nil {
		return nil, err
	}
	l := newListener(c)
	s, reply, err := c.allocate(ctx, l.handlers(), add)
	if err != nil {
		return nil, err
	}
	if err := l.p.start(s, reply); err != nil {
		s.close(err)
		return nil, err
	}
	return l, nil
}

// allocate connects to the server, or to where it sends us, and asks.
func (c *Client) allocate(ctx context.Context, h clientHandlers, add func(*stunwire.Builder)) (*clientSession, *clientReply, error) {
	target := clientTarget{address: c.Server}
	for range maxRedirects {
		s, err := c.connect(ctx, target, h)
		if err != nil {
			return nil, nil, err
		}
		reply, err := s.do(ctx, stunwire.Allocate, add)
		if err == nil {
			return s, reply, nil
		}
		s.close(err)
		redirect, ok := errors.AsType[*redirectError](err)
		if !ok {
			return nil, nil, err
		}
		c.log().Info("turn client: redirected", "from", target.address, "to", redirect.target.address)
		target = redirect.target
	}
	return nil, nil, errRedirects
}

// attributes checks the options and returns what adds them to an Allocate
// request.
func (o *AllocateOptions) attributes(protocol byte) (func(*stunwire.Builder), error) {
	var family byte
	dual := false
	network := map[byte]string{protocolUDP: "udp", protocolTCP: "tcp"}[protocol]
	switch o.Network {
	case "", network:
	case network + "4":
		family = familyIPv4
	case network + "6":
		family = familyIPv6
	case "dual":
		dual = true
	default:
		return nil, errors.New("turn: unknown network " + o.Network)
	}
	reserved := len(o.ReservationToken) > 0
	switch {
	case protocol == protocolTCP && (dual || o.EvenPort || o.ReserveNext || reserved || o.DontFragment || o.Mobility):
		return nil, errors.New("turn: an option that TCP allocations do not have") // RFC 6062 Section 4.1
	case reserved && (family != 0 || dual || o.EvenPort || o.ReserveNext):
		return nil, errors.New("turn: a reservation token fixes the address: no other option goes with it") // RFC 8656 Section 7.1
	case dual && (o.EvenPort || o.ReserveNext):
		return nil, errors.New("turn: dual allocations have no even port") // RFC 8656 Section 7.1
	case reserved && len(o.ReservationToken) != 8:
		return nil, errors.New("turn: a reservation token has 8 bytes")
	}
	return func(b *stunwire.Builder) {
		b.Add(stunwire.AttrRequestedTransport, []byte{protocol, 0, 0, 0})
		if o.Lifetime > 0 {
			b.AddUint32(stunwire.AttrLifetime, seconds(o.Lifetime))
		}
		if family != 0 {
			b.Add(stunwire.AttrRequestedAddressFamily, []byte{family, 0, 0, 0})
		}
		if dual {
			b.Add(stunwire.AttrAdditionalAddressFamily, []byte{familyIPv6, 0, 0, 0})
		}
		if o.EvenPort || o.ReserveNext {
			var r byte
			if o.ReserveNext {
				r = 0x80
			}
			b.Add(stunwire.AttrEvenPort, []byte{r})
		}
		if reserved {
			b.Add(stunwire.AttrReservationToken, o.ReservationToken)
		}
		if o.DontFragment {
			b.Add(stunwire.AttrDontFragment, nil)
		}
		if o.Mobility {
			b.Add(stunwire.AttrMobilityTicket, nil)
		}
		if o.Bandwidth > 0 {
			b.AddUint32(stunwire.AttrBandwidth, o.Bandwidth)
		}
	}, nil
}

// seconds is a duration on the wire, at least one.
func seconds(d time.Duration) uint32 {
	return uint32(min(max((d+time.Second-1)/time.Second, 1), 1<<32-1))
}

func (c *Client) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// lifetime reads how long the server keeps the allocation.
func (r *clientReply) lifetime() (time.Duration, error) {
	v, ok := r.Uint32(stunwire.AttrLifetime)
	if !ok {
		return 0, errors.New("turn: the server did not say for how long")
	}
	return time.Duration(v) * time.Second, nil
}

// relayed reads the relayed addresses, one or two, and the client's own as the
// server sees it.
func (r *clientReply) relayed() (relayed []netip.AddrPort, mapped netip.AddrPort, err error) {
	for a, v := range r.Each {
		switch a {
		case stunwire.AttrXORRelayedAddress:
			at, err := r.XORAddr(v)
			if err != nil || len(relayed) == 2 {
				return nil, mapped, errors.New("turn: bad relayed addresses")
			}
			relayed = append(relayed, at)
		case stunwire.AttrXORMappedAddress:
			if mapped, err = r.XORAddr(v); err != nil {
				return nil, mapped, errors.New("turn: bad mapped address")
			}
		}
	}
	if len(relayed) == 0 {
		return nil, mapped, errors.New("turn: the server gave no address")
	}
	return relayed, mapped, nil
}
