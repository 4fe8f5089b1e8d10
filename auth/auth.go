package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"time"
)

// Action is what a peer asks to do.
type Action string

// The actions that Runnel's servers ask about.
const (
	Publish Action = "publish" // send a stream in
	Play    Action = "play"    // receive a stream
	Relay   Action = "relay"   // allocate a TURN relay address
	Admin   Action = "admin"   // use the control plane
)

// ErrDenied is what an Authorizer returns, or wraps, to refuse. Any other
// error refuses too and is logged as a failure of the Authorizer itself; the
// peer learns of neither text.
var ErrDenied = errors.New("auth: denied")

// A Request is one question to an Authorizer. Servers fill in what their
// protocol knows and leave the rest zero. It grows by fields, never by
// parameters, and must not be kept or changed by the Authorizer.
type Request struct {
	Action   Action
	Protocol string         // "rtmp", "rtmps", "http-flv", "ws-flv", "turn", …
	Remote   netip.AddrPort // canonical (never IPv4-mapped); zero if the transport has none
	TLS      *tls.ConnectionState

	// Session is the ID that the session will have, if there will be one. It is
	// not the peer's to choose.
	Session string

	Stream string // hub key: "app/name", with "vhost/" before it unless it is the default vhost
	VHost  string // "" is the default vhost
	App    string // may have several segments
	Name   string

	RawQuery string // what followed "?" in the stream name or URL path
	TCURL    string // RTMP: tcUrl as the peer sent it
	PageURL  string // RTMP pageUrl or HTTP Referer
	Origin   string // HTTP Origin, STUN ORIGIN
	Realm    string // TURN

	User, Password string // HTTP basic, or user= and password= of an SRT stream id
	// UserHash is SHA-256(user ":" realm), sent in place of User (STUN
	// USERHASH, RFC 8489 Section 14.4). User is empty then, and Grant.User
	// names who it is.
	UserHash []byte
	// Token: query token=, Authorization: Bearer, SRT s=. TURN: the raw value
	// of ACCESS-TOKEN (RFC 7635 Section 6.2); the Authorizer opens it and
	// calls Proof with Secret.Key set to the session key inside.
	Token string

	// Accept lists the codecs that the peer says it can take, as FourCCs
	// (enhanced RTMP fourCcList). nil: it did not say.
	Accept []string

	// Proof checks a secret that the peer did not send but proved to know
	// (digest, MESSAGE-INTEGRITY, SRT passphrase). nil if the protocol has none.
	Proof func(Secret) bool
}

// A Grant is the answer to a Request that was allowed. The zero Grant allows
// without bounds.
type Grant struct {
	User    string    // who it is, for logs, limits and metrics
	Expires time.Time // the session is ended then; zero: never
	Realm   string    // TURN: the realm that the session counts to; "": the Request's
	Limits  Limits
	Labels  map[string]string // carried to events and hooks
}

// Limits bound one session. Zero means no bound.
type Limits struct {
	BitRate  int64 // bits a second
	Sessions int   // sessions of the same user
}

// A Secret is a plaintext password, a key that was derived from one, or both.
type Secret struct {
	Plain string // "" if unknown
	Key   []byte // TURN: MD5(user ":" realm ":" password), RFC 8489 Section 9.2.2
	// KeySHA256 is TURN's SHA-256(user ":" realm ":" password), RFC 8489
	// Section 9.2.2. Where it, or Plain, is known, a client may prove the
	// password by SHA-256; Key alone can't answer that.
	KeySHA256 []byte
	// User is whose Plain it is, where the Request had but a UserHash: TURN
	// hashes the name with the password.
	User string
}

// An Authorizer decides. A nil error with a nil Grant allows like the zero
// Grant. Authorize is called from many goroutines at once, before anything is
// allocated for the peer, and should return soon after ctx ends.
type Authorizer interface {
	Authorize(ctx context.Context, r *Request) (*Grant, error)
}

// Func makes an Authorizer of a function.
type Func func(ctx context.Context, r *Request) (*Grant, error)

// Authorize calls f. A nil f refuses.
func (f Func) Authorize(ctx context.Context, r *Request) (*Grant, error) {
	if f == nil {
		return nil, ErrDenied
	}
	return f(ctx, r)
}

// AllowAll grants everything. Use it where a network, not Runnel, keeps
// strangers out.
var AllowAll Authorizer = Func(func(context.Context, *Request) (*Grant, error) { return &Grant{}, nil })

// Check asks a, and refuses if a is nil: deny by default. The Grant that it
// returns is never nil when the error is.
func Check(ctx context.Context, a Authorizer, r *Request) (*Grant, error) {
	if a == nil {
		return nil, ErrDenied
	}
	g, err := a.Authorize(ctx, r)
	if err != nil {
		return nil, err
	}
	if g == nil {
		g = &Grant{}
	}
	return g, nil
}
