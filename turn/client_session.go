package turn

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A clientSession is one connection to the server, a 5-tuple: it writes
// requests, and a goroutine of its own reads what comes.
type clientSession struct {
	client   *Client
	target   clientTarget
	conn     net.Conn
	datagram bool // retransmit; no framing
	handlers clientHandlers
	done     chan struct{} // closed when the session has ended

	auth atomic.Pointer[clientAuth]

	writeMu sync.Mutex // stream transports: one frame at a time

	mu      sync.Mutex
	waiting map[stunwire.TxID]clientWaiter
	err     error // why it ended, once done is closed
}

// clientHandlers take what the server sends unasked. They are called by the
// session's reader, must not block, and must not keep the bytes.
type clientHandlers struct {
	data    func(peer netip.AddrPort, b []byte)
	channel func(number uint16, b []byte)
	icmp    func(peer netip.Addr, kind, code uint8, data uint32)
	attempt func(id uint32, peer netip.AddrPort)
}

// A clientWaiter is a request that has no answer yet.
type clientWaiter struct {
	auth   *clientAuth // what the request was authenticated with; nil: it was not
	answer chan *clientReply
}

// A clientReply is a response, on bytes of its own.
type clientReply struct{ stunwire.Message }

// Retransmission over UDP, RFC 8489 Section 6.2.1, and the wait for a response
// over reliable transports, Section 6.2.2.
const (
	clientRTO      = 500 * time.Millisecond
	clientSends    = 7
	clientLastWait = 16 * clientRTO
	clientReliable = 39500 * time.Millisecond
)

// maxClientFrame is the largest message of STUN or ChannelData.
const maxClientFrame = 64<<10 + 20

// clientWriteTimeout bounds one write on a stream transport. A server that
// takes nothing for so long has lost us.
const clientWriteTimeout = 30 * time.Second

func (s *clientSession) init() {
	s.done = make(chan struct{})
	s.waiting = make(map[stunwire.TxID]clientWaiter)
}

// start starts the reader.
func (s *clientSession) start() {
	s.init()
	go func() {
		var err error
		if s.datagram {
			err = s.readDatagrams()
		} else {
			err = s.readStream()
		}
		s.close(err)
	}()
}

// close ends the session, for the reason err, and is idempotent.
func (s *clientSession) close(err error) {
	s.mu.Lock()
	select {
	case <-s.done:
		s.mu.Unlock()
		return
	default:
	}
	s.err = err
	close(s.done)
	s.mu.Unlock()
	if err != errClientBound {
		s.conn.Close()
	}
}

// errClientBound ends a session whose connection has become a peer's.
var errClientBound = errors.New("turn: bound")

// cause returns why the session ended.
func (s *clientSession) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *clientSession) readDatagrams() error {
	b := make([]byte, maxClientFrame)
	for refused := 0; ; {
		n, err := s.conn.Read(b)
		if err == nil {
			s.handle(b[:n])
			refused = 0
			continue
		}
		// A connected UDP socket tells of ICMP errors here. They may be forged,
		// and servers come back: retransmission decides.
		if _, ok := s.conn.(*net.UDPConn); !ok || errors.Is(err, net.ErrClosed) || refused == 100 {
			return err
		}
		refused++
	}
}

func (s *clientSession) readStream() error {
	r := bufio.NewReaderSize(s.conn, 16<<10)
	var buf []byte
	for {
		frame, grown, err := readClientFrame(r, buf)
		if err != nil {
			return err
		}
		buf = grown
		s.handle(frame)
	}
}

// readClientFrame reads one frame into buf, which it grows and returns.
func readClientFrame(r *bufio.Reader, buf []byte) (frame, grown []byte, err error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, buf, err
	}
	total, padded, err := stunwire.FrameSize(head)
	if err != nil {
		return nil, buf, errors.Join(ErrProtocol, err)
	}
	if cap(buf) < padded {
		buf = make([]byte, max(padded, 2048))
	}
	if _, err := io.ReadFull(r, buf[:padded]); err != nil {
		return nil, buf, err
	}
	return buf[:total], buf, nil
}

// handle takes one message. It reports whether that was a success response
// that somebody waited for.
func (s *clientSession) handle(b []byte) bool {
	if number, data, ok := stunwire.ChannelData(b); ok {
		if s.handlers.channel != nil {
			s.handlers.channel(number, data)
		}
		return false
	}
	var m stunwire.Message
	if m.Parse(b) != nil {
		return false
	}
	if present, valid := m.Fingerprint(); present && !valid {
		return false
	}
	switch m.Type.Class() {
	case stunwire.Success:
		return s.answer(&m)
	case stunwire.Error:
		s.answer(&m)
	case stunwire.Indication:
		s.indication(&m)
	}
	return false
}

