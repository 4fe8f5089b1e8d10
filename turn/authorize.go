package turn

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/stunwire"
)

// ask asks Auth who has sent the request, and goes on.
func (r *request) ask(c claim) {
	token, _ := r.msg.Get(stunwire.AttrAccessToken)
	p := proof{msg: r.msg, claim: c, short: r.srv.ShortTerm, token: c.token != [32]byte{}}
	q := r.question()
	q.User, q.Realm = c.user, c.realm
	if c.user == "" {
		q.UserHash = c.hash[:]
	}
	if p.token {
		q.Token = string(token)
	}
	q.Proof = p.try
	grant, code := r.srv.authorize(q)
	if code == 0 && p.key == nil {
		r.srv.log().LogAttrs(context.Background(), slog.LevelWarn, "turn: Auth granted without a Proof: refused",
			slog.String("user", c.user), slog.String("realm", c.realm))
		code = 401
	}
	switch code {
	case 0:
	case 401:
		r.challenge(401, c.realm, true)
		return
	default:
		r.refuse(code)
		return
	}
	r.cred = newCredential(grant, c, p.key)
	r.serve()
}

// askCertificate asks Auth about a client that has a TLS certificate and
// nothing else to say.
func (r *request) askCertificate() {
	realm, ok := r.lookupRealm()
	if !ok {
		return
	}
	q := r.question()
	q.Realm = realm
	grant, code := r.srv.authorize(q)
	if code != 0 {
		r.challenge(401, realm, true)
		return
	}
	r.cred = newCredential(grant, claim{realm: realm}, nil)
	r.serve()
}

func newCredential(grant *auth.Grant, c claim, key *stunwire.Key) *credential {
	cred := &credential{
		user: c.user, realm: c.realm, claim: c, key: key,
		expires: grant.Expires, limits: grant.Limits, labels: grant.Labels,
	}
	if grant.User != "" {
		cred.user = grant.User
	}
	if grant.Realm != "" {
		cred.realm = grant.Realm
	}
	return cred
}

// question begins a question to Auth.
func (r *request) question() *auth.Request {
	q := &auth.Request{
		Action: auth.Relay, Protocol: "turn", Remote: r.path.remote, TLS: r.path.tls, Origin: r.origin(),
	}
	if r.path.kind == overTLS || r.path.kind == overDTLS {
		q.Protocol = "turns"
	}
	return q
}

// origin returns the first ORIGIN of the request, which nobody vouches for.
func (r *request) origin() string {
	for origin := range r.origins {
		return origin
	}
	return ""
}

// Bounds of the ORIGINs of a request. The draft has one for each page that
// holds the one below.
const (
	maxOrigin         = 267 // bytes: "https://" with the longest host name and port
	maxRequestOrigins = 8
)

// origins yields the ORIGINs of the request.
func (r *request) origins(yield func(string) bool) {
	n := 0
	for a, v := range r.msg.Each {
		if a != stunwire.AttrOrigin || len(v) == 0 || len(v) > maxOrigin {
			continue
		}
		if n++; n > maxRequestOrigins || !yield(string(v)) {
			return
		}
	}
}

// authorize asks Auth and returns an error code if it did not grant.
func (s *Server) authorize(q *auth.Request) (*auth.Grant, int) {
	ctx, cancel := context.WithTimeout(s.base, authorizeTimeout)
	defer cancel()
	began := time.Now()
	grant, err := auth.Check(ctx, s.Auth, q)
	s.stats.authorized(time.Since(began))
	switch {
	case errors.Is(err, auth.ErrDenied):
		return nil, 401
	case err != nil:
		s.log().LogAttrs(ctx, slog.LevelError, "turn: Auth failed", slog.Any("error", err))
		return nil, 500
	case !grant.Expires.IsZero() && !grant.Expires.After(time.Now()):
		return nil, 401
	}
	return grant, 0
}
