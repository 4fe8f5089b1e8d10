package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/nats-io/nats.go"

	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/natsregistry"
	"github.com/runnel-media/runnel/stream"
)

// clusterOptions are the flags of a cluster, see docs/cluster.md.
type clusterOptions struct {
	nats, name, advertise string
	token, creds, ca      string

	// of a NATS node in this process
	listen, peerListen, dir string
	peers                   config.List
}

// embedded stands for a NATS node in this process in place of a URL.
const embedded = "embedded"

func (o *clusterOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.nats, "cluster", "", "make this server one of a cluster, whose registry is in NATS: the URL of one, nats://host or tls://host, several separated by commas, or \"embedded\" for one in this process; empty: no cluster")
	fs.StringVar(&o.name, "cluster-name", "runnel", "name of the cluster; servers with the same one are together")
	fs.StringVar(&o.advertise, "advertise", "", "where other servers of the cluster reach this one's HTTP port, such as runnels://host or runnel://host:8080; empty: by this machine's name")
	fs.StringVar(&o.token, "cluster-token", "", "secret of the cluster's NATS nodes, which those who connect must show")
	fs.StringVar(&o.creds, "cluster-creds", "", "NATS credentials file for -cluster nats://…")
	fs.StringVar(&o.ca, "cluster-ca", "", "certificates to trust, a PEM file: NATS is spoken over TLS then, with -cert and -key as our own certificate")
	fs.StringVar(&o.listen, "cluster-listen", "", "address at which -cluster embedded serves other servers, which get it as -cluster nats://…; empty: none")
	fs.StringVar(&o.peerListen, "cluster-peer-listen", "", "address at which -cluster embedded serves the other NATS nodes, such as :6222; only with -cluster-peer")
	fs.Var(&o.peers, "cluster-peer", "address of another server's -cluster-peer-listen, host:port; may be repeated. Three servers that name each other keep the registry together, and any one may fail")
	fs.StringVar(&o.dir, "cluster-dir", "", "directory that keeps what -cluster embedded must remember; empty: a temporary one")
}

func (o *clusterOptions) on() bool { return o.nats != "" }

// check says what does not go together.
func (o *clusterOptions) check(at *options) error {
	switch {
	case !o.on():
		return nil
	case at.http == "" && at.https == "":
		return errors.New("-cluster needs -http or -https: other servers fetch there")
	case len(o.peers) > 0 && o.dir == "":
		return errors.New("-cluster-peer needs -cluster-dir: a NATS node must remember what it told others")
	case o.nats != embedded && (o.listen != "" || o.peerListen != "" || len(o.peers) > 0):
		return errors.New("-cluster-listen and -cluster-peer are for -cluster embedded")
	case o.ca != "" && at.certificates.cert == "":
		return errors.New("-cluster-ca needs -cert and -key")
	}
	return nil
}

// open makes a relay, that does not run yet, one of a cluster. The returned
// function is for when it runs no more.
func (o *clusterOptions) open(r *relay.Relay, hub *stream.Hub, at *options, log *slog.Logger) (stop func(), err error) {
	if !o.on() {
		return func() {}, nil
	}
	r.Advertise = o.advertise
	if r.Advertise == "" {
		if r.Advertise, err = advertised(at); err != nil {
			return nil, err
		}
	}
	secure, err := o.tls(at)
	if err != nil {
		return nil, err
	}
	var conn *nats.Conn
	node := &natsregistry.Embedded{
		Name: o.nodeName(at), Cluster: o.name, Dir: o.dir, Listen: o.listen, Peers: o.peerListen, Routes: o.peers,
		Token: o.token, TLS: secure, Log: log,
	}
	if o.nats == embedded {
		if err := node.Start(); err != nil {
			return nil, err
		}
		conn, err = node.Connect()
	} else {
		conn, err = natsregistry.Connect(o.nats, o.credentials(secure)...)
	}
	if err != nil {
		_ = node.Close()
		return nil, fmt.Errorf("-cluster: %w", err)
	}
	r.Registry = &natsregistry.Registry{Conn: conn, Name: o.name}
	hub.Source = r
	return func() {
		conn.Close()
		if err := node.Close(); err != nil {
			log.Warn("closing the NATS node", "err", err)
		}
	}, nil
}

// nodeName is how NATS tells this node from others, as before a restart.
func (o *clusterOptions) nodeName(at *options) string {
	if at.relay.id != "" {
		return at.relay.id
	}
	if name, err := os.Hostname(); err == nil && o.peerListen != "" {
		return name + o.peerListen
	}
	return ""
}

// tls returns how NATS is spoken to others, nil if that is in the clear.
func (o *clusterOptions) tls(at *options) (*tls.Config, error) {
	if o.ca == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.ca)
	if err != nil {
		return nil, fmt.Errorf("-cluster-ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("-cluster-ca: no certificate in %s", o.ca)
	}
	cert, err := tls.LoadX509KeyPair(at.certificates.cert, at.certificates.key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: roots, ClientCAs: roots,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}, nil
}

// credentials are what a NATS that is not ours wants to see.
func (o *clusterOptions) credentials(secure *tls.Config) []nats.Option {
	var list []nats.Option
	if o.token != "" {
		list = append(list, nats.Token(o.token))
	}
	if o.creds != "" {
		list = append(list, nats.UserCredentials(o.creds))
	}
	if secure != nil {
		list = append(list, nats.Secure(secure))
	}
	return list
}

// advertised is where others reach our HTTP, as far as this machine knows.
func advertised(at *options) (string, error) {
	scheme, addr := "runnels", at.https
	if addr == "" {
		scheme, addr = "runnel", at.http
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("-advertise is needed: %w", err)
		}
	}
	return scheme + "://" + net.JoinHostPort(host, port), nil
}
