// Package jwtauth is an auth.Authorizer that takes JSON Web Tokens (RFC 7519):
// whoever has the key writes into a token who may do what and until when, and
// the server asks nobody.
//
// The claim "runnel" says what the owner may:
//
//	{"sub": "alice", "exp": 1767225600,
//	 "runnel": {"publish": ["live/alice"], "play": ["live/**"], "relay": true, "bit_rate": 5000000}}
//
// An action holds true for everything, or patterns for hub keys ("relay":
// for realms), in which * stands for any part of a segment and ** for any
// number of segments. Authorizer.Rights reads tokens of another make.
//
// Signatures are HS, RS, PS, ES (256, 384, 512) and EdDSA, keys come from a
// list or a JWK set at a URL (RFC 7517). A key is good for the algorithms of
// its kind alone, whatever a token's header says, and there is always an "exp".
//
// TURN clients have no place for a token but USERNAME, which everybody on the
// way can read. So they send it there and prove a password that goes with it,
// see TURNPassword.
package jwtauth
