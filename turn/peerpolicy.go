package turn

import (
	"net/netip"
	"slices"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/ipset"
)

// A PeerPolicy says which peers clients may exchange data with. The zero value
// is safe for a server on the Internet: peers at globally reachable unicast
// addresses only, and none of the server's own endpoints but relay addresses
// that are allocated at that moment.
//
// A peer address is judged in its canonical form, and with it every IPv4
// address that it carries inside (IPv4-mapped, -compatible and -translated,
// 6to4, Teredo, NAT64, ISATAP): one refused form refuses the peer. It is asked
// on CreatePermission, ChannelBind, Send and Connect. In this order:
//
//  1. no address, port 0 where a port is given, or one that Ports does not hold,
//     the unspecified addresses (0.0.0.0/8, ::): refused, always
//  2. Deny, of the policy or the realm: refused
//  3. the server's own listeners and the Endpoints: refused, unless AllowSelf
//  4. a relay address of the server on a port that is allocated: allowed
//  5. Allow, of the policy or the realm: allowed, special purpose or not
//  6. special purpose (IANA's registries, multicast, cloud metadata): refused,
//     unless the switch for it is on; metadata has none
//  7. a relay address of the server on any other port: refused, unless a
//     switch of 6 let the address pass
//  8. the rest: allowed, unless OnlyAllowed
type PeerPolicy struct {
	Allow []auth.IPRange // opens ranges that are refused by default
	Deny  []auth.IPRange // wins over Allow

	// Endpoints are services that no peer may be, wherever they are: the
	// host's admin and metrics ports, its databases. Port 0 is every port of
	// the address. The sockets that the Server itself listens on need not be
	// listed.
	Endpoints []netip.AddrPort

	OnlyAllowed bool // refuses what Allow does not hold, global or not

	// Ports are those that clients may send to; none: all. A permission, which
	// is for an address, is not refused for them: what is sent by it is.
	Ports []uint16

	AllowLoopback      bool // 127.0.0.0/8, ::1
	AllowPrivate       bool // RFC 1918, fc00::/7, 100.64.0.0/10
	AllowLinkLocal     bool // 169.254.0.0/16, fe80::/10, fec0::/10; not the metadata services there
	AllowMulticast     bool // 224.0.0.0/4, ff00::/8, 255.255.255.255
	AllowDocumentation bool // documentation and benchmarking
	AllowTunnels       bool // 6to4, Teredo, 64:ff9b:1::/48; what they carry is still judged
	AllowReserved      bool // the rest of what is not globally reachable
	AllowSelf          bool // the server's own listeners and Endpoints
}

// An ownKind says what one of the server's own addresses is used for.
type ownKind uint8

const (
	ownNone      ownKind = iota // not ours
	ownListener                 // a socket that clients, or operators, connect to
	ownRelay                    // a relay address and a port that is allocated
	ownRelayIdle                // a relay address and a port that is not allocated
)

// A peerDenied is why a peer was refused. It is an error that costs no
// allocation, and its text is fit for a metric's label.
type peerDenied uint8

// Values below ownDenied are ipset.Purposes.
const (
	peerDeniedByRule    peerDenied = 64 + iota // Deny
	peerDeniedOwn                              // the server itself, or one of Endpoints
	peerDeniedIdleRelay                        // a relay address where nothing is allocated
	peerDeniedNotListed                        // OnlyAllowed
	peerDeniedPort                             // port 0
)

func (d peerDenied) Error() string { return "turn: peer denied: " + d.String() }

// String returns the reason as one lower-case word, or two with a dash.
func (d peerDenied) String() string {
	switch d {
	case peerDeniedByRule:
		return "rule"
	case peerDeniedOwn:
		return "own-endpoint"
	case peerDeniedIdleRelay:
		return "idle-relay"
	case peerDeniedNotListed:
		return "not-listed"
	case peerDeniedPort:
		return "port"
	}
	return ipset.Purpose(d).String()
}

// peerRules is a PeerPolicy, or the PeerRules of a realm, made ready for check.
// It is immutable.
type peerRules struct {
	allow, deny ipset.Set
	anyPort     ipset.Set                   // Endpoints with port 0
	endpoints   map[netip.AddrPort]struct{} // the others
	open        [ipset.Invalid + 1]bool     // purposes that are allowed
	only, self  bool
	ports       []uint16 // sorted; none: all
}

