// Package auth decides who may publish, play, relay and administer.
//
// Every server of Runnel asks one Authorizer, with one kind of Request, before
// it allocates anything for a peer. A server without an Authorizer refuses
// everybody; AllowAll is the way to say that none is wanted:
//
//	srv := &ingest.Server{Hub: hub, Auth: auth.Func(func(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
//		if r.Action == auth.Publish && !tokens.Valid(r.Stream, r.Token) {
//			return nil, auth.ErrDenied
//		}
//		return nil, nil
//	})}
//
// An Authorizer has three answers: a Grant (nil is one without bounds), a
// *Redirect, which sends the peer to another server, and any other error, which
// refuses. The peer never learns the text of an error.
//
// Authorizers compose: Any takes the first that allows, All what each of them
// does, ByAction and ByStream choose. Tokens, SignedURLs and ClientCert are
// here, with Addresses, Origins and Throttle, which restrict; passwords, JSON
// Web Tokens, databases and web services are packages below. Package limit
// bounds what those take who may, audit writes down who may not.
//
// Secrets that the peer sent are in the Request. Those that it only proved to
// know, as TURN and SRT peers do, are checked by Request.Proof: look the
// secret up and ask.
package auth
