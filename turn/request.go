package turn

import (
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/internal/udp"
)

// A request is one STUN request on its way. It is used by one goroutine at a
// time.
type request struct {
	srv    *Server
	path   *path
	policy *policy
	msg    *stunwire.Message
	now    int64

	made  int64       // the nonce, in milliseconds of the wall clock
	cred  *credential // who asks; nil until that is proved
	noted *Allocation // that remembers the answer
	out   []byte      // where the answer is built
	loop  bool        // it is in the loop that reads the client
}

// knows are the comprehension-required attributes that requests may have.
func knows(a stunwire.Attr) bool {
	switch a {
	case stunwire.AttrUsername, stunwire.AttrUserHash, stunwire.AttrRealm, stunwire.AttrNonce,
		stunwire.AttrPasswordAlgorithm, stunwire.AttrAccessToken,
		stunwire.AttrMessageIntegrity, stunwire.AttrMessageIntegritySHA256,
		stunwire.AttrChannelNumber, stunwire.AttrLifetime, stunwire.AttrXORPeerAddress,
		stunwire.AttrData, stunwire.AttrRequestedAddressFamily, stunwire.AttrEvenPort,
		stunwire.AttrRequestedTransport, stunwire.AttrDontFragment, stunwire.AttrReservationToken,
		stunwire.AttrConnectionID:
		return true
	}
	return false
}

// handle answers a request other than Binding. It does not block, unless wait
// says that it may, and then it returns when the request has been answered.
// What it keeps of msg it copies.
func (s *Server) handle(p *path, msg *stunwire.Message, now int64, out []byte, wait bool) {
	r := &request{srv: s, path: p, policy: s.policy.Load(), msg: msg, now: now, out: out, loop: !wait}
	if present, valid := msg.Fingerprint(); present && !valid {
		s.stats.drop(dropMalformed, 1)
		return
	}
	switch msg.Type.Method() {
	case stunwire.Allocate, stunwire.Refresh, stunwire.CreatePermission, stunwire.ChannelBind,
		stunwire.Connect, stunwire.ConnectionBind:
		r.authenticate(wait)
	default:
		r.refuse(400)
	}
}

// serve carries out a request whose sender is known.
func (r *request) serve() {
	var list [8]stunwire.Attr
	if unknown := r.msg.Unknown(list[:0], knows); len(unknown) > 0 {
		b := r.build(stunwire.Error)
		b.AddError(420, r.reason(420))
		b.AddUnknown(unknown[:min(len(unknown), 32)])
		r.srv.stats.refused(420)
		r.finish(&b)
		return
	}
	switch r.msg.Type.Method() {
	case stunwire.Allocate:
		r.allocate()
	case stunwire.Refresh:
		r.refresh()
	case stunwire.CreatePermission:
		r.createPermission()
	case stunwire.ChannelBind:
		r.channelBind()
	case stunwire.Connect:
		r.connect()
	case stunwire.ConnectionBind:
		r.connectionBind()
	}
}

// allocation returns the allocation that the request is about. It is nil if the
// request has been answered: there is none, or none of this user's, or it was
// answered before.
func (r *request) allocation() *Allocation {
	a := r.path.alloc.Load()
	switch {
	case a == nil:
		r.refuse(437)
		return nil
	case !a.ownedBy(r.cred):
		r.refuse(441)
		return nil
	}
	a.mu.Lock()
	if a.path != r.path {
		a.confirm(r.path)
	}
	a.mu.Unlock()
	if !r.first(a) {
		return nil
	}
	return a
}

// build begins an answer.
func (r *request) build(c stunwire.Class) stunwire.Builder {
	return stunwire.Build(r.out[:0], stunwire.NewType(r.msg.Type.Method(), c), r.msg.TxID)
}

func (r *request) success() stunwire.Builder { return r.build(stunwire.Success) }

// finish completes an answer, with integrity if the sender is known, and sends
// it.
func (r *request) finish(b *stunwire.Builder) {
	if r.srv.Software != "" {
		b.AddString(stunwire.AttrSoftware, r.srv.Software[:min(len(r.srv.Software), 128)])
	}
	if r.cred != nil {
		r.sign(b)
	}
	if r.msg.Has(stunwire.AttrFingerprint) {
		b.AddFingerprint()
	}
	r.out = b.Bytes()
	if r.loop {
		r.path.answer(r.out)
	} else {
		r.path.send(r.out)
	}
}

// sign protects an answer as the request was (RFC 8489 Section 9.2.4).
func (r *request) sign(b *stunwire.Builder) {
	switch {
	case r.cred.key == nil:
	case r.msg.Has(stunwire.AttrMessageIntegritySHA256):
		b.AddIntegritySHA256(r.cred.key)
	default:
		b.AddIntegrity(r.cred.key)
	}
}

// refuse answers with an error code.
func (r *request) refuse(code int) {
	if r.cred == nil && !r.mayRefuse() {
		return
	}
	r.note(code)
	b := r.build(stunwire.Error)
	b.AddError(code, r.reason(code))
	r.srv.stats.refused(code)
	r.finish(&b)
}

// mayRefuse bounds the answers to who has not shown who he is, whose address
// may be another's.
func (r *request) mayRefuse() bool {
	if r.path.kind != overUDP || r.policy.unauth.allow(r.path.remote.Addr(), r.now) {
		return true
	}
	r.srv.stats.drop(dropRateUnauthenticated, 1)
	return false
}

func (r *request) reason(code int) string {
	if !r.srv.Reasons {
		return ""
	}
	return errorReasons[code]
}

// peer returns the first XOR-PEER-ADDRESS, canonical.
func peer(m *stunwire.Message) (netip.AddrPort, bool) {
	v, ok := m.Get(stunwire.AttrXORPeerAddress)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap, err := m.XORAddr(v)
	return canonical(ap), err == nil
}

func canonical(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// seconds32 is d for a LIFETIME attribute, rounded up.
func seconds32(d time.Duration) uint32 {
	return uint32(max(0, (d+time.Second-1)/time.Second))
}

// onward is what of a received IP header goes on (RFC 8656 Section 13): the TTL
// counts this hop. ok is false for a packet that ends here.
func onward(m udp.Mark) (_ udp.Mark, ok bool) {
	if m.TTL == 0 {
		return m, true
	}
	m.TTL--
	return m, m.TTL > 0
}
