// Package turnapi is a JSON API for those who run a turn.Server: who is on it,
// ending sessions, draining, and changing policy, users and certificates while
// it runs.
//
//	GET    /sessions                      ?realm= &user= &client= &after=ID &limit=N
//	GET    /sessions/ID
//	DELETE /sessions/ID                   ends it; the client finds out by a 437
//	DELETE /sessions?user=NAME            ends all that match; realm= and client= too
//	GET    /stats
//	GET    /events                        a line of JSON for each, until the client goes
//	POST   /drain
//	GET    /policy
//	PATCH  /policy                        changes the fields that are given
//	GET    /users
//	PUT    /users/NAME                    {"password": …} or {"key": hex}; ?realm=
//	DELETE /users/NAME                    ?realm=
//	POST   /certificates                  reads them again
//	GET    /openapi.json                  all of this, for programs
//
// Who may is said by an access.Gate. What is sent is application/json, also
// where the body is empty. Answers are JSON with an ETag, refusals
// application/problem+json (RFC 9457). Secrets go in, never out.
package turnapi
