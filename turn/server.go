package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/events"
	"github.com/runnel-media/runnel/internal/halfopen"
	"github.com/runnel-media/runnel/internal/udp"
)

// ErrServerClosed is what Serve and ServePacket return after Shutdown or Close.
var ErrServerClosed = errors.New("turn: server closed")

// A Server relays UDP and TCP for clients that are behind a NAT (RFC 8656,
// 6062, 8016; clients of RFC 5766 too) and answers STUN Binding requests on
// the same ports (RFC 8489). Set the fields, call ServePacket once for each
// UDP socket and Serve once for each listener, and Shutdown or Close at the
// end. The zero value refuses to serve: Realm, or ShortTerm, must be set, and
// without Auth every allocation is refused.
//
// What operators change while it runs is in [Policy]; see [Server.SetPolicy].
type Server struct {
	// Realm of the long-term credentials (RFC 8489 Section 9.2). Realms may
	// name others by the ORIGIN of a request.
	Realm string

	// ShortTerm takes short-term credentials (RFC 8489 Section 9.1) in place
	// of long-term ones. They have no realm and no nonce, so that who can read
	// a request can play it again: use it inside of one's own network.
	ShortTerm bool

	// MD5Only says that Auth knows some users by their MD5 keys alone, as
	// databases of RFC 5389 servers do. Passwords hashed with SHA-256 are not
	// offered to RFC 8489 clients then; MESSAGE-INTEGRITY-SHA256 is.
	MD5Only bool

	// Anonymity offers USERHASH in place of USERNAME (RFC 8489 Section 9.2).
	// Auth must be able to look users up by auth.Request.UserHash.
	Anonymity bool

	// ThirdParty is the name that this server has with an authorization server
	// (RFC 7635 THIRD-PARTY-AUTHORIZATION). "" takes no ACCESS-TOKEN.
	ThirdParty string

	// Auth decides about every allocation, in goroutines of its own, at most
	// MaxAuthorizing at a time (0: 256), each for 10 seconds at most. What
	// comes beyond that is dropped, and the client asks again. nil refuses.
	Auth           auth.Authorizer
	MaxAuthorizing int

	// MaxWaiting is how many TCP, TLS and DTLS connections may be without an
	// allocation at a time, up to Policy.IdleTimeout each (0: 4096), and
	// MaxWaitingPerSource how many of one IPv4 address or IPv6 /64 (0: 512).
	// One too many is closed. Each takes some 10 KB, or 25 KB with TLS, 3 KB with
	// DTLS.
	MaxWaiting, MaxWaitingPerSource int

	// Realms tells the limits and peer rules of realms, and the realm of an
	// ORIGIN. nil: there are none but Policy's.
	Realms auth.Realms

	// Relays opens the sockets that data is relayed through. nil: a
	// *RelayPorts at the address that the client has spoken to.
	Relays RelayAllocator

	// DTLS serves DTLS 1.2 on the sockets of ServePacket. Its certificates,
	// GetCertificate, NextProtos, ClientAuth and ClientCAs count. nil: no DTLS.
	DTLS *tls.Config

	// NAT are the addresses of four UDP sockets for NAT behaviour discovery
	// (RFC 5780), in the order of stun.Socket: two addresses, two ports each.
	// ServePacket is to be called for each of them. Zero: CHANGE-REQUEST gets
	// 420.
	NAT [4]netip.AddrPort

	// Proxies are who hands on UDP clients with a PROXY header (version 2)
	// before each datagram. A header from anybody else is not believed.
	Proxies []netip.Prefix

	// NonceSecret makes nonces, 16 bytes or more of it. Servers that share it
	// take each other's nonces. nil: a random one.
	NonceSecret []byte

	// Software goes out as SOFTWARE. "" sends none, which keeps answers small.
	Software string

	// Reasons adds the RFC's reason phrases to errors. They help to debug, and
	// make answers to unauthenticated requests larger.
	Reasons bool

	// Log gets a line for every event of a session, none of which has a
	// secret in it. nil: nothing is logged.
	Log *slog.Logger

	policy atomic.Pointer[policy]
	start  time.Time // of the clock; set once by begin
	setup  sync.Once
	nonces nonces
	own    ownAddrs
	quota  quotas
	nat    [4]atomic.Pointer[udp.Conn]
	events events.Bus[Event]
	stats  serverStats
	stock  RelayPorts // where Relays is nil
	base   context.Context
	cancel context.CancelFunc // of base: ends questions to Auth and Realms

	authorizing chan struct{} // a token for each call of Auth
	ofStreams   chan struct{} // of these, those that streams may have
	ofStrangers chan struct{} // of these, those of clients that have proved nothing, for Realms
	askers      halfopen.Gate // bounds those of one source over UDP
	waiting     halfopen.Gate // streams without an allocation
	workers     chan func()   // takes what a worker without work does next

	mu          sync.Mutex // guards what follows
	closers     map[closer]struct{}
	serving     sync.WaitGroup
	live        map[uint64]*Allocation
	lastID      uint64
	realms      map[string]*realm
	origins     map[string]originRealm
	reserved    map[reservationToken]*reservation
	tickets     map[mobilityTicket]*Allocation
	connections map[uint32]*tcpPeer
	streams     []*shard // their loops read the relay sockets of TCP and TLS clients
	nextStream  int
	draining    bool
	closed      bool
	done        chan struct{} // closed by Close
	held        int           // answers that Shutdown waits for
	empty       chan struct{} // of Shutdown: closed when the last allocation has ended
}