// answer hands a response to who waits for it, if it is authentic.
func (s *clientSession) answer(m *stunwire.Message) bool {
	s.mu.Lock()
	w, ok := s.waiting[m.TxID]
	s.mu.Unlock()
	if !ok || !w.auth.authentic(m) {
		return false
	}
	var r clientReply
	if r.Parse(append([]byte(nil), m.Raw...)) != nil {
		return false
	}
	select {
	case w.answer <- &r:
		return true
	default: // it has one
		return false
	}
}

func (s *clientSession) indication(m *stunwire.Message) {
	switch m.Type.Method() {
	case stunwire.Data:
		v, ok := m.Get(stunwire.AttrXORPeerAddress)
		if !ok {
			return
		}
		peer, err := m.XORAddr(v)
		if err != nil {
			return
		}
		if icmp, ok := m.Get(stunwire.AttrICMP); ok && len(icmp) == 8 {
			if s.handlers.icmp != nil {
				// Section 18.13: seven bits of type, nine of code, of which ICMP uses eight.
				s.handlers.icmp(peer.Addr().Unmap(), icmp[2]>>1, icmp[3], binary.BigEndian.Uint32(icmp[4:]))
			}
			return
		}
		if data, ok := m.Get(stunwire.AttrData); ok && s.handlers.data != nil {
			s.handlers.data(netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()), data)
		}
	case stunwire.ConnectionAttempt:
		id, ok := m.Uint32(stunwire.AttrConnectionID)
		v, _ := m.Get(stunwire.AttrXORPeerAddress)
		peer, err := m.XORAddr(v)
		if ok && err == nil && s.handlers.attempt != nil {
			s.handlers.attempt(id, netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()))
		}
	}
}

// do makes a request of the method, with what add adds, and returns the
// success response. Challenges for credentials and stale nonces are answered.
func (s *clientSession) do(ctx context.Context, method stunwire.Method, add func(*stunwire.Builder)) (*clientReply, error) {
	for challenges := 0; ; challenges++ {
		auth := s.auth.Load()
		var id stunwire.TxID
		rand.Read(id[:])
		b := stunwire.Build(make([]byte, 0, 512), stunwire.NewType(method, stunwire.Request), id)
		add(&b)
		if s.client.Origin != "" {
			b.AddString(stunwire.AttrOrigin, s.client.Origin)
		}
		auth.sign(&b)
		reply, err := s.roundTrip(ctx, id, b.Bytes(), auth)
		if err != nil {
			return nil, err
		}
		if reply.Type.Method() != method {
			return nil, ErrProtocol
		}
		if reply.Type.Class() == stunwire.Success {
			return reply, nil
		}
		refusal := reply.refusal()
		again := refusal.Code == 438 && challenges < 3 || refusal.Code == 401 && (auth == nil || auth.inherited) && challenges < 2
		switch {
		case refusal.Code == 300:
			target, err := s.target.alternate(reply)
			if err != nil {
				return nil, err
			}
			return nil, &redirectError{target}
		case !again:
			return nil, refusal
		}
		next, err := s.client.challenged(ctx, auth, reply)
		if err != nil {
			return nil, err
		}
		s.auth.Store(next)
	}
}

// roundTrip sends a request until there is an answer.
func (s *clientSession) roundTrip(ctx context.Context, id stunwire.TxID, request []byte, auth *clientAuth) (*clientReply, error) {
	w := clientWaiter{auth: auth, answer: make(chan *clientReply, 1)}
	s.mu.Lock()
	s.waiting[id] = w
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, id)
		s.mu.Unlock()
	}()
	wait, sends := clientRTO, clientSends
	if !s.datagram {
		wait, sends = clientReliable, 1
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for n := 1; ; n++ {
		if err := s.write(request); err != nil && !s.datagram {
			return nil, err
		}
		select {
		case r := <-w.answer:
			return r, nil
		case <-s.done:
			select {
			case r := <-w.answer: // the last thing that it heard
				return r, nil
			default:
				return nil, s.cause()
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
		}
		if n == sends {
			return nil, ErrNoAnswer
		}
		wait *= 2
		if n == sends-1 {
			wait = clientLastWait
		}
		timer.Reset(wait)
	}
}

// write sends one message. On stream transports b is padded already.
func (s *clientSession) write(b []byte) error {
	if s.datagram {
		_, err := s.conn.Write(b)
		return err
	}
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(clientWriteTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(b)
	if err != nil { // part of a frame may be out: the stream is of no more use
		go s.close(err)
	}
	return err
}

// refusal reads an error response.
func (r *clientReply) refusal() *Error {
	v, _ := r.Get(stunwire.AttrErrorCode)
	code, reason, ok := stunwire.ErrorCode(v)
	if !ok {
		return &Error{Code: 500}
	}
	return &Error{Code: code, Reason: string(reason[:min(len(reason), 763)])}
}
