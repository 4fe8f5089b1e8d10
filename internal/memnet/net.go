// Package memnet is a TCP-like network in memory, for tests.
//
// Everything blocks on sync.Cond and timers only, so that in a bubble of
// testing/synctest connections, deadlines, latency and bandwidth run on the
// bubble's virtual clock. Make the Net inside the bubble that uses it.
package memnet

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// DefaultBuffer is the capacity of one direction of a connection in bytes
// unless Net.Buffer says otherwise.
const DefaultBuffer = 64 << 10

// maxBacklog bounds the connections that wait for Accept, as a kernel does.
const maxBacklog = 4096

// firstEphemeral is the first port that ":0" and Dial hand out.
const firstEphemeral = 49152

// Net is a network of its own: what listens on one is not seen on another.
// The zero value is ready to use. Its methods are safe for concurrent use.
type Net struct {
	// Set before the first Dial.
	Buffer    int           // bytes that each direction holds before Write blocks, 0: DefaultBuffer
	Latency   time.Duration // one-way delay of data and of the end of the stream; Dial takes twice that
	Bandwidth int           // bytes a second that one direction carries, 0: no limit

	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
	hosts     map[string]netip.Addr // names seen so far
	conns     map[*conn]struct{}
	port      uint16 // the last one handed out
}

// New returns a network without latency and with DefaultBuffer.
func New() *Net { return new(Net) }

var (
	loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	wildcard = netip.IPv4Unspecified()
)

// Listen listens on addr, "host:port". An empty or unspecified host takes
// connections to every host, and port 0 (or an empty addr) picks a free one.
// A host that is no IP address and not localhost is given an address of its
// own in 127.0.1.0/24 when it is first used.
//
// The listener's Addr is a *net.TCPAddr which Dial accepts.
func (n *Net) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, err := n.resolve(addr)
	if err == nil && at.Port() == 0 {
		at, err = n.freePort(at.Addr())
	}
	if err == nil && n.listeners[at] != nil {
		err = syscall.EADDRINUSE
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: addrOf(at), Err: err}
	}
	l := &listener{net: n, at: at}
	l.wake.L = &l.mu
	if n.listeners == nil {
		n.listeners = make(map[netip.AddrPort]*listener)
	}
	n.listeners[at] = l
	return l, nil
}

// Dial connects to addr from 127.0.0.1. The network must be "tcp", "tcp4" or
// "tcp6". It fails with ECONNREFUSED if nobody listens. Its signature is that
// of net.Dialer.DialContext.
func (n *Net) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
		return n.DialFrom(ctx, "", addr)
	}
	return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
}

// DialFrom connects to addr as the peer from, an IP address, a host name as
// in Listen, or either with a port: the listener's side sees it as the remote
// address. An empty from is 127.0.0.1.
func (n *Net) DialFrom(ctx context.Context, from, addr string) (net.Conn, error) {
	fail := func(at netip.AddrPort, err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: addrOf(at), Err: err}
	}
	if n.Latency > 0 { // the handshake's round trip
		t := time.NewTimer(2 * n.Latency)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return fail(netip.AddrPort{}, err)
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	remote, err := n.resolve(addr)
	if err != nil {
		return fail(remote, err)
	}
	if remote.Addr() == wildcard {
		remote = netip.AddrPortFrom(loopback, remote.Port())
	}
	local, err := n.source(from)
	if err != nil {
		return fail(remote, err)
	}
	l := n.listeners[remote]
	if l == nil {
		l = n.listeners[netip.AddrPortFrom(wildcard, remote.Port())]
	}
	if l == nil {
		return fail(remote, syscall.ECONNREFUSED)
	}

	up, down := n.pipe(), n.pipe()
	client := &conn{net: n, local: local, remote: remote, in: down, out: up}
	server := &conn{net: n, local: remote, remote: local, in: up, out: down}
	if !l.offer(server) {
		return fail(remote, syscall.ECONNREFUSED)
	}
	if n.conns == nil {
		n.conns = make(map[*conn]struct{})
	}
	n.conns[client] = struct{}{}
	n.conns[server] = struct{}{}
	return client, nil
}

// HTTPClient returns a client that dials into n, whatever the URL's host. Call
// its CloseIdleConnections, or n.Close, at the end of a synctest bubble: idle
// connections hold goroutines.
func (n *Net) HTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: n.Dial}}
}

// Close closes every listener and every connection. The network can be used
// again afterwards.
func (n *Net) Close() error {
	n.mu.Lock()
	listeners, conns := maps.Clone(n.listeners), maps.Clone(n.conns)
	n.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	for c := range conns {
		c.Close()
	}
	return nil
}

func (n *Net) pipe() *pipe {
	size := n.Buffer
	if size <= 0 {
		size = DefaultBuffer
	}
	return newPipe(size, n.Latency, n.Bandwidth)
}

// resolve turns "host:port" into an address. n.mu is held.
func (n *Net) resolve(addr string) (netip.AddrPort, error) {
	if addr == "" {
		return netip.AddrPortFrom(wildcard, 0), nil
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return netip.AddrPort{}, &net.AddrError{Err: "invalid port", Addr: addr}
	}
	ip, err := n.host(host)
	return netip.AddrPortFrom(ip, uint16(port)), err
}

// source turns DialFrom's from into an address with a port. n.mu is held.
func (n *Net) source(from string) (netip.AddrPort, error) {
	if _, _, err := net.SplitHostPort(from); err != nil {
		from = net.JoinHostPort(from, "0")
	}
	at, err := n.resolve(from)
	if err != nil {
		return at, err
	}
	ip := at.Addr()
	if ip == wildcard {
		ip = loopback
	}
	if at.Port() == 0 {
		return netip.AddrPortFrom(ip, n.nextPort()), nil
	}
	return netip.AddrPortFrom(ip, at.Port()), nil
}

// host returns the address of a host. n.mu is held.
func (n *Net) host(name string) (netip.Addr, error) {
	switch name {
	case "":
		return wildcard, nil
	case "localhost":
		return loopback, nil
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		if ip = ip.Unmap().WithZone(""); ip.IsUnspecified() {
			return wildcard, nil
		}
		return ip, nil
	}
	ip, ok := n.hosts[name]
	if !ok {
		if len(n.hosts) == 255 {
			return netip.Addr{}, fmt.Errorf("memnet: no address left for host %q", name)
		}
		if n.hosts == nil {
			n.hosts = make(map[string]netip.Addr)
		}
		ip = netip.AddrFrom4([4]byte{127, 0, 1, byte(len(n.hosts) + 1)})
		n.hosts[name] = ip
	}
	return ip, nil
}

// nextPort returns the next ephemeral port. Sources are not tracked, so a
// port comes up again after 16384 others. n.mu is held.
func (n *Net) nextPort() uint16 {
	if n.port++; n.port < firstEphemeral {
		n.port = firstEphemeral
	}
	return n.port
}

// freePort returns a port of ip that nobody listens on. n.mu is held.
func (n *Net) freePort(ip netip.Addr) (netip.AddrPort, error) {
	for range 1<<16 - firstEphemeral {
		at := netip.AddrPortFrom(ip, n.nextPort())
		if n.listeners[at] == nil {
			return at, nil
		}
	}
	return netip.AddrPort{}, syscall.EADDRINUSE
}

func addrOf(at netip.AddrPort) net.Addr {
	if !at.IsValid() {
		return nil
	}
	return net.TCPAddrFromAddrPort(at)
}
