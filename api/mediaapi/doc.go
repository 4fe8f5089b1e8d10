// Package mediaapi is the REST interface to the live media of a stream.Hub: who
// publishes and plays what, ending streams and sessions, and following events.
//
//	GET    /api/v2/streams                ?prefix= &search= &codec= &publishing= &after=NAME &limit=N
//	GET    /api/v2/streams/NAME           NAME may have slashes
//	DELETE /api/v2/streams/NAME           ends it, its publisher and its readers
//	GET    /api/v2/publishers             ?prefix= &after=NAME &limit=N
//	GET    /api/v2/sessions               ?stream= &role= &protocol= &user= &address= &after=CURSOR &limit=N
//	GET    /api/v2/sessions/ID
//	DELETE /api/v2/sessions/ID            ends the peer's connection
//	DELETE /api/v2/sessions?user=NAME     ends all that match; the other filters too
//	GET    /api/v2/server
//	GET    /api/v2/events                 server-sent events; ?stream= &type=
//	GET    /api/v2/log-level
//	PUT    /api/v2/log-level              {"level": "debug"}
//	GET    /api/v2/me                     who the caller is
//	GET    /api/openapi.json              all of this, for programs
//
// Answers are JSON, refusals application/problem+json (RFC 9457). Times are
// RFC 3339, durations are seconds, bit rates bits a second. Answers have an
// ETag, and If-None-Match spares a body that has not changed. Who may do what
// is the access.Gate's to say: viewers look, operators end, admins change.
package mediaapi
