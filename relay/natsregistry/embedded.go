package natsregistry

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// An Embedded is a NATS node inside this process. Alone it keeps the registry
// for this process, and by Listen for others; three with each other's Peers
// for Routes keep it together, and any one of them may fail. Set its fields
// before Start; the methods may be called from many goroutines at once.
type Embedded struct {
	Name    string // of this node, unique in its cluster; "": a random one
	Cluster string // name of the cluster of nodes, the same at all; default "runnel"

	// Dir is where the node keeps its data. "": a temporary directory, which
	// Close removes; a node of several should find its own again.
	Dir string

	// Listen is the address for clients in other processes, and Peers that for
	// other nodes; "": none. Port 0 means any, see ClientAddr and PeerAddr.
	Listen, Peers string

	// Routes are the addresses of the other nodes' Peers.
	Routes []string

	// Token is what clients and nodes must show. Over TLS, TLS must have a
	// certificate and say which others to trust; with tls.RequireAndVerifyClientCert
	// it serves in place of Token. An address that is not loopback's needs one
	// of the two.
	Token string
	TLS   *tls.Config

	Log *slog.Logger // nil: slog.Default()

	server    *server.Server // since Start
	token     string         // for clients
	temporary string         // directory to remove
	unlisted  bool           // other nodes tell nobody of this one; for tests
}

// How much an Embedded may write. A stream in the registry takes about 200
// bytes.
const (
	maxStore  = 4 << 30
	maxMemory = 64 << 20
)

// startLimit is how long a node may take to begin to listen.
const startLimit = 10 * time.Second

var errOpen = errors.New("natsregistry: an address that others can reach needs a Token or TLS with client certificates")

// Start starts the node and returns when it takes connections. As one of
// several it has the registry only once most of them are there.
func (e *Embedded) Start() error {
	o, err := e.options()
	if err != nil {
		return err
	}
	s, err := server.NewServer(o)
	if err != nil {
		e.clean()
		return fmt.Errorf("natsregistry: %w", err)
	}
	log := &logger{log: cmp.Or(e.Log, slog.Default())}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	for end := time.Now().Add(startLimit); !s.ReadyForConnections(startLimit / 50); {
		why := log.fatal.Load()
		if why == nil && time.Now().Before(end) {
			continue
		}
		s.Shutdown()
		s.WaitForShutdown()
		e.clean()
		if why == nil {
			return errors.New("natsregistry: the NATS node does not start")
		}
		return fmt.Errorf("natsregistry: the NATS node does not start: %s", *why)
	}
	e.server = s
	return nil
}

func (e *Embedded) options() (*server.Options, error) {
	o := &server.Options{
		ServerName: cmp.Or(e.Name, rand.Text()), NoSigs: true, DisableJetStreamBanner: true,
		JetStream: true, JetStreamMaxStore: maxStore, JetStreamMaxMemory: maxMemory,
		ConnectErrorReports: 60, ReconnectErrorReports: 60, // every so many attempts; there is one a second
		Authorization: e.Token, PingInterval: 5 * time.Second, MaxPingsOut: 2,
	}
	var err error
	e.token = e.Token
	if e.Listen == "" {
		o.DontListen = true
	} else if o.Host, o.Port, err = e.address(e.Listen); err != nil {
		return nil, err
	}
	if e.TLS != nil {
		o.TLSConfig, o.TLS, o.TLSTimeout = e.TLS.Clone(), true, 5
		o.TLSVerify = e.TLS.ClientAuth == tls.RequireAndVerifyClientCert
	}
	dir := "alone" // of one node and of several the data differ
	if (e.Peers == "") != (len(e.Routes) == 0) {
		return nil, errors.New("natsregistry: Peers and Routes go together: nodes must reach each other")
	}
	if e.Peers != "" {
		dir = "cluster"
		if err := e.join(o); err != nil {
			return nil, err
		}
	}
	if e.Dir == "" {
		if e.temporary, err = os.MkdirTemp("", "runnel-nats-"); err != nil {
			return nil, err
		}
	}
	o.StoreDir = filepath.Join(cmp.Or(e.Dir, e.temporary), dir)
	return o, nil
}

