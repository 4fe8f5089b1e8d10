package srt

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
	"time"
)

// A Call is a caller who has proven its address and wants a connection.
type Call struct {
	e        *Endpoint
	key      callKey
	hs       handshake // of its own memory
	terms    terms
	material *keyMaterial // nil: the caller has no passphrase
	rx       *keyring     // opened by Secret
	asked    bool         // Secret was called

	// Remote is the caller's address, StreamID what it asks for.
	Remote   netip.AddrPort
	StreamID string
}

// cookieSpan is for how long a cookie is good, at least; it may be twice.
const cookieSpan = 30 * second

// cookie proves that who sends it got it at that address lately. Nothing is
// kept of those who ask for one.
func (e *Endpoint) cookie(remote netip.AddrPort, now micros, age int) uint32 {
	b := make([]byte, 0, 32)
	b, _ = remote.AppendBinary(b)
	b = be.AppendUint64(b, uint64(now/cookieSpan)-uint64(age))
	mac := hmac.New(sha256.New, e.secret[:])
	mac.Write(b)
	v := be.Uint32(mac.Sum(nil))
	if v == 0 {
		v = 1 // no cookie
	}
	return v
}

// handshake takes a packet that is for nobody yet.
func (e *Endpoint) handshake(now micros, from netip.AddrPort, b []byte) {
	h, body, err := parseHeader(b)
	if err != nil || !h.control || h.typ != typeHandshake {
		return
	}
	hs, err := parseHandshake(body)
	switch {
	case err != nil:
		if len(body) >= handshakeSize && be.Uint32(body[20:]) == kindConclusion && e.knows(from, now, be.Uint32(body[28:])) {
			e.reject(from, &handshake{isn: 0, id: be.Uint32(body[24:])}, Rogue)
		}
	case hs.kind == kindInduction:
		hs.version, hs.extension, hs.encryption = 5, magic, 0
		hs.cookie = e.cookie(from, now, 0)
		hs.peer = from.Addr()
		e.answer(from, hs.id, hs.append(nil))
	case hs.kind == kindConclusion:
		if e.knows(from, now, hs.cookie) {
			e.conclude(now, from, &h, &hs)
		}
	}
}

func (e *Endpoint) knows(from netip.AddrPort, now micros, cookie uint32) bool {
	return cookie == e.cookie(from, now, 0) || cookie == e.cookie(from, now, 1)
}

// answer sends the content of a handshake.
func (e *Endpoint) answer(to netip.AddrPort, id uint32, content []byte) {
	b := e.out.scratch(headerSize + len(content))
	h := header{control: true, typ: typeHandshake, dest: id}
	h.put(b)
	copy(b[headerSize:], content)
	e.out.to = to
	e.out.packet(b, nil)
}

// reject refuses a conclusion.
func (e *Endpoint) reject(to netip.AddrPort, hs *handshake, why Reason) {
	r := handshake{version: 5, isn: hs.isn, mtu: hs.mtu, window: hs.window, kind: kindRejected + uint32(why), id: hs.id, cookie: hs.cookie, peer: to.Addr()}
	e.answer(to, hs.id, r.append(nil))
}

// conclude takes a conclusion with a good cookie.
func (e *Endpoint) conclude(now micros, from netip.AddrPort, h *header, hs *handshake) {
	key := callKey{from, hs.id}
	if c := e.made[key]; c != nil {
		e.answer(from, hs.id, c.answer) // the first was lost
		return
	}
	if e.calls[key] != nil {
		return // it is being decided on
	}
	t, why, ok := e.negotiate(now, h, hs)
	pending := e.MaxPending
	if pending <= 0 {
		pending = 256
	}
	switch {
	case !ok:
	case e.Handler == nil:
		why, ok = Forbidden, false
	case e.ctx.Err() != nil:
		why, ok = Closing, false
	case len(e.calls) >= pending:
		why, ok = Backlog, false
	case e.MaxConns > 0 && len(e.conns)+len(e.calls) >= e.MaxConns:
		why, ok = Overload, false
	}
	if !ok {
		e.reject(from, hs, why)
		return
	}
	call := &Call{e: e, key: key, hs: *hs, terms: t, Remote: from, StreamID: hs.streamID}
	call.hs.km = append([]byte(nil), hs.km...) // the loop's memory
	if hs.km != nil {
		m, err := parseKM(call.hs.km)
		if err != nil {
			e.reject(from, hs, Rogue)
			return
		}
		call.material = &m
	}
	e.calls[key] = call
	e.tasks.Go(func() { e.Handler(call) })
}

// negotiate makes terms of what a caller proposes, as far as they do not hang
// on who it is.
func (e *Endpoint) negotiate(now micros, h *header, hs *handshake) (t terms, why Reason, ok bool) {
	switch {
	case hs.version != 5:
		return t, Version, false
	case hs.hello.version == 0 || !hs.isRequest || hs.id == 0:
		return t, Rogue, false
	case hs.hello.version < minVersion:
		return t, Version, false
	case hs.hello.flags&streamMode != 0:
		return t, MessageMode, false
	case hs.congestion != "" && hs.congestion != "live":
		return t, Congestion, false
	case hs.group:
		return t, Group, false
	case hs.mtu < minMTU || hs.window < 2:
		return t, Rogue, false
	case hs.streamID == "":
		return t, BadRequest, false
	}
	t = e.terms()
	filter := hs.filter
	if e.Filter != "" {
		filter = e.Filter
	}
	f, err := parseFilter(filter)
	if err != nil || filter != "" && hs.hello.flags&canFilter == 0 {
		return t, Filter, false
	}
	if hs.filter != "" && e.Filter != "" {
		if theirs, err := parseFilter(hs.filter); err != nil || theirs != f {
			return t, Filter, false
		}
	}
	t.filter, t.filterText = f, filter
	t.agree(hs)
	t.isn = hs.isn // as libsrt has it
	t.peerStart = now - micros(h.time)
	return t, 0, true
}

