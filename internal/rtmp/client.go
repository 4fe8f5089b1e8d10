package rtmp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/amf"
)

// A Dialer makes connections to RTMP servers. The zero Dialer works.
type Dialer struct {
	// DialContext makes the transport; nil: net.Dialer's. For rtmps it must
	// not do TLS itself.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS         *tls.Config   // of rtmps; nil: the default one. ServerName is filled in
	Query       string        // goes behind the tcUrl, where servers that don't know what it says overlook it
	Simple      bool          // offer the simple handshake only
	Timeout     time.Duration // for Dial, for the answer to a command, for each write; default 10 s
	IdleTimeout time.Duration // a play in which nothing arrives for so long ends; default 15 s
}

const defaultTimeout = 10 * time.Second

// A Client is a connection to an RTMP server, for one stream: call Publish or
// Play once. Close it in the end.
type Client struct {
	nc      net.Conn
	rd      reader
	stream  string // name and query, as publish and play want it
	app     string
	tcURL   string // without a query
	timeout time.Duration
	idle    time.Duration
	id      float64 // of the last command
	sid     uint32  // message stream, from createStream
}

// A StatusError is what a server says to refuse a request or to end a stream.
type StatusError struct {
	Code        string // such as "NetStream.Publish.BadName"
	Description string
}

// Error names the code.
func (e *StatusError) Error() string {
	return fmt.Sprintf("rtmp: server says %q (%q)", e.Code, e.Description)
}

// A location is a stream's URL taken apart.
type location struct {
	tls                bool
	addr, host         string
	tcURL, app, stream string
}

// parseURL takes an rtmp or rtmps URL apart. The application is the path up to
// its last slash; SRS's form rtmp://host/app?vhost=V/stream is known.
func parseURL(raw string) (location, error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	host, path, _ := strings.Cut(rest, "/")
	var l location
	port := "1935"
	switch strings.ToLower(scheme) {
	case "rtmp":
	case "rtmps":
		l.tls, port = true, "443"
	default:
		return location{}, fmt.Errorf("rtmp: not an RTMP URL: scheme %q", scheme)
	}
	u, err := url.Parse("//" + host)
	if err != nil || u.Hostname() == "" {
		return location{}, errors.New("rtmp: bad host in URL")
	}
	l.host = u.Hostname()
	l.addr = net.JoinHostPort(l.host, cmp.Or(u.Port(), port))
	plain, query, _ := strings.Cut(path, "?")
	cut := strings.LastIndexByte(plain, '/')
	if i := strings.IndexByte(query, '/'); i >= 0 && strings.HasPrefix(query, "vhost=") {
		cut = len(plain) + 1 + i
	}
	if cut < 0 {
		return location{}, errors.New("rtmp: URL without application and stream")
	}
	l.app, l.stream = path[:cut], path[cut+1:]
	l.tcURL = scheme + "://" + u.Host + "/" + l.app
	return l, nil
}

