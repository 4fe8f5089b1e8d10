package hls

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/callback"
	"github.com/runnel-media/runnel/internal/ipset"
	"github.com/runnel-media/runnel/stream"
)

const (
	maxRedirects = 4
	maxInit      = 1 << 20 // bytes
	maxKeys      = 16      // that are remembered
)

var (
	errReference = errors.New("relay/hls: the playlist refers to what it may not")
	errSize      = errors.New("relay/hls: longer than it may be")
)

// A client fetches what one playlist refers to.
type client struct {
	http    *http.Client
	idle    func()
	timeout time.Duration
	keys    map[string][]byte // of one goroutine each; see fork
}

// newClient returns a client for the server of origin.
func (t *Transport) newClient(origin *url.URL, timeout time.Duration) *client {
	dial := t.DialContext
	if dial == nil {
		dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			d := net.Dialer{Timeout: timeout}
			if !strings.EqualFold(addr, authority(origin)) { // looked at when names have been resolved
				d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
					at, err := netip.ParseAddrPort(resolved)
					if err != nil || !t.permits(at.Addr()) {
						return errReference
					}
					return nil
				}
			}
			return d.DialContext(ctx, network, addr)
		}
	}
	var conf *tls.Config
	if t.TLS != nil {
		conf = t.TLS.Clone()
	}
	transport := &http.Transport{
		DialContext: dial, TLSClientConfig: conf, TLSHandshakeTimeout: timeout, ResponseHeaderTimeout: timeout,
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
	secure := origin.Scheme == "https"
	return &client{
		timeout: timeout, idle: transport.CloseIdleConnections, keys: make(map[string][]byte),
		http: &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects || !allowed(r.URL, secure) {
				return errReference
			}
			return nil
		}},
	}
}

// fork returns a client for another goroutine.
func (c *client) fork() *client {
	f := *c
	f.keys = make(map[string][]byte)
	return &f
}

// allowed reports whether a URL may be fetched by its scheme. secure tells that the
// first was encrypted.
func allowed(u *url.URL, secure bool) bool {
	return u.Scheme == "https" || u.Scheme == "http" && !secure
}

// permits says whether an address may be connected to: it, and every IPv4 address
// inside it, is public or allowed.
func (t *Transport) permits(a netip.Addr) bool {
	var forms [ipset.MaxForms]netip.Addr
	n := ipset.Forms(a, &forms)
	for _, form := range forms[:n] {
		ok := slices.ContainsFunc(t.Allow, func(p netip.Prefix) bool { return p.Contains(form) })
		if !ok && ipset.PurposeOf(form) != ipset.Global {
			return false
		}
	}
	return n > 0
}

// authority returns the host and port of a URL.
func authority(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// resolve returns the address of what a playlist at base refers to.
func resolve(base *url.URL, reference string) (*url.URL, error) {
	u, err := base.Parse(reference)
	if err != nil || u.Host == "" || !allowed(u, base.Scheme == "https") {
		return nil, errReference
	}
	return u, nil
}

// get fetches up to limit bytes, and where they were in the end.
func (c *client) get(ctx context.Context, u *url.URL, offset, length, limit int64) ([]byte, *url.URL, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 6*c.timeout, errSlow)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, nil, errReference
	}
	if length > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, nil, cause
		}
		return nil, nil, callback.WithoutURL(err)
	}
	defer resp.Body.Close()
	if err := said(resp.StatusCode); err != nil {
		return nil, nil, err
	}
	body := io.Reader(resp.Body)
	if length > 0 {
		if length > limit {
			return nil, nil, errSize
		}
		if resp.StatusCode != http.StatusPartialContent { // it knows no ranges
			if offset > limit {
				return nil, nil, errSize
			}
			if _, err := io.CopyN(io.Discard, body, offset); err != nil {
				return nil, nil, err
			}
		}
		body = io.LimitReader(body, length)
	}
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, nil, err
	}
	if int64(len(b)) > limit {
		return nil, nil, errSize
	}
	return b, resp.Request.URL, nil
}

var errSlow = errors.New("relay/hls: the server takes too long")

func said(status int) error {
	switch {
	case status/100 == 2:
		return nil
	case status == http.StatusNotFound, status == http.StatusGone:
		return fmt.Errorf("relay/hls: the server says %d: %w", status, stream.ErrNotFound)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("relay/hls: the server says %d: %w", status, auth.ErrDenied)
	}
	return fmt.Errorf("relay/hls: the server says %d", status)
}

// piece fetches and decrypts what a playlist at base refers to. number is the
// segment's.
func (c *client) piece(ctx context.Context, base *url.URL, p *piece, number uint64, limit int64) ([]byte, error) {
	u, err := resolve(base, p.uri)
	if err != nil {
		return nil, err
	}
	b, _, err := c.get(ctx, u, p.offset, p.length, limit)
	if err != nil || p.key == nil {
		return b, err
	}
	secret, err := c.key(ctx, base, p.key.uri)
	if err != nil {
		return nil, err
	}
	iv := p.key.iv
	if iv == nil {
		iv = binary.BigEndian.AppendUint64(make([]byte, 8, 16), number)
	}
	return decrypt(b, secret, iv)
}

func (c *client) key(ctx context.Context, base *url.URL, reference string) ([]byte, error) {
	u, err := resolve(base, reference)
	if err != nil {
		return nil, err
	}
	if k := c.keys[u.String()]; k != nil {
		return k, nil
	}
	k, _, err := c.get(ctx, u, 0, 0, 16)
	if err == nil && len(k) != 16 {
		err = errSize
	}
	if err != nil {
		return nil, fmt.Errorf("relay/hls: key: %w", err)
	}
	if len(c.keys) >= maxKeys {
		clear(c.keys)
	}
	c.keys[u.String()] = k
	return k, nil
}

var errDecrypt = errors.New("relay/hls: cannot be decrypted")

// decrypt decrypts b in place: AES-128 in CBC mode with PKCS #7.
func decrypt(b, secret, iv []byte) ([]byte, error) {
	block, err := aes.NewCipher(secret)
	if err != nil || len(b) == 0 || len(b)%aes.BlockSize != 0 {
		return nil, errDecrypt
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(b, b)
	pad := int(b[len(b)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, errDecrypt
	}
	return b[:len(b)-pad], nil
}
