package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Answers of the load generator, one line of JSON each.
type (
	turnConnected struct {
		Clients int           `json:"clients"`
		Took    time.Duration `json:"took"` // for the allocations
		Error   string        `json:"error,omitempty"`
	}
	turnMeasured struct {
		Sent     int64         `json:"sent"`     // packets in the window
		Received int64         `json:"received"` // of those
		P50      time.Duration `json:"p50"`      // from a client to a peer, or the other way
		P99      time.Duration `json:"p99"`
		CPU      time.Duration `json:"cpu"`  // that this process has used in the window
		Late     time.Duration `json:"late"` // the longest that a burst left after its time
	}
	turnBound struct {
		Answers int64         `json:"answers"` // Binding responses in the window
		CPU     time.Duration `json:"cpu"`
	}
)

// turnLoad is TURN clients, the peers that they talk to, and what they say.
type turnLoad struct {
	server  string
	via     string
	clients int
	peers   int
	burst   int // packets
	size    int // bytes of one
	rate    int // bursts a second
	dir     string
	segment bool // send a burst in one call and take several packets in one
	tick    time.Duration
	bare    bool // allocations alone over UDP, for their memory and rate

	sessions []*turnSession
	udp      *udpLoad // the sockets of peers, and of clients over UDP
	meter    meter
	stop     chan struct{}
	stopped  sync.WaitGroup
	readers  sync.WaitGroup
	epoch    atomic.Uint32 // goes into each packet: 1 in the window
	cpu      time.Duration
}

// A stamp leads the data of a packet.
const (
	stampTime  = 0 // nanoseconds of the wall clock
	stampEpoch = 8
	stampSize  = 12
)

func putStamp(b []byte, now int64, epoch uint32) {
	binary.BigEndian.PutUint64(b[stampTime:], uint64(now))
	binary.BigEndian.PutUint32(b[stampEpoch:], epoch)
}

// A meter counts the packets of a window and their delays.
type meter struct {
	mu    sync.Mutex
	count int64
	hist  []uint32 // by meterStep
}

const (
	meterStep = 2 * time.Microsecond
	meterMax  = time.Second
)

// packet counts a packet that came at a time.
func (m *meter) packet(b []byte, at int64) {
	if len(b) < stampSize || binary.BigEndian.Uint32(b[stampEpoch:]) != 1 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	d := at - int64(binary.BigEndian.Uint64(b[stampTime:]))
	m.hist[min(len(m.hist)-1, max(0, int(d)/int(meterStep)))]++
}

func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count, m.hist = 0, make([]uint32, meterMax/meterStep)
}

func (m *meter) quantile(q float64) time.Duration {
	seen, rank := int64(0), int64(q*float64(m.count))
	for i, n := range m.hist {
		if seen += int64(n); seen > rank {
			return time.Duration(i) * meterStep
		}
	}
	return 0
}

