package srt

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"time"
)

// DialOptions are what a caller asks for.
type DialOptions struct {
	StreamID   string
	Passphrase string         // "": not encrypted
	KeyLength  int            // 16, 24 or 32; default 16
	Sink       func([][]byte) // as Call.Accept's
	Filter     string         // a packet filter; "": the endpoint's
}

const (
	retryCall   = 250 * time.Millisecond
	dialTimeout = 3 * time.Second
)

// dialing is a call of ours until it is answered.
type dialing struct {
	remote netip.AddrPort
	id     uint32
	in     chan reply // capacity 1

	// finish makes the connection of the answer to a conclusion. It is called in
	// the loop, once, for the peer may send at once. nil: it is too early.
	finish func(now micros, r *reply) (*Conn, error)
}

type reply struct {
	at   micros
	time uint32
	hs   handshake // of its own memory
	conn *Conn     // of finish
	err  error
}

// take takes what came for the caller. It is called in the loop.
func (d *dialing) take(now micros, b []byte) {
	h, body, err := parseHeader(b)
	if err != nil || !h.control || h.typ != typeHandshake {
		return
	}
	hs, err := parseHandshake(append([]byte(nil), body...))
	if err != nil {
		return
	}
	r := reply{at: now, time: h.time, hs: hs}
	if hs.kind == kindConclusion && d.finish != nil {
		r.conn, r.err = d.finish(now, &r)
		d.finish = nil
		for len(d.in) > 0 {
			<-d.in
		}
	}
	select {
	case d.in <- r:
	default:
	}
}

// Dial calls the listener at addr from a socket of its own. The error is a
// *Rejection if it refuses. ctx, and 3 s without an answer, end the attempt.
func Dial(ctx context.Context, addr string, e *Endpoint, o DialOptions) (*Conn, error) {
	ua, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	remote := netip.AddrPortFrom(ua.AddrPort().Addr().Unmap(), uint16(ua.Port))
	network, local := "udp4", "0.0.0.0:0"
	if remote.Addr().Is6() {
		network, local = "udp6", "[::]:0"
	}
	pc, err := new(net.ListenConfig).ListenPacket(ctx, network, local)
	if err != nil {
		return nil, err
	}
	if e == nil {
		e = new(Endpoint)
	}
	go func() { _ = e.Serve(pc) }() // ends with Close
	c, err := e.call(ctx, remote, o, true)
	if err != nil {
		_ = e.Close()
	}
	return c, err
}

// Dial calls the listener at remote from the endpoint's socket, which must be
// served.
func (e *Endpoint) Dial(ctx context.Context, remote netip.AddrPort, o DialOptions) (*Conn, error) {
	return e.call(ctx, remote, o, false)
}

func (e *Endpoint) call(ctx context.Context, remote netip.AddrPort, o DialOptions, owned bool) (*Conn, error) {
	e.init()
	select {
	case <-e.ready:
	case <-e.ctx.Done():
		return nil, ErrServerClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	filter := o.Filter
	if filter == "" {
		filter = e.Filter
	}
	f, err := parseFilter(filter)
	if err != nil {
		return nil, err
	}
	t := e.terms()
	t.filter, t.filterText = f, filter
	var ring *keyring
	if o.Passphrase != "" {
		n := o.KeyLength
		if n == 0 {
			n = 16
		}
		if ring, err = newKeyring(o.Passphrase, n); err != nil {
			return nil, err
		}
	}
	var b [4]byte
	_, _ = rand.Read(b[:])
	d := &dialing{remote: remote, in: make(chan reply, 1)}
	started := e.now()
	hs := handshake{
		version: 4, extension: 2, isn: seq(be.Uint32(b[:])) & seqMask, mtu: maxPacket + 28, window: receiveWindow,
		kind: kindInduction, peer: remote.Addr(),
	}
	e.loop.Do(func() {
		d.id = e.newID()
		e.dials[d.id] = d
	})
	defer e.loop.Do(func() { delete(e.dials, d.id) })
	hs.id = d.id
	first, err := e.exchange(ctx, d, &hs, started)
	if err != nil {
		return nil, err
	}
	if first.hs.kind != kindInduction || first.hs.version < 5 || first.hs.extension != magic {
		return nil, &Rejection{Version}
	}
	hs.version, hs.kind, hs.cookie = 5, kindConclusion, first.hs.cookie
	hs.hello, hs.isRequest = t.hello(), true
	hs.streamID, hs.filter = o.StreamID, filter
	if ring != nil {
		hs.km, hs.encryption = ring.material(keyEven).append(nil), uint16(ring.keyLen/8)
	}
	hs.extension = hs.follows()
	c := e.newConn(d.id, remote, o.Sink)
	c.owned, c.streamID = owned, o.StreamID
	e.loop.Do(func() {
		d.finish = func(now micros, r *reply) (*Conn, error) {
			if err := t.concluded(&hs, r, ring); err != nil {
				return nil, err
			}
			c.core = newCore(t, now, started, &e.free)
			delete(e.dials, d.id)
			e.add(c, now)
			return c, nil
		}
	})
	answer, err := e.exchange(ctx, d, &hs, started)
	if err == nil {
		return answer.conn, answer.err
	}
	e.loop.Do(func() {
		if d.finish == nil && c.core != nil { // it came when nobody waited any more
			c.core.end(ErrClosed, 0)
		}
		d.finish = nil
	})
	return nil, err
}

// concluded takes in the answer to a conclusion.
func (t *terms) concluded(hs *handshake, r *reply, ring *keyring) error {
	a := &r.hs
	switch {
	case a.kind != kindConclusion || a.version != 5 || a.hello.version == 0 || a.isRequest || a.id == 0,
		a.mtu < minMTU || a.window < 2:
		return &Rejection{Rogue}
	case (ring == nil) != (a.km == nil):
		return &Rejection{Unsecure} // not encrypted as it was asked for
	case ring != nil && string(a.km) != string(hs.km):
		return &Rejection{BadSecret}
	}
	t.agree(a)
	t.isn = hs.isn
	if a.filter != t.filterText {
		f, err := parseFilter(a.filter)
		if err != nil || t.filterText != "" && a.filter != "" && f != t.filter {
			return &Rejection{Filter}
		}
		t.filter, t.filterText = f, a.filter
	}
	t.peerStart = r.at - micros(r.time)
	if ring != nil {
		t.tx, t.rx = ring, ring.clone()
	}
	return nil
}

// exchange sends a handshake until it is answered.
func (e *Endpoint) exchange(ctx context.Context, d *dialing, hs *handshake, started micros) (reply, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, &Rejection{Timeout})
	defer cancel()
	again := time.NewTicker(retryCall)
	defer again.Stop()
	for {
		e.loop.Do(func() {
			content := hs.append(nil)
			b := e.out.scratch(headerSize + len(content))
			h := header{control: true, typ: typeHandshake, time: uint32(e.now() - started)}
			h.put(b)
			copy(b[headerSize:], content)
			e.out.to = d.remote
			e.out.packet(b, nil)
		})
		select {
		case r := <-d.in:
			if why, ok := r.hs.rejected(); ok {
				return r, &Rejection{why}
			}
			if r.hs.kind == hs.kind {
				return r, nil
			}
		case <-again.C:
		case <-e.ctx.Done():
			return reply{}, ErrServerClosed
		case <-ctx.Done():
			return reply{}, context.Cause(ctx)
		}
	}
}
