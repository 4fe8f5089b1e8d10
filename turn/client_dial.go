package turn

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/pion/dtls/v3"
	dtlsnet "github.com/pion/dtls/v3/pkg/net"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A clientTarget is where a connection of a client goes: Client.Server, or
// where that has sent us.
type clientTarget struct {
	address string // "host:port"
	domain  string // ALTERNATE-DOMAIN: what its certificate must be for; "": Client.Server's
}

// alternate reads an answer of 300, RFC 8489 Section 10.
func (t clientTarget) alternate(r *clientReply) (clientTarget, error) {
	v, ok := r.Get(stunwire.AttrAlternateServer)
	if !ok {
		return t, ErrProtocol
	}
	at, err := r.Addr(v)
	if err != nil || at.Port() == 0 {
		return t, ErrProtocol
	}
	next := clientTarget{address: at.String(), domain: t.domain}
	if domain, ok := r.Get(stunwire.AttrAlternateDomain); ok && len(domain) <= 255 {
		next.domain = string(domain)
	}
	return next, nil
}

// connect makes a connection to the target and starts its session.
func (c *Client) connect(ctx context.Context, target clientTarget, h clientHandlers) (*clientSession, error) {
	conn, datagram, err := c.dial(ctx, target)
	if err != nil {
		return nil, err
	}
	s := &clientSession{client: c, target: target, conn: conn, datagram: datagram, handlers: h}
	s.start()
	return s, nil
}

// dial makes a connection to the target over the client's transport.
func (c *Client) dial(ctx context.Context, target clientTarget) (conn net.Conn, datagram bool, err error) {
	port := "3478"
	if c.Transport == "tls" || c.Transport == "dtls" {
		port = "5349"
	}
	network := "tcp"
	if c.Transport == "" || c.Transport == "udp" || c.Transport == "dtls" {
		network, datagram = "udp", true
	}
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err = dial(ctx, network, withPort(target.address, port))
	if err != nil {
		return nil, false, fmt.Errorf("turn: %w", err)
	}
	switch c.Transport {
	case "", "udp", "tcp":
		return conn, datagram, nil
	case "tls":
		secure := tls.Client(conn, c.tlsConfig(target))
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, false, fmt.Errorf("turn: %w", err)
		}
		return secure, false, nil
	case "dtls":
		t := c.tlsConfig(target)
		secure, err := dtls.Client(dtlsnet.PacketConnFromConn(conn), conn.RemoteAddr(), &dtls.Config{
			Certificates:          t.Certificates,
			RootCAs:               t.RootCAs,
			ServerName:            t.ServerName,
			InsecureSkipVerify:    t.InsecureSkipVerify,
			VerifyPeerCertificate: t.VerifyPeerCertificate,
			SupportedProtocols:    t.NextProtos,
			ExtendedMasterSecret:  dtls.RequireExtendedMasterSecret,
		})
		if err == nil {
			err = secure.HandshakeContext(ctx)
		}
		if err != nil {
			conn.Close()
			return nil, false, fmt.Errorf("turn: %w", err)
		}
		return secure, true, nil
	}
	conn.Close()
	return nil, false, errors.New("turn: unknown transport " + c.Transport)
}

// tlsConfig returns the configuration for a connection to the target.
func (c *Client) tlsConfig(target clientTarget) *tls.Config {
	t := c.TLS.Clone()
	if t == nil {
		t = &tls.Config{}
	}
	host, _, err := net.SplitHostPort(c.Server)
	if err != nil {
		host = c.Server
	}
	t.ServerName = cmp.Or(target.domain, t.ServerName, host)
	if t.NextProtos == nil {
		t.NextProtos = []string{"stun.turn"}
	}
	if t.MinVersion == 0 {
		t.MinVersion = tls.VersionTLS12
	}
	return t
}

// withPort adds a port to an address that has none.
func withPort(address, port string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	if ip := net.ParseIP(address); ip != nil || address != "" && address[0] != '[' {
		return net.JoinHostPort(address, port)
	}
	return address + ":" + port
}
