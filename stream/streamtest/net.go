package streamtest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/memnet"
)

// A Net is a TCP-like network in memory for the servers and clients of a test.
// Connections have bounded buffers, deadlines and half-close; in a bubble of
// testing/synctest all of it runs on the virtual clock, latency included. Make
// it inside the bubble. The zero value is ready to use; methods are safe for
// concurrent use.
type Net struct {
	// Set before the first call.
	Buffer    int           // bytes that each direction of a connection holds before Write blocks; 0: 64 KiB
	Latency   time.Duration // one-way delay; Dial takes twice that
	Bandwidth int           // bytes a second that each direction carries; 0: no limit

	once sync.Once
	net  *memnet.Net
}

func (n *Net) memory() *memnet.Net {
	n.once.Do(func() {
		n.net = &memnet.Net{Buffer: n.Buffer, Latency: n.Latency, Bandwidth: n.Bandwidth}
	})
	return n.net
}

// Listen listens on addr, "host:port". Without a host it takes what is dialed
// to any; port 0 picks a free one. Any host name will do. The listener's Addr
// is a *net.TCPAddr that Dial accepts.
func (n *Net) Listen(addr string) (net.Listener, error) { return n.memory().Listen(addr) }

// Dial connects to a listener, from 127.0.0.1. Its signature is that of
// net.Dialer.DialContext; network is "tcp", "tcp4" or "tcp6".
func (n *Net) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.memory().Dial(ctx, network, addr)
}

// DialFrom connects to a listener, which sees the client come from the given
// IP address, host name, or either with a port.
func (n *Net) DialFrom(ctx context.Context, from, addr string) (net.Conn, error) {
	return n.memory().DialFrom(ctx, from, addr)
}

// HTTPClient returns a client that dials into n. Its idle connections hold
// goroutines until its CloseIdleConnections or Close is called.
func (n *Net) HTTPClient() *http.Client { return n.memory().HTTPClient() }

// Close closes all listeners and connections.
func (n *Net) Close() error { return n.memory().Close() }
