package relay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A fleet is a cluster of real relays with clients that behave as encoders and
// players do. It lives in a bubble: time is virtual, and the network in memory.
type fleet struct {
	t        *testing.T
	net      *streamtest.Net
	registry *MemoryRegistry
	capacity int64 // clients that make the load of a server 1
	clients  sync.WaitGroup
	ports    atomic.Uint32

	mu    sync.Mutex
	rand  *rand.Rand
	nodes map[string]*vessel // alive
	order []string
}

// A vessel is a server of a fleet.
type vessel struct {
	*node
	fleet    *fleet
	link     *link
	guard    auth.Authorizer
	sessions atomic.Int64 // of clients
	slow     time.Duration
	dead     atomic.Bool
	stop     context.CancelFunc
	done     chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]*vessel // made to others
}

// A link is a server's way to the registry and to others.
type link struct {
	*MemoryRegistry
	cut   atomic.Bool // from the registry, and from servers on the other side
	delay time.Duration
	watch sync.Mutex
	ends  map[int]context.CancelCauseFunc // of Watches
}

func (l *link) pass(ctx context.Context) error {
	time.Sleep(l.delay)
	if l.cut.Load() {
		<-ctx.Done() // as when packets get lost
		return errAway
	}
	return nil
}

func (l *link) Announce(ctx context.Context, s Server) error {
	if err := l.pass(ctx); err != nil {
		return err
	}
	return l.MemoryRegistry.Announce(ctx, s)
}

func (l *link) Withdraw(ctx context.Context, id string) error {
	if err := l.pass(ctx); err != nil {
		return err
	}
	return l.MemoryRegistry.Withdraw(ctx, id)
}

func (l *link) Claim(ctx context.Context, server, name string) error {
	if err := l.pass(ctx); err != nil {
		return err
	}
	return l.MemoryRegistry.Claim(ctx, server, name)
}

func (l *link) Release(ctx context.Context, server, name string) error {
	if err := l.pass(ctx); err != nil {
		return err
	}
	return l.MemoryRegistry.Release(ctx, server, name)
}

func (l *link) Watch(ctx context.Context) iter.Seq2[Change, error] {
	ctx, cancel := context.WithCancelCause(ctx)
	l.watch.Lock()
	if l.cut.Load() {
		cancel(errAway)
	}
	if l.ends == nil {
		l.ends = make(map[int]context.CancelCauseFunc)
	}
	n := len(l.ends)
	l.ends[n] = cancel
	l.watch.Unlock()
	if ctx.Err() != nil {
		return func(yield func(Change, error) bool) { yield(Change{}, context.Cause(ctx)) }
	}
	return l.MemoryRegistry.Watch(ctx)
}

func (l *link) sever(cut bool) {
	l.watch.Lock()
	defer l.watch.Unlock()
	l.cut.Store(cut)
	for _, end := range l.ends {
		end(errAway)
	}
	clear(l.ends)
}

func newFleet(t *testing.T, capacity int64) *fleet {
	return &fleet{
		t: t, net: &streamtest.Net{Latency: time.Millisecond}, registry: &MemoryRegistry{}, capacity: capacity,
		rand: rand.New(rand.NewPCG(1, 2)), nodes: make(map[string]*vessel),
	}
}

// launch adds a server.
func (f *fleet) launch(host string, change func(v *vessel)) *vessel {
	v := &vessel{fleet: f, node: newNode(f.t, f.net, host), link: &link{MemoryRegistry: f.registry}, done: make(chan struct{})}
	v.Hub.Source, v.Hub.Grace, v.Hub.Linger = v.Relay, 5*time.Second, 2*time.Second
	v.Registry, v.Advertise, v.Redirect = v.link, "runnel://"+host, true
	v.Public = map[string]string{"http": "http://" + host, "rtmp": "rtmp://" + host}
	v.Load = func() (float64, bool) { return float64(v.sessions.Load()) / float64(f.capacity), false }
	v.DialContext = v.dial
	if change != nil {
		change(v)
	}
	v.guard = v.Guard(auth.AllowAll)
	ctx, cancel := context.WithCancel(context.Background())
	v.stop = cancel
	go func() {
		defer close(v.done)
		_ = v.Run(ctx)
	}()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[host] = v
	if !slices.Contains(f.order, host) {
		f.order = append(f.order, host)
	}
	return v
}

// dial reaches servers on the same side of a partition.
func (v *vessel) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	time.Sleep(v.slow)
	host, _, _ := net.SplitHostPort(addr)
	to := v.fleet.at(host)
	if to == nil || to.link.cut.Load() != v.link.cut.Load() {
		return nil, errAway
	}
	nc, err := v.net.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &tracked{nc, v}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.conns == nil {
		v.conns = make(map[net.Conn]*vessel)
	}
	v.conns[c] = to
	return c, nil
}

