package srt

import "time"

// micros is a time in microseconds since some moment that all of a connection's
// times share.
type micros int64

const (
	millisecond micros = 1000
	second      micros = 1000 * millisecond
)

func microsOf(d time.Duration) micros { return micros(d / time.Microsecond) }

// An outbox takes the packets that a core sends.
type outbox interface {
	// scratch returns n bytes that are good until the packets are sent.
	scratch(n int) []byte
	// packet queues the datagram that is head and data. Both are kept.
	packet(head, data []byte)
}

const (
	synInterval   = 10 * millisecond // UDT's: of ACKs
	keepalive     = 1 * second       // after which an end that is silent says that it is there
	lightACKEvery = 64               // packets
	firstRTT      = 100 * millisecond
	minNAK        = 20 * millisecond // interval of periodic reports
	// maxQueued bounds what waits to be sent or acknowledged, in packets.
	maxQueued = 16384
)

// terms are what two ends have agreed on.
type terms struct {
	peer        uint32 // its socket id
	isn         seq    // of what we send
	peerISN     seq    // of what the peer sends
	peerStart   micros // our time at which its timestamps were 0
	recvLatency micros // that we hold
	peerLatency micros // that the peer holds
	dropLate    bool   // TLPKTDROP: skip what comes too late
	reportLoss  bool   // NAK reports, repeated
	window      int    // packets that the peer takes
	payload     int    // largest payload that we send
	idle        micros // silence after which the peer is gone
	pace        pace
	filter      filterConfig // zero: none
	filterText  string
	tx, rx      *keyring // nil: not encrypted
	refresh     uint64   // packets a key is used for; 0: refreshAfter
}

// A core is the state of one connection. It has no socket, no clock and no
// goroutine: it is told the time and what came, and queues packets in out. It
// is not safe for concurrent use.
type core struct {
	terms
	out     outbox
	free    *buffers // for payloads that are kept
	started micros   // when our timestamps are 0

	snd sender
	rcv receiver

	rtt, rttVar micros
	measured    bool   // rtt is
	heard       micros // when the peer last said something
	spoke       micros // when we last did
	gone        error  // why it has ended; nil while it lives
	ending      error  // why it is about to
	endBy       micros // at the latest
	given       micros // when there was last something to be sent

	stats Stats
}

// newCore begins a connection at the time now, whose timestamps count from
// started.
func newCore(t terms, now, started micros, free *buffers) *core {
	if t.payload <= 0 || t.payload > maxPayload {
		t.payload = livePayload
	}
	t.window = max(t.window, 16)
	c := &core{terms: t, free: free, started: started, rtt: firstRTT, rttVar: firstRTT / 2, heard: now, spoke: now}
	c.snd.init(c, now)
	c.rcv.init(c, now)
	return c
}

// stamp returns the timestamp of a packet sent at a time.
func (c *core) stamp(at micros) uint32 { return uint32(at - c.started) }

// input takes a packet whose destination is this connection. It does not keep
// it.
func (c *core) input(now micros, b []byte) {
	h, body, err := parseHeader(b)
	if err != nil || c.gone != nil {
		return
	}
	if !h.control {
		c.heard = now
		c.rcv.data(now, &h, body)
		return
	}
	switch h.typ {
	case typeACK:
		c.snd.acknowledged(now, &h, body)
	case typeNAK:
		c.snd.reported(now, body)
	case typeACKACK:
		c.rcv.confirmed(now, &h)
	case typeDropReq:
		c.rcv.dropped(now, body)
	case typeKeepalive, typeCongested, typePeerError:
	case typeShutdown:
		// What has come is handed out in its time.
		c.end(ErrPeerClosed, now+c.recvLatency+synInterval)
	case typeUser:
		c.extension(now, &h, body)
	default:
		c.stats.PktRcvInvalid++
		return
	}
	c.heard = now
}

