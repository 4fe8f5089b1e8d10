package limit

import (
	"errors"
	"net/netip"
	"time"
)

// A Policy is what may be changed while servers run: hand a new one to
// Limiter.SetPolicy, and never change one that was handed over. Zero means no
// bound. Peers that are there stay when a bound on their number is lowered; bit
// rates hold for them too.
type Policy struct {
	// Connections that are open at once, and new ones a second. Twice as many
	// may come together, and ten in any case. One too many is closed at once.
	Conns, ConnsPerAddr       int
	ConnRate, ConnRatePerAddr float64

	// FirstByte is how long a connection may take to its peer's first byte.
	// What comes after is bounded by the timeouts of the servers.
	FirstByte time.Duration

	// Sessions, publishers and players alike, at once. A player of HLS counts
	// from its first playlist until it stays away. Grants can have a lower
	// bound for their user.
	Sessions, SessionsPerAddr, SessionsPerUser, SessionsPerStream int

	// Bits a second of media, received and sent together. A publisher may
	// exceed its bound by what it allows for 5 seconds, a player, who begins
	// with what others have seen already, by 30, the rest by 10. Then a session
	// is ended: of several that share a bound the youngest, one every few
	// seconds. Grants can have a lower bound for their session.
	PublisherBitRate, PlayerBitRate                           int64
	BitRate, BitRatePerAddr, BitRatePerUser, BitRatePerStream int64

	// Exempt are addresses for which the bounds by address do not hold: proxies
	// and relays, behind which there are many peers.
	Exempt []netip.Prefix

	// Reauthorize is after how long the Authorizer is asked again about a
	// session. If it refuses then, the session ends; if it fails, the session
	// goes on, and is asked about next time. 0: it is not asked, about sessions
	// that begin meanwhile ever.
	Reauthorize time.Duration
}

// exempt reports whether the bounds by address do not hold for a.
func (l *Limiter) exempt(p *Policy, a netip.Addr) bool {
	return within(l.Exempt, a) || within(p.Exempt, a)
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, e := range list {
		if bits := e.Bits() - 96; e.Addr().Is4In6() && bits >= 0 {
			e = netip.PrefixFrom(e.Addr().Unmap(), bits)
		}
		if e.Contains(a.Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// rates reports whether any bit rate is bounded.
func (p *Policy) rates() bool {
	return p.PublisherBitRate > 0 || p.PlayerBitRate > 0 || p.BitRate > 0 ||
		p.BitRatePerAddr > 0 || p.BitRatePerUser > 0 || p.BitRatePerStream > 0
}

// A Reason is which bound was reached, as in metrics and logs.
type Reason string

// The reasons.
const (
	Conns             Reason = "connections"
	ConnsPerAddr      Reason = "connections_per_address"
	ConnRate          Reason = "connection_rate"
	ConnRatePerAddr   Reason = "connection_rate_per_address"
	FirstByte         Reason = "first_byte"
	Sessions          Reason = "sessions"
	SessionsPerAddr   Reason = "sessions_per_address"
	SessionsPerUser   Reason = "sessions_per_user"
	SessionsPerStream Reason = "sessions_per_stream"
	BitRate           Reason = "bit_rate"
	BitRatePerSession Reason = "bit_rate_per_session"
	BitRatePerAddr    Reason = "bit_rate_per_address"
	BitRatePerUser    Reason = "bit_rate_per_user"
	BitRatePerStream  Reason = "bit_rate_per_stream"
)

// Reasons lists them all.
var Reasons = [...]Reason{
	Conns, ConnsPerAddr, ConnRate, ConnRatePerAddr, FirstByte, Sessions, SessionsPerAddr, SessionsPerUser, SessionsPerStream,
	BitRate, BitRatePerSession, BitRatePerAddr, BitRatePerUser, BitRatePerStream,
}

// ErrReached is wrapped by every refusal of a Limiter. It is no auth.ErrDenied:
// the peer may come again.
var ErrReached = errors.New("limit: reached")

// An Error is an ErrReached that says which.
type Error struct{ Reason Reason }

// Error names the bound.
func (e *Error) Error() string { return "limit: reached: " + string(e.Reason) }

// Unwrap returns ErrReached.
func (e *Error) Unwrap() error { return ErrReached }