// compile makes p ready. p may be changed afterwards.
func (p *PeerPolicy) compile() *peerRules {
	r := compileRules(p.Allow, p.Deny)
	var anyPort []ipset.Range
	for _, e := range p.Endpoints {
		a := e.Addr().Unmap().WithZone("")
		if e.Port() == 0 {
			anyPort = append(anyPort, ipset.Range{From: a, To: a})
			continue
		}
		if r.endpoints == nil {
			r.endpoints = make(map[netip.AddrPort]struct{})
		}
		r.endpoints[netip.AddrPortFrom(a, e.Port())] = struct{}{}
	}
	r.anyPort = ipset.New(anyPort...)
	r.only, r.self = p.OnlyAllowed, p.AllowSelf
	r.ports = slices.Sorted(slices.Values(p.Ports))
	r.open[ipset.Global] = true
	r.open[ipset.Loopback] = p.AllowLoopback
	r.open[ipset.Private], r.open[ipset.Shared] = p.AllowPrivate, p.AllowPrivate
	r.open[ipset.LinkLocal] = p.AllowLinkLocal
	r.open[ipset.Multicast], r.open[ipset.Broadcast] = p.AllowMulticast, p.AllowMulticast
	r.open[ipset.Documentation] = p.AllowDocumentation
	r.open[ipset.Tunnel], r.open[ipset.Translated] = p.AllowTunnels, p.AllowTunnels
	r.open[ipset.Reserved] = p.AllowReserved
	return r
}

// compileRules makes the lists of a realm ready, to be given to check as realm.
func compileRules(allow, deny []auth.IPRange) *peerRules {
	set := func(in []auth.IPRange) ipset.Set {
		out := make([]ipset.Range, len(in))
		for i, r := range in {
			out[i] = ipset.Range{From: r.From, To: r.To}
		}
		return ipset.New(out...)
	}
	return &peerRules{allow: set(allow), deny: set(deny)}
}

// check returns nil if peer may be one of a client's, a peerDenied if not.
// realm holds the rules of the client's realm and may be nil. own says what an
// address and port are to this server; it is called with canonical addresses
// and may be nil.
//
// anyPort says that peer's port is not looked at, as on CreatePermission, which
// is for an address: own is asked about port 0 then, which means "is this one
// of our relay addresses" (ownRelay or ownNone), and of the Endpoints those
// count that are for every port, so that Send has to ask again with the port.
//
// It does not allocate and takes a tenth of a microsecond or so.
func (r *peerRules) check(peer netip.AddrPort, anyPort bool, realm *peerRules, own func(netip.AddrPort) ownKind) error {
	var forms [ipset.MaxForms]netip.Addr
	n := ipset.Forms(peer.Addr(), &forms)
	if n == 0 {
		return peerDenied(ipset.Invalid)
	}
	port := peer.Port()
	if anyPort {
		port = 0
	} else if port == 0 {
		return peerDeniedPort
	} else if len(r.ports) > 0 {
		if _, listed := slices.BinarySearch(r.ports, port); !listed {
			return peerDeniedPort
		}
	}
	for _, a := range forms[:n] {
		if d := r.checkForm(netip.AddrPortFrom(a, port), anyPort, realm, own); d != 0 {
			return d
		}
	}
	return nil
}

// checkForm judges one form of an address. 0 is allowed.
func (r *peerRules) checkForm(peer netip.AddrPort, anyPort bool, realm *peerRules, own func(netip.AddrPort) ownKind) peerDenied {
	a := peer.Addr()
	purpose := ipset.PurposeOf(a)
	if purpose == ipset.Unspecified {
		return peerDenied(purpose)
	}
	if r.deny.Contains(a) || realm != nil && realm.deny.Contains(a) {
		return peerDeniedByRule
	}
	kind := ownNone
	if own != nil {
		kind = own(peer)
	}
	if !r.self {
		if kind == ownListener || r.anyPort.Contains(a) {
			return peerDeniedOwn
		}
		if len(r.endpoints) > 0 && !anyPort {
			if _, ok := r.endpoints[peer]; ok {
				return peerDeniedOwn
			}
		}
	}
	if kind == ownRelay {
		return 0
	}
	if r.allow.Contains(a) || realm != nil && realm.allow.Contains(a) {
		return 0
	}
	if !r.open[purpose] {
		return peerDenied(purpose)
	}
	if kind == ownRelayIdle && purpose == ipset.Global {
		return peerDeniedIdleRelay
	}
	if r.only {
		return peerDeniedNotListed
	}
	return 0
}