// extension takes a handshake extension that comes later: new keys.
func (c *core) extension(now micros, h *header, body []byte) {
	switch h.sub {
	case extKMReq:
		m, err := parseKM(body)
		if err != nil || c.rx == nil || c.rx.take(&m) != nil {
			// What was agreed on stays: no answer makes a connection less secure.
			state := kmBadSecret
			if c.rx == nil {
				state = kmNoSecret
			}
			c.stats.PktRcvInvalid++
			be.PutUint32(c.control(now, typeUser, extKMRsp, 0, 4), uint32(state))
			return
		}
		copy(c.control(now, typeUser, extKMRsp, 0, len(body)), body)
	case extKMRsp:
		c.snd.keys.answered(body)
	}
}

// control queues a control packet with n bytes of content, and returns those
// to be filled in.
func (c *core) control(now micros, typ, sub uint16, info uint32, n int) []byte {
	b := c.out.scratch(headerSize + n)
	h := header{control: true, typ: typ, sub: sub, info: info, time: c.stamp(now), dest: c.peer}
	h.put(b)
	c.out.packet(b, nil)
	c.spoke = now
	return b[headerSize:]
}

// empty queues a control packet without content, which libsrt makes 4 bytes.
func (c *core) empty(now micros, typ uint16, info uint32) {
	clear(c.control(now, typ, 0, info, 4))
}

// end ends the connection soon, unless that is under way.
func (c *core) end(err error, by micros) {
	if c.ending == nil && c.gone == nil {
		c.ending, c.endBy = err, by
	}
}

// linger ends the connection when what was given has reached the peer, and its
// application.
func (c *core) linger(now micros) {
	by := now
	if c.snd.first != c.snd.end || now-c.given < c.peerLatency+c.rtt {
		by = now + max(c.peerLatency, second) + c.rtt
	}
	c.end(ErrClosed, by)
}

// ended reports whether nothing is left to be waited for.
func (c *core) ended(now micros) bool {
	switch {
	case c.ending == nil:
		return false
	case now >= c.endBy:
		return true
	case c.ending == ErrClosed:
		return c.snd.first == c.snd.end && now-c.given >= c.peerLatency+c.rtt
	}
	return c.rcv.base == c.rcv.high
}

// shutdown says goodbye.
func (c *core) shutdown(now micros) {
	if c.gone == nil {
		c.empty(now, typeShutdown, 0)
		c.gone = ErrClosed
	}
}

// tick does what is due, and returns when it is to be called next.
func (c *core) tick(now micros) (next micros) {
	if c.gone != nil {
		return now + second
	}
	if now-c.heard >= c.idle {
		c.gone = ErrPeerIdle
		return now + second
	}
	next = min(onGrid(c.rcv.tick(now)), c.snd.tick(now))
	if c.ended(now) {
		if c.ending == ErrClosed {
			c.shutdown(now)
		}
		c.gone = c.ending
		return now
	}
	if c.ending != nil {
		next = min(next, now+synInterval)
	}
	if now-c.spoke >= keepalive {
		c.empty(now, typeKeepalive, 0)
	}
	return min(next, c.spoke+keepalive, c.heard+c.idle)
}

// observe takes in a measured round-trip time (RFC 6298's smoothing).
func (c *core) observe(sample micros) {
	if sample < 0 || sample > 60*second {
		return
	}
	if !c.measured {
		c.measured = true
		c.rtt, c.rttVar = sample, sample/2
		return
	}
	c.rttVar = (3*c.rttVar + abs(c.rtt-sample)) / 4
	c.rtt = (7*c.rtt + sample) / 8
}

// onGrid rounds up to when connections are served together.
func onGrid(at micros) micros {
	if at == never {
		return at
	}
	return (at + grid - 1) / grid * grid
}

func abs(d micros) micros {
	if d < 0 {
		return -d
	}
	return d
}

// never is later than anything.
const never = micros(1<<63 - 1)