// join makes the node one of several.
func (e *Embedded) join(o *server.Options) error {
	host, port, err := e.address(e.Peers)
	if err != nil {
		return err
	}
	c := &o.Cluster
	c.Name, c.Host, c.Port = cmp.Or(e.Cluster, defaultName), host, port
	c.PoolSize = -1 // one connection is enough
	c.PingInterval, c.MaxPingsOut = 2*time.Second, 2
	if o.DontListen {
		// NATS listens for clients before it does for nodes. Without the
		// token, which nobody knows, nobody gets in.
		o.DontListen, o.Host, o.Port, c.NoAdvertise = false, "127.0.0.1", server.RANDOM_PORT, true
		if e.token == "" {
			e.token = rand.Text()
			o.Authorization = e.token
		}
	}
	if e.unlisted {
		c.Advertise = "127.0.0.1:1"
	}
	if e.Token != "" {
		c.Username, c.Password = defaultName, e.Token
	}
	if e.TLS != nil {
		c.TLSConfig, c.TLSTimeout = e.TLS.Clone(), 5
		if c.TLSConfig.RootCAs == nil {
			c.TLSConfig.RootCAs = c.TLSConfig.ClientCAs
		}
	}
	for _, r := range e.Routes {
		if _, _, err := net.SplitHostPort(r); err != nil {
			return fmt.Errorf("natsregistry: route: %w", err)
		}
		u := &url.URL{Scheme: "nats-route", Host: r}
		if e.Token != "" {
			u.User = url.UserPassword(c.Username, c.Password)
		}
		o.Routes = append(o.Routes, u)
	}
	return nil
}

// address takes an address to listen at apart. NATS calls port 0 -1.
func (e *Embedded) address(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("natsregistry: %w", err)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("natsregistry: port of %q: %w", addr, err)
	}
	if port = int(n); port == 0 {
		port = server.RANDOM_PORT
	}
	ip, err := netip.ParseAddr(host)
	local := host == "localhost" || err == nil && ip.Unmap().IsLoopback()
	if !local && e.Token == "" && (e.TLS == nil || e.TLS.ClientAuth != tls.RequireAndVerifyClientCert) {
		return "", 0, errOpen
	}
	return cmp.Or(host, "0.0.0.0"), port, nil
}

// ClientAddr returns where clients connect, nil without Listen.
func (e *Embedded) ClientAddr() net.Addr {
	if e.server == nil || e.Listen == "" {
		return nil
	}
	return e.server.Addr()
}

// PeerAddr returns where other nodes connect, nil without Peers.
func (e *Embedded) PeerAddr() net.Addr {
	if e.server == nil || e.Peers == "" {
		return nil
	}
	return e.server.ClusterAddr()
}

// Connect connects to the node within the process, as the function Connect
// does by URL.
func (e *Embedded) Connect(opts ...nats.Option) (*nats.Conn, error) {
	if e.server == nil {
		return nil, errNoConn
	}
	own := []nats.Option{nats.InProcessServer(e.server)}
	if e.token != "" {
		own = append(own, nats.Token(e.token))
	}
	return Connect("", append(own, opts...)...)
}

// Close ends the node and waits for that. What it led others lead from then on.
func (e *Embedded) Close() error {
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
	}
	return e.clean()
}

func (e *Embedded) clean() error {
	if e.temporary == "" {
		return nil
	}
	return os.RemoveAll(e.temporary)
}

// A logger passes on what NATS has to say. Its notices are for those who look
// for something.
type logger struct {
	log   *slog.Logger
	fatal atomic.Pointer[string] // the last that NATS would end the process for
}

func (l *logger) say(level slog.Level, format string, v []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "nats: "+fmt.Sprintf(format, v...))
	}
}

func (l *logger) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }
func (l *logger) Warnf(format string, v ...any)   { l.say(slog.LevelInfo, format, v) }
func (l *logger) Errorf(format string, v ...any)  { l.say(slog.LevelWarn, format, v) }
func (l *logger) Debugf(string, ...any)           {}
func (l *logger) Tracef(string, ...any)           {}
func (l *logger) Fatalf(format string, v ...any) {
	why := fmt.Sprintf(format, v...)
	l.fatal.Store(&why)
}
