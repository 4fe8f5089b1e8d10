package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/runnel-media/runnel/turn"
)

// An endpoint is an address of -listen or -tls.
type endpoint struct {
	netip.AddrPort
	secure   bool
	udp, tcp bool
}

// endpoints resolves -listen and -tls: "HOST:PORT", and "/udp" or "/tcp" for
// one of them only. No host means every address of the machine, a socket each,
// so that answers and relays have the address that the client has spoken to.
func (o *options) endpoints() (all []endpoint, err error) {
	add := func(list []string, secure bool) error {
		for _, s := range list {
			address, only, restricted := strings.Cut(s, "/")
			e := endpoint{secure: secure, udp: !restricted || only == "udp", tcp: !restricted || only == "tcp"}
			if !e.udp && !e.tcp {
				return fmt.Errorf("%s: udp or tcp stands behind the slash", s)
			}
			a, err := net.ResolveTCPAddr("tcp", address)
			if err != nil {
				return err
			}
			if ip := a.AddrPort().Addr().Unmap(); ip.IsValid() && !ip.IsUnspecified() {
				e.AddrPort = netip.AddrPortFrom(ip, uint16(a.Port))
				all = append(all, e)
				continue
			}
			for _, ip := range localAddrs() {
				if v4 := a.IP.To4() != nil; v4 && !ip.Is4() {
					continue
				}
				e.AddrPort = netip.AddrPortFrom(ip, uint16(a.Port))
				all = append(all, e)
			}
		}
		return nil
	}
	if err := add(o.listen, false); err != nil {
		return nil, fmt.Errorf("-listen: %w", err)
	}
	if err := add(o.tls, true); err != nil {
		return nil, fmt.Errorf("-tls: %w", err)
	}
	return all, nil
}

// localAddrs are the machine's addresses but link-local ones.
func localAddrs() (addrs []netip.Addr) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && !p.Addr().IsLinkLocalUnicast() {
			addrs = append(addrs, p.Addr().Unmap())
		}
	}
	return addrs
}

// listen opens all sockets and serves them.
func (s *server) listen() error {
	all, err := s.options.endpoints()
	if err != nil {
		return err
	}
	var secure *tls.Config
	if s.options.cert != "" {
		if secure, err = s.options.tlsConfig(s.certs); err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(e endpoint) bool { return e.secure && e.udp }) {
			s.turn.DTLS = secure
		}
	}
	if s.turn.Proxies, err = s.options.proxies(); err != nil {
		return err
	}
	if s.options.rfc5780 {
		if all, err = s.discovery(all); err != nil {
			return fmt.Errorf("-rfc5780: %w", err)
		}
	}
	for _, e := range all {
		if err := s.open(e, secure); err != nil {
			return err
		}
		s.listening = append(s.listening, e.String())
	}
	return nil
}

// open opens one endpoint: a UDP socket for each core, and a TCP listener for
// plain connections and TLS.
func (s *server) open(e endpoint, secure *tls.Config) error {
	ctx, address := context.Background(), e.String()
	if e.udp {
		sockets, err := turn.ListenPackets(ctx, "udp", address, 0)
		if err != nil {
			return err
		}
		for _, pc := range sockets {
			s.serve(address, func() error { return s.turn.ServePacket(pc) })
		}
	}
	if e.tcp {
		l, err := turn.Listen(ctx, "tcp", address, &turn.ListenOptions{
			TLS: secure, TLSOnly: e.secure, Proxies: s.turn.Proxies, Log: s.log.Logger,
		})
		if err != nil {
			return err
		}
		s.serve(address, func() error { return s.turn.Serve(l) })
	}
	return nil
}

// tlsConfig is for TLS and DTLS. The certificate can change under it.
func (o *options) tlsConfig(c *certificates) (*tls.Config, error) {
	t := &tls.Config{
		MinVersion:     map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[o.tlsMin],
		NextProtos:     []string{"stun.turn", "stun.nat-discovery"}, // RFC 7443
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
	for _, name := range o.ciphers {
		found := false
		for _, suite := range tls.CipherSuites() {
			if suite.Name == name {
				t.CipherSuites, found = append(t.CipherSuites, suite.ID), true
			}
		}
		if !found {
			return nil, fmt.Errorf("-cipher %s: not known, or not safe", name)
		}
	}
	return t, nil
}

// proxies are the prefixes of -proxy-from.
func (o *options) proxies() (trusted []netip.Prefix, err error) {
	for _, s := range o.proxyFrom {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil {
				return nil, fmt.Errorf("-proxy-from: %w", err)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		trusted = append(trusted, p)
	}
	return trusted, nil
}

// certificates holds the certificate of two files that may be read again.
type certificates struct {
	cert, key string
	current   atomic.Pointer[tls.Certificate]
}

func (c *certificates) load() error {
	if c.cert == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	c.current.Store(&pair)
	return nil
}
