package stun

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	pion "github.com/pion/stun/v2"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// ErrNoDiscovery is what Discover returns for a server that does not do NAT
// behaviour discovery.
var ErrNoDiscovery = errors.New("stun: the server does not do NAT behaviour discovery")

// A Behavior says on what a NAT makes something depend (RFC 4787).
type Behavior int

// The behaviours. EndpointIndependent mapping lets a peer be told an address;
// the less filtering depends on, the easier peers get through.
const (
	Unknown Behavior = iota
	EndpointIndependent
	AddressDependent
	AddressAndPortDependent
)

// String is the behaviour in words of RFC 4787.
func (b Behavior) String() string {
	switch b {
	case EndpointIndependent:
		return "endpoint-independent"
	case AddressDependent:
		return "address-dependent"
	case AddressAndPortDependent:
		return "address and port-dependent"
	}
	return "unknown"
}

// A NAT is what Discover found out about the path to a server.
type NAT struct {
	Local      netip.AddrPort // of the socket; its address may be unspecified
	Mapped     netip.AddrPort // what the server sees
	Translated bool           // whether Mapped is none of this host's own
	Mapping    Behavior
	Filtering  Behavior
	// Hairpin says whether what is sent to Mapped from behind the NAT comes
	// in. Only with DiscoverOptions.Hairpin.
	Hairpin bool
}

// DiscoverOptions change Discover. nil stands for the zero value.
type DiscoverOptions struct {
	// Client makes the transactions. nil: one that gives up after 3 requests
	// and 3.5 seconds, since silence is one of the answers. Its credentials and
	// Dial are of no use here.
	Client *Client
	// Hairpin is another socket of this host, to send to the first one's
	// mapped address with. nil: not tested. It stays open.
	Hairpin net.PacketConn
	// Padding is how many bytes are added to requests and wanted in answers,
	// 1500 at most, to see whether fragments pass. 0: none.
	Padding int
}

// Discover finds out how the NAT between pc and a server with two addresses
// maps and filters (RFC 5780 Section 4). A packet filter counts as a NAT's. It
// takes 5 transactions at most, and one for Hairpin. Those that get no answer,
// which is what filtering is known by, take the Client's full time: 7 seconds
// in all at the worst, and 3.5 for Hairpin.
//
// pc must not have talked to the server's other address before, nor be read by
// anybody else meanwhile. It is left open and without a read deadline.
func Discover(ctx context.Context, pc net.PacketConn, server netip.AddrPort, o *DiscoverOptions) (*NAT, error) {
	d := discovery{pc: pc, server: unmap(server)}
	if o != nil {
		d.DiscoverOptions = *o
	}
	if d.Client == nil {
		d.Client = &Client{Requests: 3, LastWait: 4}
	}
	defer pc.SetReadDeadline(time.Time{})
	return d.run(ctx)
}

type discovery struct {
	DiscoverOptions
	pc     net.PacketConn
	server netip.AddrPort
	nat    NAT
}

func (d *discovery) run(ctx context.Context) (*NAT, error) {
	d.nat.Local = addrPortOf(d.pc.LocalAddr())
	m, _, err := d.ask(ctx, d.server, 0)
	if err != nil {
		return nil, err
	}
	other, err := d.first(m)
	if err != nil {
		return nil, err
	}
	// Filtering first: mapping is tested by talking to the other address, which
	// opens the filter to it.
	if d.nat.Filtering, err = d.filtering(ctx); err != nil {
		return nil, err
	}
	if d.nat.Mapping, err = d.mapping(ctx, other); err != nil {
		return nil, err
	}
	if d.Hairpin != nil {
		if d.nat.Hairpin, err = d.hairpin(ctx); err != nil {
			return nil, err
		}
	}
	return &d.nat, nil
}

// first takes the mapped address from the first answer, and returns the
// server's other address.
func (d *discovery) first(m *stunwire.Message) (other netip.AddrPort, err error) {
	if d.nat.Mapped, err = mapped(m); err != nil {
		return other, err
	}
	d.nat.Translated = !own(d.nat.Local, d.nat.Mapped)
	v, ok := m.Get(stunwire.AttrOtherAddress)
	if !ok {
		return other, ErrNoDiscovery
	}
	if other, err = m.Addr(v); err != nil {
		return other, fmt.Errorf("stun: %w", err)
	}
	other = unmap(other)
	if other.Addr() == d.server.Addr() || other.Port() == d.server.Port() || other.Addr().Is4() != d.server.Addr().Is4() {
		return other, fmt.Errorf("%w: its other address is %v", ErrNoDiscovery, other)
	}
	return other, nil
}

