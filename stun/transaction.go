package stun

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A transaction is one request and what was answered.
type transaction struct {
	client *Client
	login  *login
	id     stunwire.TxID
	typ    stunwire.Type
	raw    []byte // the request

	in       [maxResponse]byte
	response stunwire.Message
	code     int    // of an error response; 0: success
	reason   string // of an error response
	violated bool   // an answer was not what it claims to be
}

const (
	maxResponse = 4096 // bytes
	maxReason   = 127  // bytes of a reason phrase that are kept
)

func (c *Client) newTransaction(req *Message, l *login) (*transaction, error) {
	t := &transaction{client: c, login: l, typ: stunwire.Type(req.Type.Value())}
	if t.typ.Class() != stunwire.Request {
		return nil, errors.New("stun: not a request")
	}
	rand.Read(t.id[:])
	b := stunwire.Build(nil, t.typ, t.id)
	for _, a := range req.Attributes {
		switch typ := stunwire.Attr(a.Type); typ {
		case stunwire.AttrUsername, stunwire.AttrUserHash, stunwire.AttrRealm, stunwire.AttrNonce,
			stunwire.AttrPasswordAlgorithm, stunwire.AttrPasswordAlgorithms, stunwire.AttrSoftware,
			stunwire.AttrMessageIntegrity, stunwire.AttrMessageIntegritySHA256, stunwire.AttrFingerprint:
		default:
			b.Add(typ, a.Value)
		}
	}
	if c.Software != "" {
		b.AddString(stunwire.AttrSoftware, c.Software)
	}
	if l != nil {
		l.sign(&b)
	}
	if c.Fingerprint {
		b.AddFingerprint()
	}
	t.raw = b.Bytes()
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("stun: %w", err)
	}
	return t, nil
}

// run sends the request until there is a response.
func (t *transaction) run(ctx context.Context, conn net.Conn) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// An ended ctx wakes the reader. It may come between the check of ctx and
	// a later deadline, so every deadline is set before that check.
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		conn.SetReadDeadline(time.Unix(1, 0))
		close(woken)
	})
	defer func() {
		if !stop() {
			<-woken // what it sets must not outlive the transaction
		}
	}()
	if strings.HasPrefix(conn.RemoteAddr().Network(), "udp") {
		return t.datagrams(ctx, conn)
	}
	return t.stream(ctx, conn)
}

// datagrams is RFC 8489 Section 6.2.1.
func (t *transaction) datagrams(ctx context.Context, conn net.Conn) error {
	wait, last := t.client.rto(), time.Duration(orDefault(t.client.LastWait, 16))*t.client.rto()
	for left := orDefault(t.client.Requests, 7); left > 0; left-- {
		if _, err := conn.Write(t.raw); err != nil {
			return fmt.Errorf("stun: %w", err) // that of a hard ICMP error comes here too
		}
		if left == 1 {
			wait = last
		}
		conn.SetReadDeadline(time.Now().Add(wait))
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := conn.Read(t.in[:])
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return fmt.Errorf("stun: %w", err)
			}
			if t.accept(t.in[:n]) {
				return nil
			}
		}
		wait *= 2
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.violated {
		return ErrIntegrity
	}
	return ErrTimeout
}

// stream is RFC 8489 Section 6.2.2.
func (t *transaction) stream(ctx context.Context, conn net.Conn) error {
	limit := t.client.StreamTimeout
	if limit <= 0 {
		limit = 39500 * time.Millisecond
	}
	deadline := time.Now().Add(limit)
	conn.SetWriteDeadline(deadline)
	defer conn.SetWriteDeadline(time.Time{})
	if _, err := conn.Write(t.raw); err != nil {
		return fmt.Errorf("stun: %w", err)
	}
	conn.SetReadDeadline(deadline)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := readFrame(conn, t.in[:])
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return ErrTimeout
		case errors.Is(err, io.EOF):
			return fmt.Errorf("stun: %w", io.ErrUnexpectedEOF)
		default:
			return fmt.Errorf("stun: %w", err)
		}
		if t.accept(b) {
			return nil
		}
		if t.violated {
			return ErrIntegrity
		}
	}
}

// accept takes b as the response if it is that.
func (t *transaction) accept(b []byte) bool {
	m := &t.response
	if m.Parse(b) != nil || m.TxID != t.id || m.Type.Method() != t.typ.Method() {
		return false
	}
	t.code, t.reason = 0, ""
	switch m.Type.Class() {
	case stunwire.Success:
	case stunwire.Error:
		v, _ := m.Get(stunwire.AttrErrorCode)
		code, reason, ok := stunwire.ErrorCode(v)
		if !ok {
			return false
		}
		t.code, t.reason = code, string(reason[:min(len(reason), maxReason)])
	default:
		return false
	}
	if present, valid := m.Fingerprint(); present && !valid {
		return false
	}
	if t.login == nil {
		return true
	}
	if !t.login.accepts(m, t.code) {
		t.violated = true
		return false
	}
	return true
}

// result is what the caller gets of an accepted response.
func (t *transaction) result() (*Message, error) {
	m, err := Decode(t.response.Raw)
	if err != nil {
		return nil, err
	}
	if t.code == 300 && t.login != nil { // its integrity was checked
		if to := t.alternates(); to != nil {
			return nil, to
		}
	}
	if t.code != 0 {
		return nil, &ResponseError{Code: t.code, Reason: t.reason, Response: m}
	}
	if list := t.response.Unknown(nil, stunwire.Attr.Known); len(list) > 0 {
		return nil, fmt.Errorf("stun: a response that needs %v to be understood", list[0])
	}
	return m, nil
}

func (t *transaction) alternates() error {
	e := new(AlternateError)
	for a, v := range t.response.Each {
		if a != stunwire.AttrAlternateServer || len(e.Servers) == 8 {
			continue
		}
		if ap, err := t.response.Addr(v); err == nil {
			e.Servers = append(e.Servers, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
		}
	}
	if len(e.Servers) == 0 {
		return nil
	}
	e.Domain, _ = text(&t.response, stunwire.AttrAlternateDomain, 255)
	return e
}
