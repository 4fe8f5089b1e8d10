package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/users"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/audit"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/auth/proxied"
	"github.com/runnel-media/runnel/internal/config"
)

// authOptions are -auth and the flags that belong to it.
type authOptions struct {
	file     string
	clientCA string
	audit    config.List
	trusted  config.List
	header   string
	protocol bool

	poll    time.Duration // how often the file is looked at
	who     auth.Swap     // what the file says
	beside  auth.Swap     // who else may, behind what the file says of everybody
	all     auth.Swap     // what of it holds for everybody; beside a file only
	said    atomic.Pointer[rules]
	limits  limit.Limiter
	trail   *audit.Trail
	proxies proxied.Proxies
}

func (o *authOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.file, "auth", "", "YAML file of users, tokens, issuers, addresses and limits, see auth.example.yaml; read again when it changes; with it nobody may but who is in it")
	o.poll = 2 * time.Second
	fs.StringVar(&o.clientCA, "client-ca", "", "certificates, a PEM file, of those who sign the certificates of TLS clients; for client_certificates of -auth")
	fs.Var(&o.audit, "audit", "where to write the audit trail: a file, to which lines of JSON are appended, or udp://, tcp:// or tls://HOST:PORT of a syslog server; may be repeated")
	fs.Var(&o.trusted, "trusted-proxy", "network of proxies whose X-Forwarded-For counts; may be repeated; none: nobody's")
	fs.StringVar(&o.header, "proxy-header", proxied.XForwardedFor, "header in which the trusted proxies say who the client is: X-Forwarded-For or Forwarded")
	fs.BoolVar(&o.protocol, "proxy-protocol", false, "connections of trusted proxies begin with a header of the PROXY protocol, and have no other")
}

// open reads the file, and begins to write the trail. It ends with ctx.
func (o *authOptions) open(ctx context.Context, log *slog.Logger) (err error) {
	if o.proxies.Trusted, err = prefixes(o.trusted); err != nil {
		return fmt.Errorf("-trusted-proxy: %w", err)
	}
	if o.header != proxied.XForwardedFor && o.header != proxied.Forwarded {
		return errors.New("-proxy-header is X-Forwarded-For or Forwarded")
	}
	o.proxies.Header = o.header
	o.limits.Exempt = o.proxies.Trusted
	o.trail = &audit.Trail{Log: log}
	o.limits.Tripped = o.trail.Tripped
	for _, to := range o.audit {
		sink, err := openSink(to)
		if err != nil {
			return fmt.Errorf("-audit: %w", err)
		}
		o.trail.Sinks = append(o.trail.Sinks, sink)
	}
	go func() { _ = o.trail.Run(ctx) }() // ends with ctx
	if o.file == "" {
		return nil
	}
	r, err := readAuth(o.file, &o.beside)
	if err != nil {
		return err
	}
	seen := o.content()
	o.use(r)
	go o.watch(ctx, seen, log)
	return nil
}

func openSink(to string) (audit.Sink, error) {
	if u, err := url.Parse(to); err == nil && u.Host != "" {
		switch u.Scheme {
		case "udp", "tcp", "tls":
			if u.Port() == "" {
				return nil, fmt.Errorf("%q has no port", to)
			}
			return &audit.Syslog{Network: u.Scheme, Addr: u.Host, App: "mediaserver"}, nil
		}
		return nil, fmt.Errorf("%q is none of udp, tcp, tls", u.Scheme)
	}
	f, err := os.OpenFile(to, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &audit.Lines{W: f}, nil
}

func (o *authOptions) use(r *rules) {
	o.who.Set(r.auth)
	o.all.Set(r.everybody)
	o.limits.SetPolicy(r.policy)
	o.said.Store(r)
}

// watch reads the file again when it, or the password file that it names, has
// changed. One that can't be read changes nothing.
func (o *authOptions) watch(ctx context.Context, seen [sha256.Size]byte, log *slog.Logger) {
	tick := time.NewTicker(o.poll)
	defer tick.Stop()
	last := seen
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := o.content()
		if now == seen || now != last {
			last = now // somebody may be writing
			continue
		}
		seen = now
		r, err := readAuth(o.file, &o.beside)
		if err != nil {
			log.Error("-auth: the file is not as it should be; what it said before holds", "err", err)
			continue
		}
		o.use(r)
		log.Info("-auth: read again", "file", o.file)
	}
}

