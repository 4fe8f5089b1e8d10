package turn

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// A portSet is a set of ports that any number of goroutines may read and
// change without a lock.
type portSet [1 << 16 / 32]atomic.Uint32

func (p *portSet) has(port uint16) bool { return p[port/32].Load()>>(port%32)&1 != 0 }

// take adds port and reports whether it was not there.
func (p *portSet) take(port uint16) bool {
	bit := uint32(1) << (port % 32)
	return p[port/32].Or(bit)&bit == 0
}

func (p *portSet) free(port uint16) { p[port/32].And(^(uint32(1) << (port % 32))) }

// ownAddrs knows the addresses of this server, for the peer policy. Reading
// takes no lock: it happens for every packet to a peer at one of them.
type ownAddrs struct {
	table   atomic.Pointer[ownTable]
	version atomic.Uint64 // changes after kind's answers may have
	mu      sync.Mutex    // held while a new table is made
}

type ownTable struct {
	relays    []ownRelayIP
	listeners []netip.AddrPort // of one port, or of each local address for the unspecified one
	counts    map[netip.AddrPort]int
}

type ownRelayIP struct {
	ip       netip.Addr
	udp, tcp *portSet
}

// kind is the own function of peerRules.check.
func (o *ownAddrs) kind(peer netip.AddrPort) ownKind {
	t := o.table.Load()
	if t == nil {
		return ownNone
	}
	if peer.Port() != 0 && slices.Contains(t.listeners, peer) {
		return ownListener
	}
	for i := range t.relays {
		r := &t.relays[i]
		if r.ip != peer.Addr() {
			continue
		}
		if peer.Port() == 0 || r.udp.has(peer.Port()) || r.tcp.has(peer.Port()) {
			return ownRelay
		}
		return ownRelayIdle
	}
	return ownNone
}

// ports returns the sets of a relay address, which it makes if need be.
func (o *ownAddrs) ports(ip netip.Addr) ownRelayIP {
	find := func() (ownRelayIP, bool) {
		if t := o.table.Load(); t != nil {
			for _, r := range t.relays {
				if r.ip == ip {
					return r, true
				}
			}
		}
		return ownRelayIP{}, false
	}
	if r, ok := find(); ok {
		return r
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if r, ok := find(); ok {
		return r
	}
	r := ownRelayIP{ip: ip, udp: new(portSet), tcp: new(portSet)}
	t := o.copy()
	t.relays = append(t.relays, r)
	o.table.Store(t)
	return r
}

// addRelay and removeRelay follow the relay sockets: local is where one is
// bound, public what clients are told.
func (o *ownAddrs) addRelay(tcp bool, local, public netip.AddrPort) {
	for _, a := range [...]netip.AddrPort{local, public} {
		o.ports(a.Addr()).of(tcp).take(a.Port())
	}
	o.version.Add(1)
}

func (o *ownAddrs) removeRelay(tcp bool, local, public netip.AddrPort) {
	for _, a := range [...]netip.AddrPort{local, public} {
		o.ports(a.Addr()).of(tcp).free(a.Port())
	}
	o.version.Add(1)
}

func (r ownRelayIP) of(tcp bool) *portSet {
	if tcp {
		return r.tcp
	}
	return r.udp
}

// addListener makes an address known as one that clients connect to, until
// the function that it returns is called. The unspecified address stands for
// every address that the machine has now.
func (o *ownAddrs) addListener(a netip.AddrPort) (remove func()) {
	if !a.IsValid() {
		return func() {} // an in-memory socket has no address that a peer could have
	}
	list := []netip.AddrPort{netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}
	if a.Addr().IsUnspecified() {
		list = list[:0]
		addrs, _ := net.InterfaceAddrs() // without them, those that the peer policy refuses anyway are left
		for _, i := range addrs {
			if n, ok := i.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					list = append(list, netip.AddrPortFrom(ip.Unmap(), a.Port()))
				}
			}
		}
	}
	o.count(list, 1)
	return func() { o.count(list, -1) }
}

func (o *ownAddrs) count(list []netip.AddrPort, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.copy()
	for _, a := range list {
		if t.counts[a] += n; t.counts[a] <= 0 {
			delete(t.counts, a)
		}
	}
	t.listeners = t.listeners[:0]
	for a := range t.counts {
		t.listeners = append(t.listeners, a)
	}
	o.table.Store(t)
	o.version.Add(1)
}

// copy returns a table that may be changed; mu is held.
func (o *ownAddrs) copy() *ownTable {
	t := &ownTable{counts: make(map[netip.AddrPort]int)}
	if old := o.table.Load(); old != nil {
		t.relays = slices.Clone(old.relays)
		for a, n := range old.counts {
			t.counts[a] = n
		}
		t.listeners = slices.Clone(old.listeners)
	}
	return t
}
