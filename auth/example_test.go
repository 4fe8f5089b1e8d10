package auth_test

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/runnel-media/runnel/auth"
)

// Everybody may play; who publishes needs the token.
func Example() {
	authorizer := auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		switch r.Action {
		case auth.Play:
			return &auth.Grant{Limits: auth.Limits{BitRate: 10_000_000}}, nil
		case auth.Publish:
			if subtle.ConstantTimeCompare([]byte(r.Token), []byte("s3cret")) == 1 {
				return &auth.Grant{User: "studio"}, nil
			}
		}
		return nil, auth.ErrDenied
	})

	ctx := context.Background()
	for _, r := range []*auth.Request{
		{Action: auth.Play, Stream: "live/demo"},
		{Action: auth.Publish, Stream: "live/demo", Token: "guess"},
		{Action: auth.Publish, Stream: "live/demo", Token: "s3cret"},
		{Action: auth.Admin},
	} {
		grant, err := auth.Check(ctx, authorizer, r)
		if err != nil {
			fmt.Println(r.Action, err)
			continue
		}
		fmt.Printf("%s user=%q limit=%d\n", r.Action, grant.User, grant.Limits.BitRate)
	}
	// Output:
	// play user="" limit=10000000
	// publish auth: denied
	// publish user="studio" limit=0
	// admin auth: denied
}

// A peer that proves to know a secret, as TURN and SRT peers do, without
// sending it.
func ExampleRequest_proof() {
	passwords := map[string]string{"alice": "wonderland"}
	authorizer := auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		password, known := passwords[r.User]
		if !known || r.Proof == nil || !r.Proof(auth.Secret{Plain: password}) {
			return nil, auth.ErrDenied
		}
		return &auth.Grant{User: r.User}, nil
	})

	// What a server does: it has the peer's digest, here a comparison.
	proof := func(s auth.Secret) bool { return s.Plain == "wonderland" }
	for _, user := range []string{"alice", "mallory"} {
		_, err := auth.Check(context.Background(), authorizer, &auth.Request{Action: auth.Relay, User: user, Proof: proof})
		fmt.Println(user, err)
	}
	// Output:
	// alice <nil>
	// mallory auth: denied
}

// Sending a peer to another server.
func ExampleRedirect() {
	authorizer := auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		return nil, &auth.Redirect{Location: "rtmp://edge2.example.com/" + r.Stream}
	})
	_, err := auth.Check(context.Background(), authorizer, &auth.Request{Action: auth.Play, Stream: "live/demo"})
	var to *auth.Redirect
	if errors.As(err, &to) {
		fmt.Println(to.Location)
	}
	// Output: rtmp://edge2.example.com/live/demo
}
