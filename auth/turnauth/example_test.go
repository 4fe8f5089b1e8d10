package turnauth_test

import (
	"context"
	"fmt"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// Users that are known by name, and whoever got credentials of a web service
// that shares a secret with us.
func Example() {
	var users turnauth.Users
	if err := users.Put(turnauth.User{Name: "alice", Password: "wonderland"}); err != nil {
		panic(err)
	}
	// To replace a secret, put the new one before the old one for a while.
	secrets := &turnauth.Secrets{List: turnauth.Static("new secret", "old secret")}
	authorizer := auth.Any(&users, secrets)

	// What the web service gives to bob, as "username" and "credential" of
	// his RTCPeerConnection's ICE server.
	name, password := turnauth.Credentials("old secret", "bob", time.Now().Add(time.Hour))

	// What a TURN server asks when they come.
	for user, password := range map[string]string{name: password, "mallory": "guess"} {
		grant, err := authorizer.Authorize(context.Background(), &auth.Request{
			Action: auth.Relay, User: user, Realm: "example.org",
			Proof: func(s auth.Secret) bool { return s.Plain == password },
		})
		if err == nil {
			fmt.Println(grant.User, "until", time.Until(grant.Expires).Round(time.Hour))
		} else {
			fmt.Println(err)
		}
	}
	// Unordered output:
	// bob until 1h0m0s
	// auth: denied
}

// An authorization server seals an access token for a TURN server.
func ExampleOAuthKey_Seal() {
	key := &turnauth.OAuthKey{ID: "north", Secret: []byte("a secret of thirty-two bytes....")}
	sealed, err := key.Seal(&turnauth.Token{
		MACKey: []byte("20 random bytes, say"), Issued: time.Unix(1767225600, 0), Lifetime: time.Hour,
	}, "turn.example.org")
	if err != nil {
		panic(err)
	}
	token, err := key.Open(sealed, "turn.example.org")
	fmt.Println(token.Lifetime, err)
	_, err = key.Open(sealed, "turn.example.net")
	fmt.Println(err)
	// Output:
	// 1h0m0s <nil>
	// turnauth: not an access token of this key
}
