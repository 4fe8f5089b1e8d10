package udp

import (
	"fmt"
	"iter"
	"net/netip"
)

// A Packet is what one read gave: a datagram, or several of one sender that
// arrived back to back.
type Packet struct {
	Data []byte
	Addr netip.AddrPort // who sent it; never IPv4-mapped

	// Segment, if > 0, says that Data holds several datagrams of that size, of
	// which only the last may be shorter.
	Segment int

	// Mark is what the IP header said. Zero unless Options.Marks asks for it.
	Mark Mark

	front []byte // ends where Data begins, and has the capacity for it
}

// Front returns n bytes before Data, to write a header to: a Batch that is
// given both sends them as one piece. nil: there is no room. They may be used
// as long as Data.
func (p *Packet) Front(n int) []byte {
	if n > len(p.front) {
		return nil
	}
	at := len(p.front) - n
	return p.front[at:]
}

// Datagrams returns the datagrams of the packet in the order of their arrival.
func (p *Packet) Datagrams() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		rest := p.Data
		for p.Segment > 0 && len(rest) > p.Segment {
			if !yield(rest[:p.Segment:p.Segment]) {
				return
			}
			rest = rest[p.Segment:]
		}
		yield(rest)
	}
}

// Len returns the number of datagrams.
func (p *Packet) Len() int {
	if p.Segment <= 0 || len(p.Data) <= p.Segment {
		return 1
	}
	return (len(p.Data) + p.Segment - 1) / p.Segment
}

// A Mark is what can be passed on of an IP header. The zero value is the
// socket's default.
type Mark struct {
	TOS uint8 // type of service or traffic class: DSCP and, in the low two bits, ECN
	TTL uint8 // time to live or hop limit
}

// An ICMPError is a report of the network on a datagram that was sent.
type ICMPError struct {
	Peer netip.AddrPort // where the datagram went
	From netip.Addr     // who reports; zero if unknown
	V6   bool           // Type and Code are ICMPv6's
	Type uint8
	Code uint8
	MTU  uint32 // of "fragmentation needed" and "packet too big", else 0
}

func (e *ICMPError) Error() string {
	return fmt.Sprintf("udp: ICMP type %d, code %d about %v", e.Type, e.Code, e.Peer)
}

// A Handler gets what a Loop reads of one Conn. A Handler with a method
// HandleICMP(*ICMPError) gets the reports of the network too, if Options.ICMP
// was set for the Conn. It must not keep the argument.
type Handler interface {
	// HandlePackets gets one packet or more. The slice is the loop's; the data
	// may be read until the loop's Flush has returned.
	HandlePackets(ps []Packet)
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(ps []Packet)

// HandlePackets calls f.
func (f HandlerFunc) HandlePackets(ps []Packet) { f(ps) }

type icmpHandler interface{ HandleICMP(e *ICMPError) }

// maxDatagram is more than any datagram, and any run of them that the system
// hands over at once, has.
const maxDatagram = 1 << 16
