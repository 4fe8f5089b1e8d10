package jwtauth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/runnel-media/runnel/auth"
)

// maxToken bounds a token; those of most issuers have one or two kilobytes.
const maxToken = 16 << 10

// maxTried is how many keys are tried for a token.
const maxTried = 8

// An Authorizer takes tokens. Its fields are set before it is used.
type Authorizer struct {
	Keys     Keys          // nil refuses everybody
	Issuer   string        // what "iss" has to be; "": anything
	Audience string        // what "aud" has to hold; "": anything, so that tokens for other services count
	Leeway   time.Duration // by how much clocks may differ
	Claim    string        // the claim of the rights; "": "runnel"
	// Rights, if set, makes the rights of a verified token's claims in place of
	// reading Claim.
	Rights func(claims map[string]any) (*Rights, error)
	// TURNSecret is that of TURNPassword; nil: TURN clients are refused.
	TURNSecret []byte
}

// TURNPassword is the password that goes with a token in USERNAME. Whoever
// issues tokens to TURN clients makes it, with a secret that the TURN servers
// share, and gives the client both. Neither token nor USERNAME may have more
// than 508 bytes (RFC 8489 Section 14.3), which a token of ES256 or EdDSA with
// few claims has not.
func TURNPassword(secret []byte, token string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(token))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Authorize allows what the token of the request does: Request.Token, or else
// the password of encoders that have no other place; of a TURN client the
// user. The Grant ends with the token.
func (a *Authorizer) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	token := cmp.Or(r.Token, r.Password)
	if r.Proof != nil {
		token = r.User
		if len(a.TURNSecret) == 0 || r.Token != "" {
			return nil, auth.ErrDenied
		}
	}
	if token == "" || len(token) > maxToken || a.Keys == nil {
		return nil, auth.ErrDenied
	}
	claims, err := a.verify(ctx, token)
	if err != nil {
		return nil, err
	}
	rights, err := a.rights(claims)
	if err != nil {
		return nil, err
	}
	if !rights.Allow(r) || r.Proof != nil && !r.Proof(auth.Secret{Plain: TURNPassword(a.TURNSecret, token)}) {
		return nil, auth.ErrDenied
	}
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil {
		return nil, auth.ErrDenied // verify asked for it
	}
	return &auth.Grant{User: rights.User, Expires: expires.Add(a.Leeway), Limits: rights.Limits, Labels: rights.Labels}, nil
}

// errKeys marks that the keys could not be had, which is no fault of the token.
type errKeys struct{ error }

func (e errKeys) Unwrap() error { return e.error }

// verify returns the claims of a token that holds. Tokens that do not are
// refused with a reason for the log.
func (a *Authorizer) verify(ctx context.Context, token string) (jwt.MapClaims, error) {
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{
			"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
		}),
		jwt.WithExpirationRequired(), jwt.WithLeeway(a.Leeway), jwt.WithStrictDecoding(),
	}
	if a.Issuer != "" {
		options = append(options, jwt.WithIssuer(a.Issuer))
	}
	if a.Audience != "" {
		options = append(options, jwt.WithAudience(a.Audience))
	}
	claims := jwt.MapClaims{}
	_, err := jwt.NewParser(options...).ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return a.keys(ctx, t) })
	if keys := (errKeys{}); errors.As(err, &keys) {
		return nil, keys.error
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", auth.ErrDenied, reason(err))
	}
	return claims, nil
}

// keys finds those that may verify the token: by its id, and of the kind that
// its algorithm is of.
func (a *Authorizer) keys(ctx context.Context, t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		return nil, errors.New("an extension is critical") // RFC 7515 Section 4.1.11
	}
	id, ok := t.Header["kid"].(string)
	if t.Header["kid"] != nil && !ok {
		return nil, errors.New("kid is not a string")
	}
	keys, err := a.Keys.Keys(ctx, id)
	if err != nil {
		return nil, errKeys{err}
	}
	var set jwt.VerificationKeySet
	for _, k := range keys {
		if list, err := k.algorithms(); err == nil && slices.Contains(list, t.Method.Alg()) && len(set.Keys) < maxTried {
			set.Keys = append(set.Keys, k.Key)
		}
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("no key for it")
	}
	return set, nil
}

// reason says in few words why a token does not hold, without a part of it.
func reason(err error) string {
	for _, e := range []error{
		jwt.ErrTokenMalformed, jwt.ErrTokenSignatureInvalid, jwt.ErrTokenExpired, jwt.ErrTokenNotValidYet,
		jwt.ErrTokenInvalidIssuer, jwt.ErrTokenInvalidAudience, jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenUsedBeforeIssued,
		jwt.ErrTokenUnverifiable,
	} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return "the token does not hold"
}

func (a *Authorizer) rights(claims jwt.MapClaims) (*Rights, error) {
	var rights *Rights
	var err error
	if a.Rights != nil {
		rights, err = a.Rights(claims)
	} else {
		rights, err = readRights(claims[cmp.Or(a.Claim, "runnel")])
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", auth.ErrDenied, err)
	}
	if rights == nil {
		return nil, auth.ErrDenied
	}
	if rights.User == "" {
		named := *rights
		if named.User, err = claims.GetSubject(); err != nil || len(named.User) > maxSubject {
			return nil, auth.ErrDenied
		}
		rights = &named
	}
	return rights, nil
}
