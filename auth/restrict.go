package auth

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/runnel-media/runnel/internal/ipset"
)

// ErrPolicy is an ErrDenied of a rule that holds for everybody, whoever they
// are: an address, an origin, too many attempts.
var ErrPolicy = fmt.Errorf("%w by policy", ErrDenied)

// Addresses allow peers by their IP address, and grant nothing else: put it
// into All, before what identifies them. Deny wins over Allow. Addresses are
// compared in canonical form: an IPv4-mapped address is the IPv4 address, and
// zones do not count. A peer without an address is refused.
//
// Its fields are set before it is used; it must not be copied after.
type Addresses struct {
	Allow []IPRange // none: everybody who is not denied
	Deny  []IPRange

	once        sync.Once
	allow, deny ipset.Set
}

// Authorize implements Authorizer.
func (a *Addresses) Authorize(_ context.Context, r *Request) (*Grant, error) {
	if !a.Allows(r.Remote.Addr()) {
		return nil, fmt.Errorf("%w: address", ErrPolicy)
	}
	return nil, nil
}

// Allows reports whether an address may.
func (a *Addresses) Allows(addr netip.Addr) bool {
	a.once.Do(func() { a.allow, a.deny = compile(a.Allow), compile(a.Deny) })
	return addr.IsValid() && !a.deny.Contains(addr) && (len(a.Allow) == 0 || a.allow.Contains(addr))
}

func compile(list []IPRange) ipset.Set {
	ranges := make([]ipset.Range, len(list))
	for i, r := range list {
		ranges[i] = ipset.Range{From: r.From, To: r.To}
	}
	return ipset.New(ranges...)
}

// Origins allow peers by the web page that they play or publish on: HTTP's
// Origin and Referer, RTMP's pageUrl. It keeps other sites from embedding a
// stream; programs say what they like. It grants nothing else: put it into All.
type Origins struct {
	// Hosts are host names, "example.org", with all names below it as
	// "*.example.org". Ports and schemes do not count.
	Hosts []string
	// AllowNone allows who names no page, as players and encoders that are no
	// browsers do.
	AllowNone bool
}

// Authorize implements Authorizer. If both a page and an origin are named, both
// must be allowed.
func (o *Origins) Authorize(_ context.Context, r *Request) (*Grant, error) {
	named := false
	for _, s := range []string{r.Origin, r.PageURL} {
		if s == "" {
			continue
		}
		named = true
		u, err := url.Parse(s)
		if err != nil || !o.has(u.Hostname()) {
			return nil, fmt.Errorf("%w: origin", ErrPolicy)
		}
	}
	if !named && !o.AllowNone {
		return nil, fmt.Errorf("%w: no origin", ErrPolicy)
	}
	return nil, nil
}

func (o *Origins) has(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" {
		return false
	}
	for _, h := range o.Hosts {
		h = strings.ToLower(h)
		if parent, ok := strings.CutPrefix(h, "*."); ok && strings.HasSuffix(host, "."+parent) || h == host {
			return true
		}
	}
	return false
}