type closer interface{ Close() error }

// clock returns nanoseconds since the server began, monotonic and above 0.
func (s *Server) clock() int64 { return int64(time.Since(s.start)) + 1 }

// at turns a time of clock into one of the wall.
func (s *Server) at(t int64) time.Time { return s.start.Add(time.Duration(t)) }

// begin makes the server ready at the first Serve or ServePacket.
func (s *Server) begin() error {
	switch {
	case s.Realm == "" && !s.ShortTerm:
		return errors.New("turn: Server.Realm is empty")
	case s.NonceSecret != nil && len(s.NonceSecret) < 16:
		return errors.New("turn: Server.NonceSecret is shorter than 16 bytes")
	}
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.draining {
		return ErrServerClosed
	}
	return nil
}

// init makes what the zero value lacks, and starts the sweep with it.
func (s *Server) init() {
	s.setup.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.start = time.Now()
		s.base, s.cancel = context.WithCancel(context.Background())
		s.nonces.init(s.NonceSecret)
		n := s.MaxAuthorizing
		if n <= 0 {
			n = 256
		}
		s.authorizing = make(chan struct{}, n)
		s.ofStreams = make(chan struct{}, max(n/2, 1))
		s.ofStrangers = make(chan struct{}, max(n/4, 1))
		s.askers.PerSource = max(n/8, maxAsking)
		s.waiting.Max, s.waiting.PerSource = s.MaxWaiting, s.MaxWaitingPerSource
		set(&s.waiting.Max, 4096)
		set(&s.waiting.PerSource, 512)
		s.workers = make(chan func())
		s.closers = make(map[closer]struct{})
		s.live = make(map[uint64]*Allocation)
		s.realms = make(map[string]*realm)
		s.origins = make(map[string]originRealm)
		s.reserved = make(map[reservationToken]*reservation)
		s.tickets = make(map[mobilityTicket]*Allocation)
		s.connections = make(map[uint32]*tcpPeer)
		s.done = make(chan struct{})
		s.policy.CompareAndSwap(nil, compilePolicy(&Policy{}, 1))
		if s.closed {
			close(s.done)
			return
		}
		s.serving.Go(s.sweep)
		s.serving.Go(s.probeAlternates)
	})
}

// track has c closed by Close, which waits, until untrack. It fails once the
// server is closed.
func (s *Server) track(c closer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrServerClosed
	}
	s.closers[c] = struct{}{}
	s.serving.Add(1)
	return nil
}

func (s *Server) untrack(c closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.closers, c)
	s.serving.Done()
}

// ServePacket serves the clients of one UDP socket, which it owns and closes.
// Call it for several sockets of one address (SO_REUSEPORT, one for each core,
// see [ListenPackets]) to have them share the clients: each has a loop that
// reads the relay sockets of its clients too. It blocks until the socket fails
// or the server is closed; the latter is ErrServerClosed.
//
// The socket is to be bound to an address. One of the unspecified address
// (":3478") answers from the address that routing picks, which a client that
// has asked another does not take; ListenPackets opens one for each address.
func (s *Server) ServePacket(pc net.PacketConn) error {
	if err := s.begin(); err != nil {
		_ = pc.Close() // ours to close, whatever happens
		return err
	}
	if err := s.hasRelays(pc.LocalAddr()); err != nil {
		_ = pc.Close()
		return err
	}
	sh := newShard(s, udp.WrapOptions(pc, udp.Options{GRO: true, Marks: true, ReadBuffer: listenerBuffer}))
	if err := s.track(sh); err != nil {
		sh.close()
		return err
	}
	defer s.untrack(sh)
	defer sh.close()
	defer s.own.addListener(sh.conn.LocalAddr())()
	err := sh.run()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrServerClosed
	}
	return err
}

// hasRelays reports whether there can be relay sockets for clients that come to
// a listener's address.
func (s *Server) hasRelays(listener net.Addr) error {
	if s.Relays == nil && addrPortOf(listener).Addr().IsUnspecified() {
		return errors.New("turn: Server.Relays is nil and the listener has no address of its own to relay from")
	}
	return nil
}

// streamShard returns one of the loops that read the relay sockets of clients
// without a UDP socket of their own. They begin with the first such client.
func (s *Server) streamShard() (*shard, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrServerClosed
	}
	n := socketCount(0)
	if len(s.streams) < n {
		sh := newShard(s, nil)
		s.streams = append(s.streams, sh)
		s.closers[sh] = struct{}{}
		s.serving.Go(func() { _ = sh.run() }) // it ends by Close
		return sh, nil
	}
	s.nextStream++
	return s.streams[s.nextStream%n], nil
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}
