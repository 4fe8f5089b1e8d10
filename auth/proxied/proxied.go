// Package proxied finds out who peers behind reverse proxies and load balancers
// are. What proxies say counts if it is they who say it: addresses in headers
// of anybody else are forged, and are not looked at.
//
//	proxies := &proxied.Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
//	web := &http.Server{Handler: proxies.Handler(handler)}
//	err = in.ServeRTMP(proxies.Listen(ln), out) // PROXY protocol
package proxied

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/proxyproto"
)

// The headers that Proxies can read.
const (
	XForwardedFor = "X-Forwarded-For"
	Forwarded     = "Forwarded" // RFC 7239
)

// Proxies are those whose word counts. The zero value trusts nobody. Its fields
// must not change once it is in use.
type Proxies struct {
	// Trusted are the networks that the proxies' connections come from.
	// IPv4-mapped prefixes are IPv4 ones.
	Trusted []netip.Prefix
	// Header is the one that the proxies write: XForwardedFor ("" too) or
	// Forwarded. The other one is not looked at: proxies pass on what clients
	// have put there.
	Header string
	// HeaderTimeout is how long a proxy may take to a PROXY header. 0: 5 s.
	HeaderTimeout time.Duration
}

// Trusts reports whether a is a proxy's address.
func (p *Proxies) Trusts(a netip.Addr) bool {
	return (&proxyproto.Options{Trusted: p.Trusted}).Trusts(a)
}

// Listen returns a Listener whose connections have the addresses that proxies
// say they have, by the PROXY protocol of either version. Connections of a
// trusted proxy have to begin with its header; those of anybody else are handed
// out as they are. It owns l, and belongs below TLS and limit.Limiter's Listen.
func (p *Proxies) Listen(l net.Listener) net.Listener {
	if len(p.Trusted) == 0 {
		return l
	}
	return proxyproto.Listen(l, proxyproto.Options{Trusted: p.Trusted, Timeout: p.HeaderTimeout})
}

// Handler gives next requests whose RemoteAddr is the client's, where proxies
// passed them on: of the chain of addresses in the header the last that is not
// a proxy's. The header itself stays, for those who want to know that there was
// one. A header that can't be read leaves the proxy's own address.
func (p *Proxies) Handler(next http.Handler) http.Handler {
	if len(p.Trusted) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, ok := p.client(r); ok {
			r2 := *r
			r2.RemoteAddr = a.String()
			r = &r2
		}
		next.ServeHTTP(w, r)
	})
}

const (
	maxHeader = 4 << 10 // bytes of all its lines
	maxChain  = 32
)

// client returns where a request comes from, if the proxies say it.
func (p *Proxies) client(r *http.Request) (netip.AddrPort, bool) {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !p.Trusts(at.Addr()) {
		return netip.AddrPort{}, false
	}
	name, parse := XForwardedFor, parseHop
	if p.Header == Forwarded {
		name, parse = Forwarded, parseForwarded
	}
	lines := r.Header.Values(name)
	if size(lines) > maxHeader {
		return netip.AddrPort{}, false
	}
	hops := strings.Split(strings.Join(lines, ","), ",")
	found := netip.AddrPort{}
	for n := 0; n < len(hops) && n < maxChain; n++ {
		hop, ok := parse(strings.TrimSpace(hops[len(hops)-1-n]))
		if !ok {
			break // nobody knows who wrote what is before it
		}
		found = hop
		if !p.Trusts(hop.Addr()) {
			break
		}
	}
	return found, found.IsValid()
}

func size(lines []string) (n int) {
	for _, l := range lines {
		n += len(l) + 1
	}
	return n
}

// parseForwarded reads an element of RFC 7239: pairs, of which one is "for".
func parseForwarded(element string) (netip.AddrPort, bool) {
	for pair := range strings.SplitSeq(element, ";") {
		key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || !strings.EqualFold(key, "for") {
			continue
		}
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		return parseHop(value)
	}
	return netip.AddrPort{}, false
}

// parseHop reads an address, with a port or without: "192.0.2.1",
// "192.0.2.1:5000", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:5000".
func parseHop(s string) (netip.AddrPort, bool) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err != nil {
			return netip.AddrPort{}, false
		}
		ap = netip.AddrPortFrom(a, 0)
	}
	if ap.Addr().Zone() != "" {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), true
}
