package turn

import (
	"errors"
	"fmt"
	"net"
)

// An Error is a refusal by the server: an error response. errors.Is finds the
// sentinels of this package by its code.
type Error struct {
	Code   int    // RFC 8489 Section 14.8, RFC 8656 Section 19
	Reason string // as the server put it; may be empty
}

// Error returns the code, and the text that the RFCs have for it.
func (e *Error) Error() string {
	reason := errorReasons[e.Code]
	if reason == "" {
		reason = fmt.Sprintf("%.64q", e.Reason)
	}
	return fmt.Sprintf("turn: the server answered %d %s", e.Code, reason)
}

// Is reports whether target is the sentinel of the error's code.
func (e *Error) Is(target error) bool {
	switch e.Code {
	case 401:
		return target == ErrUnauthorized
	case 403:
		return target == ErrForbidden
	case 437:
		return target == ErrNoAllocation
	case 486, 508:
		return target == ErrQuota
	}
	return false
}

// What callers of a Client branch on.
var (
	ErrUnauthorized = errors.New("turn: wrong credentials")              // 401 to a request that had some
	ErrForbidden    = errors.New("turn: forbidden")                      // 403: mostly a peer that the server does not relay to
	ErrQuota        = errors.New("turn: a quota or capacity is used up") // 486, 508
	ErrNoAllocation = errors.New("turn: the server lost the allocation") // 437: it ended, or the server started anew
	ErrNoAnswer     = errors.New("turn: the server does not answer")     // after all retransmissions
	ErrProtocol     = errors.New("turn: the server does not make sense") // an answer that is malformed or not authentic
	errRedirects    = errors.New("turn: redirected too often")
	errClientClosed = fmt.Errorf("turn: %w", net.ErrClosed)
)

// errorReasons are the reason phrases of the RFCs, which are told instead of
// what a server may write.
var errorReasons = map[int]string{
	300: "Try Alternate",
	400: "Bad Request",
	401: "Unauthenticated",
	403: "Forbidden",
	405: "Mobility Forbidden",
	420: "Unknown Attribute",
	437: "Allocation Mismatch",
	438: "Stale Nonce",
	440: "Address Family not Supported",
	441: "Wrong Credentials",
	442: "Unsupported Transport Protocol",
	443: "Peer Address Family Mismatch",
	446: "Connection Already Exists",
	447: "Connection Timeout or Failure",
	486: "Allocation Quota Reached",
	500: "Server Error",
	508: "Insufficient Capacity",
}

// A redirectError is an answer of 300 (Try Alternate).
type redirectError struct{ target clientTarget }

func (e *redirectError) Error() string { return "turn: redirected to " + e.target.address }
