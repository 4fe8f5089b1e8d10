package access

import (
	"errors"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/audit"
	"github.com/runnel-media/runnel/internal/attempts"
	"github.com/runnel-media/runnel/internal/httpauth"
)

// A Gate lets requests in. Its fields must not change once it is in use; its
// methods may be called from many goroutines at once. Handlers may share one,
// and then share its count of wrong credentials.
type Gate struct {
	// Auth decides, with auth.Admin as action. nil: only this machine is let
	// in, as admin: the connection comes from a loopback address, Host names
	// one, and no header says that a proxy passed the request on. An Authorizer
	// with a method Empty() bool counts as nil while that reports true.
	Auth auth.Authorizer
	// Insecure takes credentials over plain HTTP from other machines too.
	// Without it they must come by TLS.
	Insecure bool
	// Basic takes HTTP basic authentication as well, its password as the
	// token. Browsers are not told so, or they would ask for one.
	Basic bool
	// Origins are the web origins, as "https://console.example.org", whose
	// pages may call. None: CORS is off.
	Origins []string
	Log     *slog.Logger // the audit: every change and refusal at Info and Warn, every look at Debug; nil: slog.Default()
	Trail   *audit.Trail // gets every call and refusal too, looks included; may be nil

	setup sync.Once
	cross *http.CrossOriginProtection
	wrong attempts.Counter
}

// A Caller is who was let in.
type Caller struct {
	User    string
	Role    Role
	From    netip.AddrPort
	Expires time.Time // zero: never
}

// A Refusal says why a request was not let in, in words for the caller.
type Refusal struct {
	Status int
	Detail string
}

// After so many wrong credentials within the time a source has to wait.
const (
	maxAttempts  = 20
	attemptsTime = time.Minute
)

// event is the refusal of a request as the Trail has it. c is nil if it is not
// known who asks.
func (no *Refusal) event(r *http.Request, from netip.AddrPort, c *Caller) audit.Event {
	e := audit.Event{Kind: audit.Policy, From: from, Action: r.Method, Protocol: "http", Target: r.URL.Path,
		Result: audit.Denied, Status: no.Status, Reason: no.Detail}
	switch no.Status {
	case http.StatusUnauthorized:
		e.Kind = audit.Auth
	case http.StatusServiceUnavailable:
		e.Kind, e.Result = audit.Auth, audit.Failed
	}
	if c != nil {
		e.User, e.Role = c.User, c.Role.String()
	}
	return e
}

// maxCredential bounds the Authorization header.
const maxCredential = 8 << 10

// Admit lets a request in that may do what need may, or says why not. On a
// refusal it sets the headers that belong to the answer; writing that is for
// the caller, as is reading the body, which it has not touched.
//
// Methods other than GET and HEAD are changes: those that a page of another
// site could cause a browser to send are refused, and a POST, PUT or PATCH must
// be application/json, as must whatever has a body.
func (g *Gate) Admit(w http.ResponseWriter, r *http.Request, need Role) (*Caller, *Refusal) {
	c, no := g.admit(w, r, need)
	if no != nil {
		from := source(r)
		g.log().Warn("api: refused", "from", from, "method", r.Method, "path", r.URL.Path, "status", no.Status, "why", no.Detail)
		g.Trail.Record(no.event(r, from, c))
		return nil, no
	}
	return c, nil
}

func (g *Gate) admit(w http.ResponseWriter, r *http.Request, need Role) (*Caller, *Refusal) {
	g.setup.Do(g.prepare)
	if no := g.checkOrigin(r); no != nil {
		return nil, no
	}
	c, no := g.identify(w, r)
	if no != nil {
		return nil, no
	}
	if c.Role < need {
		return c, &Refusal{http.StatusForbidden, "this takes the role " + need.String() + ", yours is " + c.Role.String()}
	}
	return c, nil
}

func (g *Gate) prepare() {
	g.cross = http.NewCrossOriginProtection()
	for _, o := range g.Origins {
		if err := g.cross.AddTrustedOrigin(o); err != nil {
			g.log().Error("api: not an origin, left out", "origin", o, "err", err)
		}
	}
}

// checkOrigin refuses changes that a page of another site may have caused.
func (g *Gate) checkOrigin(r *http.Request) *Refusal {
	if err := g.cross.Check(r); err != nil {
		return &Refusal{http.StatusForbidden, "changes are not taken from pages of other origins"}
	}
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		if r.ContentLength == 0 {
			return nil
		}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &Refusal{http.StatusUnsupportedMediaType, "the body must be application/json"}
	}
	return nil
}

