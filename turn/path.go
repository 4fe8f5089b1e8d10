package turn

import (
	"crypto/tls"
	"net/netip"
	"sync/atomic"

	"github.com/runnel-media/runnel/internal/dtlsmux"
	"github.com/runnel-media/runnel/internal/udp"
)

// A transport is what clients come by.
type transport uint8

const (
	overUDP transport = iota
	overTCP
	overTLS
	overDTLS
	transports // how many
)

var transportNames = [transports]string{"udp", "tcp", "tls", "dtls"}

func (t transport) String() string { return transportNames[t] }

// datagrams reports whether messages keep their bounds and may be lost.
func (t transport) datagrams() bool { return t == overUDP || t == overDTLS }

// A path is a 5-tuple: a way by which a client reaches the server. It is made
// with the allocation of a UDP client, and with the connection of another.
type path struct {
	srv       *Server
	shard     *shard // reads the relay sockets of the path's allocation; over UDP and DTLS the client too
	kind      transport
	local     netip.AddrPort
	remote    netip.AddrPort       // the client
	to        netip.AddrPort       // where datagrams for it go: the client, or a proxy that hands them on
	certified bool                 // the client has a TLS certificate that was verified
	tls       *tls.ConnectionState // TLS only
	stream    *streamConn          // TCP and TLS only
	dtls      *dtlsmux.Conn        // DTLS only
	wait      *dtlsWait            // DTLS only

	alloc atomic.Pointer[Allocation]
}

// send sends one STUN message of the server's. What a client does not take in
// time is lost, as over UDP; a stream that does not take it is closed.
func (p *path) send(b []byte) {
	var err error
	switch p.kind {
	case overUDP:
		err = p.shard.conn.WriteTo(b, p.to)
	case overDTLS:
		_, err = p.dtls.Write(b)
	default:
		err = p.stream.send(b)
	}
	if err != nil {
		p.srv.stats.drop(dropSend, 1)
	}
}

// maxAnswersHeld bounds what a flood of requests makes a loop remember.
const maxAnswersHeld = 64

// answer is send for what runs in the loop that reads the client: over UDP the
// answers of a round go out together.
func (p *path) answer(b []byte) {
	if p.kind != overUDP {
		p.send(b)
		return
	}
	o := &p.shard.down
	if o.batch.Len() >= maxAnswersHeld {
		o.flush()
	}
	o.use(p.shard.conn)
	o.batch.Add(p.to, udp.Mark{}, append(o.batch.Scratch(len(b))[:0], b...), nil)
}

// leave makes the path forget its allocation. The next one is to be asked for
// with a new nonce: requests of this one are good for nothing then.
func (p *path) leave(a *Allocation) {
	if p.alloc.Load() != a {
		return
	}
	a.mu.Lock()
	stale := a.staleBefore()
	a.mu.Unlock()
	p.shard.remember(p.remote, stale)
	if !p.alloc.CompareAndSwap(a, nil) {
		return
	}
	switch p.kind {
	case overUDP:
		p.shard.forget(p)
	case overTCP, overTLS:
		p.stream.idle()
	case overDTLS:
		p.wait.begin()
	}
}

// busy ends the waiting for an allocation, which the path has.
func (p *path) busy() {
	switch p.kind {
	case overTCP, overTLS:
		p.stream.busy()
	case overDTLS:
		p.wait.settled()
	}
}
