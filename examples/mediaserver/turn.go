package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/turn"
)

// turnLife is how long the credentials hold that peers get. A session that is
// longer goes on without the relay if it can, and is to be begun anew else.
const turnLife = 24 * time.Hour

// startTURN runs a TURN server for WebRTC's peers whose networks let nothing else
// out. It relays to this server's own media port only, and to who got credentials
// with the answer to an offer.
func (o *webrtcOptions) startTURN(s *servers, media uint16, log *slog.Logger) (ice func(*http.Request) []string, stop func(), err error) {
	pc, err := net.ListenPacket("udp", o.turn)
	if err != nil {
		return nil, nil, fmt.Errorf("TURN: %w", err)
	}
	secret := rand.Text()
	t := &turn.Server{Realm: "runnel", Auth: &turnauth.Secrets{List: turnauth.Static(secret)}, Log: log}
	peers, err := o.peers(media)
	if err != nil {
		return nil, nil, errors.Join(err, pc.Close())
	}
	t.SetPolicy(&turn.Policy{Peers: peers, NoTCP: true, UserQuota: 16})
	go func() {
		if err := t.ServePacket(pc); !errors.Is(err, net.ErrClosed) {
			s.failed <- fmt.Errorf("TURN: %w", err)
		}
	}()
	if err := s.listen("TURN", o.turn, nil, t.Serve); err != nil {
		return nil, nil, errors.Join(err, t.Close())
	}
	o.relay = t
	_, port, _ := net.SplitHostPort(pc.LocalAddr().String())
	return func(r *http.Request) []string {
		at := "turn:" + net.JoinHostPort(o.host(r), port)
		return turnauth.Links(secret, "webrtc", time.Now().Add(turnLife), at+"?transport=udp", at+"?transport=tcp")
	}, func() { t.Close() }, nil
}

// host is how a peer reaches this machine.
func (o *webrtcOptions) host(r *http.Request) string {
	if len(o.public) > 0 {
		return o.public[0].String()
	}
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}

// peers allows the addresses at which WebRTC's media port is, with that port, and no
// others.
func (o *webrtcOptions) peers(media uint16) (p turn.PeerPolicy, err error) {
	p.OnlyAllowed, p.Ports = true, []uint16{media}
	addrs := o.public
	if len(addrs) == 0 {
		if addrs, err = machine(o.addr); err != nil {
			return p, err
		}
	}
	for _, a := range addrs {
		r, err := auth.ParseIPRange(a.String())
		if err != nil {
			return p, err
		}
		p.Allow = append(p.Allow, r)
	}
	return p, nil
}

// machine is the address that is listened on, or all that this machine has on
// networks.
func machine(listen string) (all []netip.Addr, err error) {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		return []netip.Addr{ip.Unmap()}, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			all = append(all, p.Addr().Unmap())
		}
	}
	if len(all) == 0 {
		all = append(all, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return all, nil
}