// A tracked connection can be cut by a partition.
type tracked struct {
	net.Conn
	from *vessel
}

func (c *tracked) Close() error {
	c.from.mu.Lock()
	delete(c.from.conns, c)
	c.from.mu.Unlock()
	return c.Conn.Close()
}

// partition cuts servers off from the registry and from all others, or joins them
// again.
func (f *fleet) partition(cut bool, some ...*vessel) {
	for _, v := range some {
		v.link.sever(cut)
	}
	for _, v := range f.alive() {
		v.mu.Lock()
		conns := maps.Clone(v.conns)
		v.mu.Unlock()
		for c, to := range conns {
			if to.link.cut.Load() != v.link.cut.Load() {
				_ = c.Close()
			}
		}
	}
}

func (f *fleet) at(host string) *vessel {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[host]
}

// entry is the server that a client comes to first, by a balancer that knows
// which ones answer.
func (f *fleet) entry() *vessel {
	all := f.alive()
	f.mu.Lock()
	defer f.mu.Unlock()
	return all[f.rand.IntN(len(all))]
}

func (f *fleet) pause(from, to time.Duration) {
	f.mu.Lock()
	d := from + time.Duration(f.rand.Int64N(int64(to-from)))
	f.mu.Unlock()
	time.Sleep(d)
}

func (f *fleet) alive() (all []*vessel) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, host := range f.order {
		if v := f.nodes[host]; v != nil {
			all = append(all, v)
		}
	}
	return all
}

// remove takes a server away: at once as with kill -9, or in order.
func (f *fleet) remove(v *vessel, kill bool) {
	f.mu.Lock()
	delete(f.nodes, v.host)
	f.mu.Unlock()
	v.dead.Store(true)
	if kill {
		v.link.sever(true)
	}
	v.stop()
	v.close()
	if kill {
		f.clients.Go(func() { <-v.done }) // it tries to say farewell
		return
	}
	<-v.done
}

func (f *fleet) close() {
	for _, v := range f.alive() {
		f.remove(v, false)
	}
	f.clients.Wait()
	_ = f.net.Close()
}

var errDead = errors.New("nobody answers")

// arrive has a client ask, and go where it is sent.
func (f *fleet) arrive(ctx context.Context, v *vessel, action auth.Action, name string) (*vessel, error) {
	q := auth.Request{Action: action, Protocol: "http-flv", Stream: "live/" + name, App: "live", Name: name}
	if action == auth.Publish {
		q.Protocol = "rtmp"
	}
	q.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), uint16(f.ports.Add(1)))
	for range 8 {
		if v == nil || v.dead.Load() {
			return nil, errDead
		}
		time.Sleep(2*time.Millisecond + v.slow)
		_, err := v.guard.Authorize(ctx, &q)
		var to *auth.Redirect
		if !errors.As(err, &to) {
			return v, err
		}
		u, err := url.Parse(to.Location)
		if err != nil {
			return nil, err
		}
		v, q.RawQuery = f.at(u.Hostname()), u.RawQuery
	}
	return nil, errors.New("sent on without end")
}

// A client is an encoder or a player.
type client struct {
	name string

	mu     sync.Mutex
	at     *vessel   // nil: not served
	last   time.Time // when media went last
	worst  time.Duration
	served int // times
}

func (c *client) media(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last.IsZero() {
		c.worst = max(c.worst, now.Sub(c.last))
	}
	c.last = now
}

func (c *client) moved(v *vessel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at = v; v != nil {
		c.served++
	}
}

func (c *client) times() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served
}

// where is the server that serves the client.
func (c *client) where() *vessel {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// gap returns the longest time without media since the last call.
func (c *client) gap() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	worst := max(c.worst, time.Since(c.last))
	c.worst, c.last = 0, time.Now()
	return worst
}

// session is a client's stay at a server; kicked tells why it was ended.
func (v *vessel) session(role stream.Role, c *client) (s *stream.Session, kicked chan error) {
	kicked = make(chan error, 1)
	info := stream.SessionInfo{Role: role, Protocol: "http-flv", Stream: "live/" + c.name, App: "live", Name: c.name}
	if role == stream.RolePublish {
		info.Protocol = "rtmp"
	}
	s = v.Hub.OpenSession(info, func(err error) { kicked <- err })
	v.sessions.Add(1)
	c.moved(v)
	return s, kicked
}

func (v *vessel) leave(s *stream.Session, c *client) {
	s.Close(nil)
	v.sessions.Add(-1)
	c.moved(nil)
}

// next is where a client goes whose session has ended, nil: wherever.
func (f *fleet) next(err error) *vessel {
	var to *auth.Redirect
	if errors.As(err, &to) {
		if u, err := url.Parse(to.Location); err == nil {
			return f.at(u.Hostname())
		}
	}
	return nil
}

var opusTrack = &stream.Track{ID: 1, Codec: stream.Opus, Rate: 48000, Channels: 2}