// Dial connects to the server of a URL such as rtmp://host/app/stream?token=x
// or rtmps://…, and to the application. ctx bounds Dial alone.
func (d *Dialer) Dial(ctx context.Context, rawURL string) (*Client, error) {
	l, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	tcURL := l.tcURL
	timeout := cmp.Or(d.Timeout, defaultTimeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if d.Query != "" {
		mark := "?"
		if strings.Contains(l.tcURL, "?") {
			mark = "&"
		}
		l.tcURL += mark + d.Query
	}
	dial := d.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	if l.tls {
		config := d.TLS.Clone()
		if config == nil {
			config = &tls.Config{}
		}
		config.ServerName = cmp.Or(config.ServerName, l.host)
		nc = tls.Client(nc, config)
	}
	c := &Client{nc: nc, app: l.app, tcURL: tcURL, stream: l.stream, timeout: timeout, idle: cmp.Or(d.IdleTimeout, defaultIdleTimeout)}
	err = c.within(ctx, func() error {
		if err := clientHandshake(nc, d.Simple); err != nil {
			return err
		}
		c.rd.init(nc, publishBuffer)
		return c.connect(l.tcURL)
	})
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return c, nil
}

// within calls f, whose reads and writes fail when ctx or the time for a
// command ends.
func (c *Client) within(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

func (c *Client) connect(tcURL string) error {
	properties := append(amf.Object{
		{Name: "app", Value: c.app},
		{Name: "type", Value: "nonprivate"},
		{Name: "flashVer", Value: "FMLE/3.0 (compatible; Runnel)"}, // servers look for the form
		{Name: "tcUrl", Value: tcURL},
		{Name: "objectEncoding", Value: 0.0},
	}, capabilities(canDecode|canEncode|canForward)...)
	b := appendControl(nil, typeSetChunkSize, PlayChunkSize)
	b = appendControl(b, typeWindowAckSize, windowAckSize)
	_, err := c.call(b, 0, "connect", properties)
	return err
}

// Close closes the connection.
func (c *Client) Close() error { return c.nc.Close() }

// send appends a command to b and writes both.
func (c *Client) send(b []byte, stream uint32, name string, args ...any) error {
	c.id++
	_, err := c.nc.Write(appendCommand(b, stream, append([]any{name, c.id}, args...)...))
	return err
}

// call sends a command and waits for its answer.
func (c *Client) call(b []byte, stream uint32, name string, args ...any) (*command, error) {
	if err := c.send(b, stream, name, args...); err != nil {
		return nil, err
	}
	id := c.id
	for {
		cmd, err := c.next()
		if err != nil {
			return nil, err
		}
		switch {
		case cmd.name == "_result" && cmd.id == id:
			return cmd, nil
		case cmd.name == "_error" && cmd.id == id:
			return nil, cmd.problem()
		}
	}
}

// status waits for an onStatus with the code, or one that says error, or for
// the last command to fail. That others fail does not matter: many servers
// know nothing of releaseStream.
func (c *Client) status(code string) error {
	for {
		cmd, err := c.next()
		if err != nil {
			return err
		}
		switch info := cmd.info(); {
		case cmd.name == "_error" && cmd.id == c.id:
			return cmd.problem()
		case cmd.name != "onStatus":
		case info.String("code") == code:
			return nil
		case info.String("level") == "error":
			return cmd.problem()
		}
	}
}

// next returns the next command of the server's, and answers pings.
func (c *Client) next() (*command, error) {
	for {
		m, err := c.rd.next()
		if err != nil {
			return nil, err
		}
		switch m.typ {
		case typeCommandAMF0, typeCommandAMF3:
			cmd, err := parseCommand(m)
			if err != nil {
				return nil, err
			}
			if cmd.name == "close" {
				return nil, &StatusError{Code: "close"}
			}
			return &cmd, nil
		case typeUserControl:
			if b := pong(m); b != nil {
				if _, err := c.nc.Write(b); err != nil {
					return nil, err
				}
			}
		}
	}
}

// info returns the object of an onStatus or _error.
func (c *command) info() amf.Object {
	if len(c.args) > 0 {
		if o, ok := amf.AsObject(c.args[0]); ok {
			return o
		}
	}
	return c.object
}

// reconnect returns where an onStatus asks the client to go, nil if it does not.
func (c *Client) reconnect(info amf.Object) error {
	if info.String("code") != reconnect.code {
		return nil
	}
	base, _ := url.Parse(c.tcURL)
	to, err := url.Parse(info.String("tcUrl"))
	if base == nil || err != nil {
		return errCommand
	}
	at := base.ResolveReference(to) // a relative one is allowed, none means this server
	if at.Scheme != "rtmp" && at.Scheme != "rtmps" || at.Scheme != base.Scheme && base.Scheme == "rtmps" {
		return errCommand
	}
	at.Fragment, at.User = "", nil
	if !strings.HasPrefix(at.RawQuery, "vhost=") {
		at.RawQuery = ""
	}
	return &auth.Redirect{Location: strings.TrimSuffix(at.String(), "/") + "/" + c.stream}
}

// problem returns what an onStatus or _error says as an error: an
// *auth.Redirect if it sends the client elsewhere, otherwise a *StatusError.
func (c *command) problem() error {
	info := c.info()
	if ex, ok := amf.AsObject(info.Get("ex")); ok && ex.Number("code") == 302 {
		if to := ex.String("redirect"); to != "" {
			return &auth.Redirect{Location: to}
		}
	}
	return &StatusError{Code: info.String("code"), Description: info.String("description")}
}
