package audit

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Lines is a Sink that writes one Event a line, to a file for example. Open it
// with os.O_APPEND, readable by those who may know.
type Lines struct {
	W io.Writer
	// Syslog writes lines of RFC 5424 in place of JSON.
	Syslog *Syslog
}

// Write writes a line.
func (l *Lines) Write(_ context.Context, e *Event) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if l.Syslog != nil {
		b = l.Syslog.message(e, b)
	}
	if _, err := l.W.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// Syslog is a Sink that sends messages of RFC 5424 to a server, whose text is
// the Event's JSON: one a datagram (RFC 5426), or with its length before it on
// a connection of TCP (RFC 6587) or TLS (RFC 5425). A connection that broke is
// made anew, after a pause that grows to half a minute; what comes meanwhile is
// lost, and Write says so.
//
// Its fields are set before it is used. One goroutine writes.
type Syslog struct {
	Network  string // "udp", "tcp", "tls", or "unixgram" for a local /dev/log
	Addr     string // "host:port"; a path for unixgram
	TLS      *tls.Config
	Facility int    // 0 to 23; 0 is 13, audit
	Host     string // the name of this machine; "": the system's
	App      string // "": runnel

	conn  net.Conn
	again time.Time // not to be dialled before
	pause time.Duration
}

// Write sends a message.
func (s *Syslog) Write(ctx context.Context, e *Event) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	b = s.message(e, b)
	if s.Network == "tcp" || s.Network == "tls" {
		b = append(strconv.AppendInt(nil, int64(len(b)), 10), append([]byte{' '}, b...)...)
	}
	fresh := s.conn == nil
	err = s.send(ctx, b)
	if err != nil && !fresh && ctx.Err() == nil {
		err = s.send(ctx, b) // the server may have closed what was idle
	}
	if err != nil {
		return fmt.Errorf("audit: syslog: %w", err)
	}
	return nil
}

// Close closes the connection.
func (s *Syslog) Close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}

const maxPause = 30 * time.Second

var errPause = errors.New("the server could not be reached a moment ago")

func (s *Syslog) send(ctx context.Context, b []byte) error {
	if s.conn == nil {
		if time.Now().Before(s.again) {
			return errPause
		}
		c, err := s.dial(ctx)
		if err != nil {
			s.pause = min(max(2*s.pause, time.Second), maxPause)
			s.again = time.Now().Add(s.pause)
			return err
		}
		s.conn, s.pause = c, 0
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = s.conn.SetWriteDeadline(deadline)
	}
	_, err := s.conn.Write(b)
	if err != nil {
		_ = s.Close()
	}
	return err
}

func (s *Syslog) dial(ctx context.Context) (net.Conn, error) {
	switch s.Network {
	case "udp", "tcp", "unixgram":
		return (&net.Dialer{}).DialContext(ctx, s.Network, s.Addr)
	case "tls":
		return (&tls.Dialer{Config: s.TLS}).DialContext(ctx, "tcp", s.Addr)
	}
	return nil, fmt.Errorf("network %q is none of udp, tcp, tls, unixgram", s.Network)
}

// message is a SYSLOG-MSG (RFC 5424, Section 6) with text as MSG.
func (s *Syslog) message(e *Event, text []byte) []byte {
	facility, severity := s.Facility, 4 // warning
	if facility <= 0 || facility > 23 {
		facility = 13
	}
	switch e.Result {
	case Allowed:
		severity = 6 // informational
	case Failed:
		severity = 3 // error
	}
	host := s.Host
	if host == "" {
		host, _ = os.Hostname()
	}
	app := s.App
	if app == "" {
		app = "runnel"
	}
	const stamp = "2006-01-02T15:04:05.000000Z07:00"
	b := fmt.Appendf(nil, "<%d>1 %s %s %s %d %s - ", facility*8+severity, e.Time.UTC().Format(stamp),
		field(host, 255), field(app, 48), os.Getpid(), field(string(e.Kind), 32))
	return append(b, text...)
}

// field makes s a field of the header: printable ASCII of at most n bytes, "-"
// for none.
func field(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	if len(s) > n {
		s = s[:n]
	}
	if s == "" {
		return "-"
	}
	return s
}