const frameEvery = time.Second

// encode publishes until ctx ends, wherever it can.
func (f *fleet) encode(ctx context.Context, name string) *client {
	c := &client{name: name}
	f.clients.Go(func() {
		began := time.Now()
		var to *vessel
		for ctx.Err() == nil {
			if to == nil {
				to = f.entry()
			}
			v, err := f.arrive(ctx, to, auth.Publish, name)
			to = nil
			if err != nil {
				f.pause(500*time.Millisecond, 1500*time.Millisecond)
				continue
			}
			s, kicked := v.session(stream.RolePublish, c)
			evicted := make(chan error, 1)
			pub, err := v.Hub.Publish(ctx, "live/"+name, &stream.PublishOptions{Session: s, Jitter: stream.JitterOff, OnEvict: func(err error) { evicted <- err }})
			if err == nil {
				_ = pub.SetTracks(opusTrack)
				tick := time.NewTicker(frameEvery)
				for on := true; on; {
					now := time.Now()
					f := &stream.Frame{Track: opusTrack, DTS: now.Sub(began), PTS: now.Sub(began), Time: now, Key: true, Data: []byte{0xfc, 1, 2}}
					if err := pub.Write(f); err != nil {
						break
					}
					c.media(now)
					select {
					case <-tick.C:
					case err := <-kicked:
						to, on = v.fleet.next(err), false
					case <-evicted:
						on = false
					case <-ctx.Done():
						on = false
					}
				}
				tick.Stop()
				_ = pub.Close()
			}
			v.leave(s, c)
			if to == nil && ctx.Err() == nil {
				f.pause(500*time.Millisecond, 1500*time.Millisecond)
			}
		}
	})
	return c
}

// watch plays until ctx ends, wherever it can.
func (f *fleet) watch(ctx context.Context, name string) *client {
	c := &client{name: name}
	f.clients.Go(func() {
		var to *vessel
		for ctx.Err() == nil {
			if to == nil {
				to = f.entry()
			}
			v, err := f.arrive(ctx, to, auth.Play, name)
			to = nil
			if err == nil {
				to = f.play(ctx, v, c)
			}
			if to == nil && ctx.Err() == nil {
				f.pause(500*time.Millisecond, 1500*time.Millisecond)
			}
		}
	})
	return c
}

// patience is how long a player waits for media before it connects again.
const patience = 6 * time.Second

func (f *fleet) play(ctx context.Context, v *vessel, c *client) (next *vessel) {
	sub, err := v.Hub.Subscribe(ctx, "live/"+c.name, &stream.SubscribeOptions{Wait: 2 * time.Second})
	if err != nil {
		return nil
	}
	defer sub.Close()
	s, kicked := v.session(stream.RolePlay, c)
	defer v.leave(s, c)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer func() { cancel(nil); <-done }()
	go func() {
		defer close(done)
		select {
		case err := <-kicked:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	var batch [16]*stream.Frame
	for {
		limited, stop := context.WithTimeout(ctx, patience)
		n, err := sub.Read(limited, batch[:])
		stop()
		if n > 0 {
			c.media(time.Now())
		}
		if err != nil {
			return f.next(context.Cause(ctx))
		}
	}
}

// holders counts the servers at which a stream has a publisher of its own.
func (f *fleet) holders(name string) (n int) {
	for _, v := range f.alive() {
		if v.publishedHere(name) {
			n++
		}
	}
	return n
}

// agreed waits until all servers know the same owner of each stream, and the
// registry does.
func (f *fleet) agreed(names []string, limit time.Duration) {
	f.t.Helper()
	end := time.Now().Add(limit)
	for {
		dissent := f.dissent(names)
		if dissent == "" {
			return
		}
		require.True(f.t, time.Now().Before(end), dissent)
		time.Sleep(100 * time.Millisecond)
	}
}

func (f *fleet) dissent(names []string) string {
	all := f.alive()
	for _, name := range names {
		f.registry.mu.Lock()
		owner := f.registry.owners["live/"+name]
		f.registry.mu.Unlock()
		if n := f.holders("live/" + name); n != 1 {
			text := fmt.Sprintf("%s has %d publishers, the registry says %q:", name, n, owner)
			for _, v := range all {
				if s := v.Hub.Stream("live/" + name); s != nil {
					text += fmt.Sprintf(" at %s publishing %v from %q by %s", v.host, s.Publishing(), v.source("live/"+name), v.publisher("live/"+name).ID)
				}
			}
			return text
		}
		for _, v := range all {
			if known, _ := v.Find("live/" + name); known.ID != owner || owner == "" {
				return fmt.Sprintf("%s thinks %q has %s, not %q", v.host, known.ID, name, owner)
			}
		}
		if v := f.at(owner); v == nil || !v.publishedHere("live/"+name) {
			return fmt.Sprintf("%s is not at its owner %s", name, owner)
		}
	}
	return ""
}
