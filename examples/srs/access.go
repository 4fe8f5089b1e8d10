package main

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/runnel-media/runnel/auth"
)

// gatekeeper decides by the virtual host's security and refer.
type gatekeeper struct{ set *settings }

func (g gatekeeper) Authorize(_ context.Context, r *auth.Request) (*auth.Grant, error) {
	v := g.set.vhost(r.VHost)
	switch {
	case r.Action != auth.Publish && r.Action != auth.Play:
		return nil, auth.ErrDenied
	case !v.enabled:
		return nil, fmt.Errorf("%w: the virtual host is off", auth.ErrDenied)
	case r.Protocol == "srt" && !v.srt:
		return nil, fmt.Errorf("%w: the virtual host has no SRT", auth.ErrDenied)
	case (r.Protocol == "whip" || r.Protocol == "whep") && !v.rtc:
		return nil, fmt.Errorf("%w: the virtual host has no WebRTC", auth.ErrDenied)
	case !v.rules.allow(r.Action, r.Remote.Addr()):
		return nil, fmt.Errorf("%w: security", auth.ErrDenied)
	case !v.refer.allow(r.Action, r.PageURL):
		return nil, fmt.Errorf("%w: refer", auth.ErrDenied)
	case r.Action == auth.Publish && strings.HasPrefix(r.Protocol, "http") && r.Origin != "":
		// A page of any site could publish through a browser of this network.
		return nil, fmt.Errorf("%w: from a page", auth.ErrDenied)
	}
	return &auth.Grant{User: ""}, nil
}

// rules are those of security. nil: it is off.
type rules struct{ list []rule }

type rule struct {
	allow  bool
	action auth.Action
	all    bool
	addrs  auth.IPRange
}

// allow decides as SRS does: without a rule nobody may; then those not who are
// denied; then, if there is any rule that allows, those alone who one allows.
func (s *rules) allow(action auth.Action, addr netip.Addr) bool {
	if s == nil {
		return true
	}
	if len(s.list) == 0 {
		return false
	}
	only, allowed := false, false
	for _, r := range s.list {
		fits := r.action == action && (r.all || addr.IsValid() && r.addrs.Contains(addr))
		if !r.allow && fits {
			return false
		}
		only = only || r.allow
		allowed = allowed || r.allow && fits
	}
	return allowed || !only
}

// refer are the hosts whose pages may publish and play. nil: it is off.
type refer struct{ all, publish, play []string }

func (f *refer) allow(action auth.Action, page string) bool {
	if f == nil {
		return true
	}
	of := f.play
	if action == auth.Publish {
		of = f.publish
	}
	return fromHost(f.all, page) && fromHost(of, page)
}

// fromHost reports whether a page is of one of the hosts, or one below it. Of no
// hosts every page is.
func fromHost(hosts []string, page string) bool {
	if len(hosts) == 0 {
		return true
	}
	u, err := url.Parse(page)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	for _, h := range hosts {
		h = strings.ToLower(strings.TrimPrefix(h, "."))
		if h != "" && (host == h || strings.HasSuffix(host, "."+h)) {
			return true
		}
	}
	return false
}

// vhost returns the virtual host of a request.
func (s *settings) vhost(name string) *vhost {
	for _, v := range s.vhosts[1:] {
		if v.name == name {
			return v
		}
	}
	return s.vhosts[0]
}

// choose is which virtual host is meant, as SRS has it: the one that is named, or
// else the host, if it is configured, or else the default one.
func (s *settings) choose(host, named string) string {
	if named == "" {
		named = host
	}
	return s.vhost(named).name
}

// place takes a hub key apart.
func (s *settings) place(key string) (v *vhost, app, name string) {
	v = s.vhosts[0]
	if first, rest, ok := strings.Cut(key, "/"); ok {
		if other := s.vhost(first); other.name != "" {
			v, key = other, rest
		}
	}
	i := strings.LastIndexByte(key, '/')
	return v, key[:max(i, 0)], key[i+1:]
}
