package transcode

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/runnel-media/runnel/internal/ipset"
)

// A proxy is the HTTP server through which one ffmpeg fetches what it pulls, so that a
// playlist cannot send it where it has no business: it connects to public addresses, to
// those that are allowed, and to the server that the operator has named. Addresses are
// looked at when the connection is made, after names have been resolved.
//
// It listens on a loopback port, since ffmpeg takes no proxy elsewhere, with a password
// that only its ffmpeg knows.
type proxy struct {
	origin string // host:port of the URL that was asked for
	allow  []netip.Prefix

	listener  net.Listener
	server    *http.Server
	transport *http.Transport
	secret    string

	mu      sync.Mutex
	refused string                // the last address that was refused
	tunnels map[net.Conn]struct{} // that are open
	closed  bool
}

var errAddress = errors.New("transcode: an address that what is pulled may not refer to")

const proxyUser = "runnel"

// newProxy returns a proxy for one URL, listening.
func newProxy(source *url.URL, allow []netip.Prefix) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{origin: authority(source), allow: allow, listener: l, secret: rand.Text(), tunnels: make(map[net.Conn]struct{})}
	p.transport = &http.Transport{
		DialContext: p.dial, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second, DisableCompression: true,
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = p.server.Serve(l) }() // ends with close
	return p, nil
}

// url is what ffmpeg is told of the proxy. It holds the password.
func (p *proxy) url() string {
	return (&url.URL{Scheme: "http", User: url.UserPassword(proxyUser, p.secret), Host: p.listener.Addr().String()}).String()
}

// close ends the proxy and its connections.
func (p *proxy) close() {
	_ = p.server.Close()
	p.transport.CloseIdleConnections()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for c := range p.tunnels {
		c.Close()
	}
}

// denied returns what was refused last, "" if nothing was.
func (p *proxy) denied() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// authority returns the host and port of a URL, in lower case.
func authority(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[u.Scheme]
		if port == "" {
			port = "80"
		}
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port))
}

// dial connects to where a request wants to go.
func (p *proxy) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if strings.ToLower(addr) != p.origin {
		d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(resolved)
			if err != nil || !p.permits(at.Addr()) {
				p.mu.Lock()
				p.refused = addr
				p.mu.Unlock()
				return errAddress
			}
			return nil
		}
	}
	return d.DialContext(ctx, network, addr)
}

// permits says whether an address may be connected to: it, and every IPv4 address inside
// it, is public or allowed.
func (p *proxy) permits(a netip.Addr) bool {
	var forms [ipset.MaxForms]netip.Addr
	n := ipset.Forms(a, &forms)
	for _, form := range forms[:n] {
		allowed := slices.ContainsFunc(p.allow, func(prefix netip.Prefix) bool { return prefix.Contains(form) })
		if !allowed && ipset.PurposeOf(form) != ipset.Global {
			return false
		}
	}
	return n > 0
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+p.secret))
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(want)) != 1 {
		w.Header().Set("Proxy-Authenticate", `Basic realm="runnel"`)
		http.Error(w, http.StatusText(http.StatusProxyAuthRequired), http.StatusProxyAuthRequired)
		return
	}
	switch {
	case r.Method == http.MethodConnect:
		p.tunnel(w, r)
	case r.URL.Scheme == "http" && r.URL.Host != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		p.forward(w, r)
	default:
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
	}
}

// hop are the headers that are for the next hop only (RFC 9110 section 7.6.1).
var hop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authorization", "Proxy-Authenticate"}

// forward answers a request with what its server says.
func (p *proxy) forward(w http.ResponseWriter, r *http.Request) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	for _, h := range hop {
		out.Header.Del(h)
	}
	if out.Header.Get("User-Agent") == "" {
		out.Header.Set("User-Agent", "")
	}
	answer, err := p.transport.RoundTrip(out)
	if err != nil {
		p.refuse(w, err)
		return
	}
	defer answer.Body.Close()
	for k, v := range answer.Header {
		if !slices.Contains(hop, k) {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(answer.StatusCode)
	flusher := http.NewResponseController(w)
	buf := make([]byte, 32<<10)
	for {
		n, err := answer.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			_ = flusher.Flush() // a live stream is not to wait in a buffer
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				panic(http.ErrAbortHandler) // so that the body does not seem whole
			}
			return
		}
	}
}

func (p *proxy) refuse(w http.ResponseWriter, err error) {
	code := http.StatusBadGateway
	if errors.Is(err, errAddress) {
		code = http.StatusForbidden
	}
	http.Error(w, http.StatusText(code), code)
}

// tunnel connects ffmpeg with a server that it speaks TLS with.
func (p *proxy) tunnel(w http.ResponseWriter, r *http.Request) {
	there, err := p.dial(r.Context(), "tcp", r.Host)
	if err != nil {
		p.refuse(w, err)
		return
	}
	defer there.Close()
	here, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	if !p.hold(here, there) {
		return
	}
	defer p.release(here, there)
	if _, err := fmt.Fprint(here, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(there, buffered(rw.Reader, here))
		there.Close()
	}()
	_, _ = io.Copy(here, there)
	here.Close()
	<-sent
}

// buffered reads what has been read ahead of a connection, and on.
func buffered(r *bufio.Reader, c net.Conn) io.Reader {
	ahead, _ := r.Peek(r.Buffered())
	return io.MultiReader(strings.NewReader(string(ahead)), c)
}

func (p *proxy) hold(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.tunnels[c] = struct{}{}
	}
	return !p.closed
}

func (p *proxy) release(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.tunnels, c)
	}
}