// runTurnLoad is the process that holds clients and peers. It obeys the lines
// "connect", "start", "begin", "end" and "bindings", and answers each. It ends
// with its input.
func runTurnLoad(_ context.Context, args []string, in io.Reader, out, log io.Writer) error {
	signal.Reset() // it holds nothing worth a slow end
	g := &turnLoad{stop: make(chan struct{})}
	fs := flag.NewFlagSet("bench turnload", flag.ContinueOnError)
	fs.SetOutput(log)
	fs.StringVar(&g.server, "server", "", "address")
	fs.StringVar(&g.via, "via", viaUDP, "udp, tcp, tls or dtls")
	fs.IntVar(&g.clients, "clients", 1, "clients")
	fs.IntVar(&g.peers, "peers", 4, "addresses that they talk to")
	fs.IntVar(&g.burst, "burst", 1, "packets at once")
	fs.IntVar(&g.size, "size", 172, "bytes of a packet")
	fs.IntVar(&g.rate, "rate", 50, "bursts a second")
	fs.StringVar(&g.dir, "dir", "up", "up, down or both")
	fs.BoolVar(&g.segment, "segment", true, "UDP_SEGMENT and UDP_GRO")
	fs.DurationVar(&g.tick, "tick", time.Millisecond, "between two looks at clock and sockets")
	fs.BoolVar(&g.bare, "bare", false, "allocations only")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := raiseFiles(uint64(g.clients) + 500); err != nil {
		return err
	}
	runtime.GOMAXPROCS(runtime.NumCPU() + 1) // one for the thread that sleeps
	defer g.close()
	answers := json.NewEncoder(out)
	for s := bufio.NewScanner(in); s.Scan(); {
		var answer any = struct{}{}
		var err error
		switch s.Text() {
		case "connect":
			if g.bare {
				answer = g.allocations()
			} else {
				answer = g.connect()
			}
		case "start":
			err = g.start()
		case "begin":
			err = g.begin()
		case "end":
			answer, err = g.end()
		case "bindings":
			answer, err = g.bindings(2 * time.Second)
		default:
			err = fmt.Errorf("bench: turnload: no command %q", s.Text())
		}
		if err == nil {
			err = answers.Encode(answer)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// source is the address of client k: of many addresses, as a server's limits
// by source want it.
func source(k int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 0, byte(1 + k/250%250), byte(1 + k%250)})
}

// connect makes the peers, the clients and their allocations.
func (g *turnLoad) connect() (a turnConnected) {
	var err error
	if g.udp, err = newUDPLoad(g); err != nil {
		a.Error = err.Error()
		return a
	}
	g.sessions = make([]*turnSession, g.clients)
	n, err := g.each(func(k int) (err error) {
		g.sessions[k], err = dialTurn(g.server, g.via, source(k), 10*time.Second)
		return err
	})
	if err == nil {
		start := time.Now()
		n, err = g.each(func(k int) error { return g.sessions[k].allocate() })
		a.Took = time.Since(start)
	}
	if err == nil {
		n, err = g.each(g.bind)
	}
	if a.Clients = n; err != nil {
		a.Error = err.Error()
	}
	return a
}

// each calls f for every client, for some at once, and returns how often that
// went well, and the first error.
func (g *turnLoad) each(f func(k int) error) (int, error) {
	turns := make(chan struct{}, 32)
	var wg sync.WaitGroup
	var n atomic.Int64
	var first atomic.Pointer[error]
	for k := range g.clients {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			if err := f(k); err != nil {
				first.CompareAndSwap(nil, &err)
				return
			}
			n.Add(1)
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return int(n.Load()), *err
	}
	return int(n.Load()), nil
}

// bind gives client k its channel, and somebody who reads what comes by it.
func (g *turnLoad) bind(k int) error {
	s := g.sessions[k]
	if err := s.bind(g.udp.peerAddr(k % g.peers)); err != nil {
		return err
	}
	if c, ok := s.conn.(*net.UDPConn); ok {
		return g.udp.adopt(k, c)
	}
	g.readers.Go(func() { g.follow(s) })
	return nil
}

// follow reads what the server sends to a client that is not on g.udp.
func (g *turnLoad) follow(s *turnSession) {
	for {
		p, err := s.read()
		if err != nil {
			return
		}
		if len(p) > 4 && p[0] == turnChannel>>8 {
			g.meter.packet(p[4:], time.Now().UnixNano())
		}
	}
}

// start lets the clients and peers send. Peers send to the relay addresses, for
// which the clients' channels are the permission.
func (g *turnLoad) start() error {
	g.meter.reset()
	g.stopped.Go(g.udp.run)
	return nil
}

func (g *turnLoad) begin() (err error) {
	g.meter.reset()
	g.udp.sent.Store(0)
	g.udp.late.Store(0)
	g.cpu, err = cpuTime(os.Getpid())
	g.epoch.Store(1)
	return err
}

func (g *turnLoad) end() (a turnMeasured, err error) {
	cpu, err := cpuTime(os.Getpid())
	if err != nil {
		return a, err
	}
	g.epoch.Store(2)
	time.Sleep(400 * time.Millisecond) // what is on its way
	g.meter.mu.Lock()
	defer g.meter.mu.Unlock()
	a.Sent, a.Received = g.udp.sent.Load(), g.meter.count
	a.P50, a.P99 = g.meter.quantile(0.50), g.meter.quantile(0.99)
	a.CPU = cpu - g.cpu
	a.Late = time.Duration(g.udp.late.Load())
	return a, nil
}

func (g *turnLoad) close() {
	close(g.stop)
	g.stopped.Wait()
	for _, s := range g.sessions {
		if s != nil {
			s.close()
		}
	}
	g.readers.Wait()
}

// sendStream sends a burst of client s over its TCP, TLS or DTLS connection:
// as many writes, but a single one to a TCP connection.
func (g *turnLoad) sendStream(s *turnSession, buf []byte, now int64, epoch uint32) error {
	if s.pack != nil {
		s.pack.hold = true
	}
	for range g.burst {
		data, rest := channelData(buf, g.size, s.pack != nil)
		putStamp(data, now, epoch)
		if _, err := s.conn.Write(buf[:len(buf)-len(rest)]); err != nil {
			return err
		}
	}
	if s.pack != nil {
		s.pack.hold = false
		return s.pack.send()
	}
	return nil
}