// content sums up what the files hold. Time stamps do not tell: files are
// swapped by links where they are mounted.
func (o *authOptions) content() [sha256.Size]byte {
	h := sha256.New()
	b, _ := os.ReadFile(o.file) // one that is gone is another content
	h.Write(b)
	var f authFile
	if config.ReadYAML(o.file, &f) == nil && f.Htpasswd.File != "" {
		b, _ := os.ReadFile(inDir(filepath.Dir(o.file), f.Htpasswd.File))
		h.Write(b)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// authorizer is who decides about media: the file if there is one, with store
// and -publish-token beside it, or else those two alone. Who guesses has to wait.
func (o *authOptions) authorizer(without allow, store *users.Store) auth.Authorizer {
	publish := auth.ByAction{auth.Publish: without}
	if o.file == "" {
		guarded := &auth.Throttle{Auth: auth.Any(store, publish)}
		o.beside.Set(guarded)
		return auth.ByAction{auth.Publish: guarded, auth.Play: named{guarded}}
	}
	if without.publishToken == "" && !without.hooks {
		publish = nil
	}
	o.beside.Set(auth.Any(store, publish))
	return &o.who
}

// named lets everybody play, as who they say they are if that is true.
type named struct{ users auth.Authorizer }

func (n named) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	if r.User != "" {
		if g, err := auth.Check(ctx, n.users, r); err == nil {
			return g, nil
		}
	}
	return &auth.Grant{}, nil
}

// everybody puts what holds for all before an Authorizer that may not ask the
// file's.
func (o *authOptions) everybody(next auth.Authorizer) auth.Authorizer {
	if o.file == "" {
		return next
	}
	return auth.All(&o.all, next)
}

// hasRole reports whether the file gives anybody a role.
func (o *authOptions) hasRole() bool {
	r := o.said.Load()
	return r != nil && r.admins
}

// users are those with passwords in the file.
func (o *authOptions) users() []users.User {
	if r := o.said.Load(); r != nil {
		return r.users
	}
	return nil
}

// caller decides about the API: those have a right whom the file, or the store
// beside it, gives a role.
func (o *authOptions) caller(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	q := *r
	if q.User != "" { // the gate puts the password of basic authentication in both places
		q.Token = ""
	}
	who := &o.who
	if o.file == "" {
		who = &o.beside
	}
	g, err := auth.Check(ctx, who, &q)
	if err == nil && g.Labels[access.RoleLabel] == "" {
		return nil, auth.ErrDenied // and not an admin
	}
	return g, err
}

// listener counts connections, and finds out who is behind a proxy.
func (o *authOptions) listener(l net.Listener) net.Listener {
	if o.protocol {
		l = o.proxies.Listen(l)
	}
	return o.limits.Listen(l)
}

// handler finds out who is behind a proxy.
func (o *authOptions) handler(h http.Handler) http.Handler {
	if o.protocol {
		return h
	}
	return o.proxies.Handler(h)
}

// roots are those of -client-ca.
func (o *authOptions) roots() (*x509.CertPool, error) {
	if o.clientCA == "" {
		return nil, nil
	}
	b, err := os.ReadFile(o.clientCA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, errors.New("-client-ca: no certificate in the file")
	}
	return pool, nil
}

// certRights gives the owner of a certificate an entry's rights.
type certRights struct{ entry *rightsEntry }

func (c certRights) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	g, err := (&auth.ClientCert{}).Authorize(ctx, r)
	if err != nil {
		return nil, err
	}
	rights, err := c.entry.rights(&rules{}, g.User)
	if err != nil {
		return nil, auth.ErrDenied // it was checked
	}
	return rights.Grant(r, time.Time{})
}

// anyone gives rights to everybody.
type anyone struct{ rights auth.Rights }

func (a anyone) Authorize(_ context.Context, r *auth.Request) (*auth.Grant, error) {
	return a.rights.Grant(r, time.Time{})
}
