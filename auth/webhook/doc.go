// Package webhook asks a web service who may: an auth.Authorizer that posts
// each Request as JSON and takes the answer as the decision.
//
// The body is a Question, the answer a status of 200 and an Answer:
//
//	{"allow": true, "user": "alice", "expires": "2030-01-01T00:00:00Z", "limits": {"bit_rate": 5000000}}
//
// A status of 401 or 403, or "allow": false, refuses. Whatever else happens, a
// timeout, another status, an answer that can't be read, refuses too, with an
// error that is not auth.ErrDenied. Redirects are not followed, so that nobody
// who answers for the service leads the server's requests, which hold
// passwords, to another address.
//
// With a Key each request is signed; Verify is what the service checks it
// with.
package webhook
