package srt

import "fmt"

// A Reason says why a handshake is refused, as SRT numbers it.
type Reason uint32

// Reasons of SRT itself, and those for applications, which follow HTTP
// (libsrt, access_control.h).
const (
	Unknown       Reason = 0
	System        Reason = 1
	Peer          Reason = 2
	Resource      Reason = 3
	Rogue         Reason = 4 // what the peer sent makes no sense
	Backlog       Reason = 5
	Internal      Reason = 6
	Closing       Reason = 7
	Version       Reason = 8
	BadCookie     Reason = 9
	BadSecret     Reason = 10 // the passphrase is wrong
	Unsecure      Reason = 11 // there must be a passphrase, or must not
	MessageMode   Reason = 12
	Congestion    Reason = 13
	Filter        Reason = 14
	Group         Reason = 15
	Timeout       Reason = 16
	BadRequest    Reason = 1400
	Unauthorized  Reason = 1401
	Overload      Reason = 1402
	Forbidden     Reason = 1403
	NotFound      Reason = 1404
	BadMode       Reason = 1405
	Unacceptable  Reason = 1406
	Conflict      Reason = 1409
	Unsupported   Reason = 1415 // media
	Locked        Reason = 1423
	InternalError Reason = 1500
	Down          Reason = 1503
	NoRoom        Reason = 1507
)

var reasons = map[Reason]string{
	Unknown: "unknown reason", System: "system error", Peer: "refused by the peer", Resource: "resources", Rogue: "malformed handshake",
	Backlog: "backlog full", Internal: "internal error", Closing: "closing", Version: "unsupported version", BadCookie: "bad cookie",
	BadSecret: "wrong passphrase", Unsecure: "passphrase needed or not expected", MessageMode: "other transmission mode",
	Congestion: "other congestion control", Filter: "other packet filter", Group: "groups", Timeout: "timeout",
	BadRequest: "bad request", Unauthorized: "unauthorized", Overload: "overload", Forbidden: "forbidden", NotFound: "not found",
	BadMode: "bad mode", Unacceptable: "unacceptable", Conflict: "conflict", Unsupported: "unsupported media", Locked: "locked",
	InternalError: "internal error", Down: "shutting down", NoRoom: "no room",
}

// A Rejection is an error that refuses a handshake, or the refusal of a peer.
type Rejection struct{ Reason Reason }

func (r *Rejection) Error() string {
	text, ok := reasons[r.Reason]
	if !ok {
		text = "no known reason"
	}
	return fmt.Sprintf("srt: rejected: %s (%d)", text, uint32(r.Reason))
}