func (g *Gate) identify(w http.ResponseWriter, r *http.Request) (*Caller, *Refusal) {
	from := source(r)
	if g.empty() {
		if why := notLocal(r, from); why != "" {
			return nil, &Refusal{http.StatusForbidden, "no credentials are configured, so that only this machine may call: " + why}
		}
		return &Caller{User: "local", Role: Admin, From: from}, nil
	}
	if g.wrong.Count(from.Addr(), attemptsTime) >= maxAttempts {
		w.Header().Set("Retry-After", "60")
		return nil, &Refusal{http.StatusTooManyRequests, "too many wrong credentials"}
	}
	req := &auth.Request{Action: auth.Admin, Protocol: "http", Remote: from, TLS: r.TLS, Origin: r.Header.Get("Origin")}
	given := g.credentials(r, req)
	if given && r.TLS == nil && !g.Insecure && !from.Addr().IsLoopback() {
		return nil, &Refusal{http.StatusForbidden, "credentials are taken by HTTPS only"}
	}
	grant, err := auth.Check(r.Context(), g.Auth, req)
	if err != nil {
		switch {
		case !errors.Is(err, auth.ErrDenied):
			g.log().Error("api: authorizer", "err", err)
			return nil, &Refusal{http.StatusServiceUnavailable, "credentials cannot be checked now"}
		case given:
			g.wrong.Add(from.Addr(), attemptsTime)
		}
		challenge := "Bearer"
		if g.Basic && !httpauth.Browser(r) {
			challenge = "Basic"
		}
		w.Header().Set("WWW-Authenticate", challenge+` realm="runnel"`)
		return nil, &Refusal{http.StatusUnauthorized, "a valid token is needed"}
	}
	if !grant.Expires.IsZero() && !time.Now().Before(grant.Expires) {
		return nil, &Refusal{http.StatusUnauthorized, "the token has expired"}
	}
	c := &Caller{User: grant.User, Role: Admin, From: from, Expires: grant.Expires}
	if name, ok := grant.Labels[RoleLabel]; ok {
		c.Role, _ = ParseRole(name) // an unknown one may do nothing
	}
	return c, nil
}

// empty reports whether there are no credentials that anybody could send.
func (g *Gate) empty() bool {
	e, ok := g.Auth.(interface{ Empty() bool })
	return g.Auth == nil || ok && e.Empty()
}

// credentials fills in what the request says of itself, and reports whether
// that is anything.
func (g *Gate) credentials(r *http.Request, req *auth.Request) bool {
	h := r.Header.Get("Authorization")
	if len(h) > maxCredential {
		return true // and none of it is taken
	}
	if scheme, token, _ := strings.Cut(h, " "); strings.EqualFold(scheme, "Bearer") {
		req.Token = strings.TrimSpace(token)
	} else if user, password, ok := r.BasicAuth(); ok && g.Basic {
		req.User, req.Password, req.Token = user, password, password
	}
	return h != ""
}

// notLocal says why a request is not this machine's own, "" if it is.
func notLocal(r *http.Request, from netip.AddrPort) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ip, err := netip.ParseAddr(host)
	switch {
	case !from.Addr().IsLoopback():
		return "the connection comes from another"
	case !strings.EqualFold(host, "localhost") && (err != nil || !ip.Unmap().IsLoopback()):
		// A name that somebody else makes point here (DNS rebinding).
		return "Host is not a loopback address"
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Forwarded") || forwarding[name] {
			return "a proxy passed the request on"
		}
	}
	return ""
}

// forwarding are headers that proxies add, beside X-Forwarded-….
var forwarding = map[string]bool{
	"Forwarded": true, "Via": true, "X-Real-Ip": true, "X-Client-Ip": true, "X-Original-Host": true,
	"X-Original-Forwarded-For": true, "X-Cluster-Client-Ip": true, "X-Envoy-External-Address": true,
	"True-Client-Ip": true, "Cf-Connecting-Ip": true, "Fastly-Client-Ip": true, "Client-Ip": true,
}

// source is where a request comes from; zero if that is no IP address. Headers
// do not count.
func source(r *http.Request) netip.AddrPort {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Audit writes down what a caller has done, with what else is to be known of it
// in pairs as slog takes them. The query of the request is not written: it may
// hold what somebody took for the place of a token.
func (g *Gate) Audit(r *http.Request, c *Caller, status int, more ...any) {
	level := slog.LevelInfo
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		level = slog.LevelDebug
	}
	args := []any{"by", c.User, "role", c.Role.String(), "from", c.From, "method", r.Method, "path", r.URL.Path, "status", status}
	g.log().Log(r.Context(), level, "api", append(args, more...)...)
	e := audit.Event{Kind: audit.Call, User: c.User, Role: c.Role.String(), From: c.From, Action: r.Method, Protocol: "http",
		Target: r.URL.Path, Result: audit.Allowed, Status: status}
	switch {
	case status >= 500:
		e.Result = audit.Failed
	case status >= 400:
		e.Result = audit.Denied
	}
	g.Trail.Record(e)
}

// CORS answers a preflight of the configured origins, in which case it reports
// true and nothing else is to be written, and sets the headers of other answers
// to them. Call it before Admit, since preflights have no credentials.
func (g *Gate) CORS(w http.ResponseWriter, r *http.Request, methods string) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || len(g.Origins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	for _, o := range g.Origins {
		if o != origin {
			continue
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "ETag, Retry-After")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", methods)
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match, If-None-Match")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return true
		}
	}
	return false
}

// Guard puts the gate before a handler that needs but one role, such as that
// of metrics. Refusals are text.
func (g *Gate) Guard(need Role, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, no := g.Admit(w, r, need)
		if no != nil {
			http.Error(w, no.Detail, no.Status)
			return
		}
		g.Audit(r, c, http.StatusOK)
		next.ServeHTTP(w, r)
	})
}

func (g *Gate) log() *slog.Logger {
	if g.Log != nil {
		return g.Log
	}
	return slog.Default()
}