// terms are what this endpoint wishes for.
func (e *Endpoint) terms() terms {
	latency := e.Latency
	if latency == 0 {
		latency = 120 * time.Millisecond
	}
	idle := e.PeerIdle
	if idle <= 0 {
		idle = 5 * time.Second
	}
	t := terms{idle: microsOf(idle), dropLate: true, reportLoss: true, refresh: e.KeyRefresh}
	t.recvLatency = min(max(0, microsOf(latency)), 65*second)
	t.peerLatency = t.recvLatency
	t.pace = pace{maxBW: e.MaxBW, inputBW: e.InputBW, overhead: e.Overhead}
	if e.Relative {
		t.pace.maxBW = 0
	} else if e.MaxBW == 0 {
		t.pace.maxBW = -1
	}
	return t
}

// agree takes in what the peer says: an HSREQ's wishes, or an HSRSP's results.
func (t *terms) agree(hs *handshake) {
	t.peer, t.peerISN = hs.id, hs.isn
	t.recvLatency = max(t.recvLatency, micros(hs.hello.sendDelay)*millisecond)
	t.peerLatency = max(t.peerLatency, micros(hs.hello.recvDelay)*millisecond)
	t.dropLate = t.dropLate && hs.hello.flags&canDropLate != 0
	t.window = int(min(hs.window, maxQueued))
	t.payload = int(min(livePayload, hs.mtu-28-headerSize))
}

func (t *terms) hello() hello {
	return hello{ourVersion, ourFlags, uint16(t.recvLatency / millisecond), uint16(t.peerLatency / millisecond)}
}

// Context returns one that ends with the endpoint.
func (c *Call) Context() context.Context { return c.e.ctx }

// Encrypted reports whether the caller has a passphrase.
func (c *Call) Encrypted() bool { return c.material != nil }

// Secret reports whether passphrase is the caller's, which takes a millisecond
// to find out. One that does prove right is what the connection is encrypted
// with.
func (c *Call) Secret(passphrase string) bool {
	c.asked = true
	if c.material == nil {
		return false
	}
	r, err := openKeyring(passphrase, c.material)
	if err != nil {
		return false
	}
	c.rx = r
	return true
}

// Secrecy returns why the call must be refused as far as its passphrase goes:
// BadSecret if none that was tried is right, Unsecure if it should have one
// and does not, or has one that nobody asked for. ok is true if there is no
// such reason.
func (c *Call) Secrecy() (why Reason, ok bool) {
	switch {
	case c.material == nil && c.asked:
		return Unsecure, false
	case c.material == nil || c.rx != nil:
		return 0, true
	case c.asked:
		return BadSecret, false
	}
	return Unsecure, false
}

// Reject refuses the call.
func (c *Call) Reject(why Reason) {
	c.e.loop.Do(func() {
		if c.e.calls[c.key] == c {
			delete(c.e.calls, c.key)
			c.e.reject(c.Remote, &c.hs, why)
		}
	})
}

// Accept makes the connection. sink is called in the endpoint's own goroutine
// with payloads that are due, and must neither keep them nor block; without one
// there is Read. A call whose passphrase was not proven is refused.
func (c *Call) Accept(sink func([][]byte)) (*Conn, error) {
	if why, ok := c.Secrecy(); !ok {
		c.Reject(why)
		return nil, &Rejection{why}
	}
	var conn *Conn
	err := error(ErrServerClosed)
	c.e.loop.Do(func() {
		e := c.e
		if e.calls[c.key] != c {
			return
		}
		delete(e.calls, c.key)
		if e.ctx.Err() != nil {
			e.reject(c.Remote, &c.hs, Closing)
			return
		}
		now := e.now()
		if c.rx != nil {
			// One key for both directions: the caller's.
			c.terms.rx, c.terms.tx = c.rx, c.rx.clone()
		}
		conn, err = e.newConn(e.newID(), c.Remote, sink), nil
		conn.caller, conn.streamID = c.key, c.StreamID
		conn.core = newCore(c.terms, now, now, &e.free)
		hs := handshake{
			version: 5, isn: c.hs.isn, mtu: maxPacket + 28, window: receiveWindow, kind: kindConclusion,
			id: conn.id, cookie: c.hs.cookie, peer: c.Remote.Addr(), hello: c.terms.hello(), filter: c.terms.filterText,
		}
		if c.material != nil {
			hs.km, hs.encryption = c.hs.km, uint16(c.material.keyLen/8)
		}
		hs.extension = hs.follows()
		conn.answer = hs.append(nil)
		e.made[c.key] = conn
		e.add(conn, now)
		e.answer(c.Remote, c.hs.id, conn.answer)
	})
	return conn, err
}
