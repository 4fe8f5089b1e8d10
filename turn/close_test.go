package turn

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// Close and Shutdown end, at whatever moment, while clients of every transport
// come, allocate, talk and leave. One that hangs is caught by the deadline.
func TestCloseUnderLoad(t *testing.T) {
	cfg := serverTLS(t)
	for round := range 12 {
		f := &fixture{t: t, server: &Server{
			Realm: "test.example", Auth: users(alice), DTLS: cfg, Relays: &RelayPorts{Addrs: []RelayAddr{{Listen: loopback}}},
		}}
		f.server.SetPolicy(&Policy{Peers: PeerPolicy{AllowLoopback: true}, UnauthenticatedRate: -1})
		pcs, err := ListenPackets(t.Context(), "udp", "127.0.0.1:0", 2)
		require.NoError(t, err)
		f.udp = addrPortOf(pcs[0].LocalAddr())
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		f.tcp = addrPortOf(ln.Addr())
		var serving, clients sync.WaitGroup
		for _, pc := range pcs {
			serving.Go(func() { f.check(f.server.ServePacket(pc)) })
		}
		serving.Go(func() { f.check(f.server.Serve(ln)) })
		stop := make(chan struct{})
		for k := range 12 {
			clients.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						f.restless(k, stop)
					}
				}
			})
		}
		time.Sleep(time.Duration(10+7*round) * time.Millisecond) // a moment, another each time
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			switch round % 3 {
			case 0:
				f.check(f.server.Close())
			case 1:
				_ = f.server.Shutdown(ctx) // whether somebody is left is not what this is about
			default: // both at once
				go func() { _ = f.server.Shutdown(ctx) }()
				f.check(f.server.Close())
			}
			serving.Wait()
		}()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			panic("the server does not end") // with the stacks of all
		}
		close(stop)
		clients.Wait()
		require.Zero(t, count(f.server))
	}
}

// restless is a client that does what clients do, in haste, and leaves in the
// middle of it. Nothing that it fails at matters.
func (f *fixture) restless(k int, stop <-chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	var conn net.Conn
	var err error
	d := net.Dialer{Timeout: 100 * time.Millisecond}
	switch k % 3 {
	case 0:
		conn, err = d.DialContext(ctx, "udp", f.udp.String())
	case 1:
		conn, err = d.DialContext(ctx, "tcp", f.tcp.String())
	default:
		var c *dtls.Conn
		if c, err = dtls.Dial("udp", net.UDPAddrFromAddrPort(f.udp), &dtls.Config{InsecureSkipVerify: true}); err == nil {
			if conn, err = c, c.HandshakeContext(ctx); err != nil {
				_ = c.Close()
			}
		}
	}
	if err != nil {
		return
	}
	defer conn.Close()
	c := &rawClient{t: f.t, conn: conn, stream: k%3 == 1, user: "alice", pass: "wonder"}
	exchange := func(method stunwire.Method, add func(*stunwire.Builder)) *stunwire.Message {
		if _, err := conn.Write(c.build(method, add)); err != nil || conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)) != nil {
			return nil
		}
		b := make([]byte, 2048)
		n, err := conn.Read(b)
		m := new(stunwire.Message)
		if err != nil || m.Parse(b[:n]) != nil {
			return nil
		}
		return m
	}
	network := byte(protocolUDP)
	if c.stream && k%2 == 0 {
		network = protocolTCP
	}
	m := exchange(stunwire.Allocate, transportAttr(network))
	if m == nil || code(m) != 401 {
		return
	}
	c.adopt(m)
	if m = exchange(stunwire.Allocate, transportAttr(network)); m == nil || code(m) != 0 {
		return
	}
	to := peerAttr(netip.AddrPortFrom(loopback, 9))
	exchange(stunwire.CreatePermission, to)
	exchange(stunwire.ChannelBind, with(channelAttr(0x4000), to))
	exchange(stunwire.Connect, to)
	_, _ = conn.Write(append(stunwire.AppendChannelHeader(nil, 0x4000, 4), "data"...))
	if k%4 == 0 {
		exchange(stunwire.Refresh, lifetimeAttr(0))
	}
}
