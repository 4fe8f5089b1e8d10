package jwtauth_test

import (
	"context"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/jwtauth"
)

// Whoever has the secret writes what alice may into a token.
func Example() {
	secret := []byte("thirty-two bytes or more of it.....")
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(),
		"runnel": map[string]any{"publish": []string{"live/alice"}, "play": []string{"live/*"}},
	}).SignedString(secret)
	if err != nil {
		panic(err)
	}

	authorizer := &jwtauth.Authorizer{Keys: jwtauth.Static{{Key: secret}}}
	for _, r := range []*auth.Request{
		{Action: auth.Publish, Stream: "live/alice", Token: token},
		{Action: auth.Publish, Stream: "live/bob", Token: token},
		{Action: auth.Play, Stream: "live/bob", Token: token},
		{Action: auth.Admin, Token: token},
	} {
		_, err := authorizer.Authorize(context.Background(), r)
		fmt.Println(r.Action, r.Stream, err)
	}
	// Output:
	// publish live/alice <nil>
	// publish live/bob auth: denied
	// play live/bob <nil>
	// admin  auth: denied
}