// own says whether an address is of this host, and of the socket.
func own(local, mapped netip.AddrPort) bool {
	if local.Port() != mapped.Port() {
		return false
	}
	if !local.Addr().IsUnspecified() {
		return local.Addr() == mapped.Addr()
	}
	addrs, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == mapped.Addr()
	})
}

const (
	changePort    = 2
	changeAddress = 4
)

// filtering is RFC 5780 Section 4.4.
func (d *discovery) filtering(ctx context.Context) (Behavior, error) {
	for _, test := range []struct {
		change uint32
		means  Behavior
	}{{changeAddress | changePort, EndpointIndependent}, {changePort, AddressDependent}} {
		_, from, err := d.ask(ctx, d.server, test.change)
		switch {
		case errors.Is(err, ErrTimeout):
		case err != nil:
			return Unknown, err
		case from == d.server:
			return Unknown, fmt.Errorf("%w: it answers from where it was told not to", ErrNoDiscovery)
		default:
			return test.means, nil
		}
	}
	return AddressAndPortDependent, nil
}

// mapping is RFC 5780 Section 4.3.
func (d *discovery) mapping(ctx context.Context, other netip.AddrPort) (Behavior, error) {
	if !d.nat.Translated {
		return EndpointIndependent, nil
	}
	var seen [2]netip.AddrPort
	for i, to := range []netip.AddrPort{netip.AddrPortFrom(other.Addr(), d.server.Port()), other} {
		m, _, err := d.ask(ctx, to, 0)
		if err == nil {
			seen[i], err = mapped(m)
		}
		if err != nil {
			return Unknown, err
		}
		if seen[0] == d.nat.Mapped {
			return EndpointIndependent, nil
		}
	}
	if seen[0] == seen[1] {
		return AddressDependent, nil
	}
	return AddressAndPortDependent, nil
}

// ask is one transaction. The answer may come from anywhere.
func (d *discovery) ask(ctx context.Context, to netip.AddrPort, change uint32) (*stunwire.Message, netip.AddrPort, error) {
	req := &Message{Type: pion.BindingRequest}
	if change != 0 {
		req.Add(pion.AttrChangeRequest, binary.BigEndian.AppendUint32(nil, change))
	}
	if d.Padding > 0 {
		req.Add(pion.AttrPadding, make([]byte, min((d.Padding+3)&^3, maxPadding)))
	}
	c := &anyConn{PacketConn: d.pc, to: to}
	t, err := d.Client.newTransaction(req, nil)
	if err != nil {
		return nil, c.from, err
	}
	if err := t.run(ctx, c); err != nil {
		return nil, c.from, err
	}
	_, err = t.result()
	var refused *ResponseError
	if errors.As(err, &refused) && refused.Code == 420 {
		err = ErrNoDiscovery
	}
	return &t.response, c.from, err
}

// hairpin is RFC 5780 Section 4.5: a request to the mapped address through the
// other socket either comes in or does not.
func (d *discovery) hairpin(ctx context.Context) (bool, error) {
	t, err := d.Client.newTransaction(&Message{Type: pion.BindingRequest}, nil)
	if err != nil {
		return false, err
	}
	through := &hairpinConn{PacketConn: d.pc, out: d.Hairpin, to: d.nat.Mapped, raw: t.raw}
	switch err := t.run(ctx, through); {
	case through.seen:
		return true, nil
	case errors.Is(err, ErrTimeout):
		return false, nil
	default:
		return false, err
	}
}

// anyConn sends to one address and reads from all.
type anyConn struct {
	net.PacketConn
	to, from netip.AddrPort
}

func (c *anyConn) RemoteAddr() net.Addr        { return net.UDPAddrFromAddrPort(c.to) }
func (c *anyConn) Write(b []byte) (int, error) { return c.WriteTo(b, c.RemoteAddr()) }
func (c *anyConn) Read(b []byte) (n int, err error) {
	n, from, err := c.ReadFrom(b)
	if err == nil {
		c.from = addrPortOf(from)
	}
	return n, err
}

// hairpinConn sends through one socket and reads from the other, until what
// was sent comes in.
type hairpinConn struct {
	net.PacketConn
	out  net.PacketConn
	to   netip.AddrPort
	raw  []byte
	seen bool
}

var errSeen = errors.New("stun: it came in")

func (c *hairpinConn) RemoteAddr() net.Addr        { return net.UDPAddrFromAddrPort(c.to) }
func (c *hairpinConn) Write(b []byte) (int, error) { return c.out.WriteTo(b, c.RemoteAddr()) }
func (c *hairpinConn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	if err == nil && string(b[:n]) == string(c.raw) {
		c.seen = true
		return 0, errSeen
	}
	return n, err
}
