// Package mediaapi is the REST interface to the live media of a stream.Hub: who
// publishes and plays what, ending streams and sessions, and following events.
//
//	GET    /api/v2/streams                ?prefix= &search= &codec= &publishing= &live= &declared= &label=NAME=VALUE &after=NAME &limit=N
//	POST   /api/v2/streams                declares one ahead
//	GET    /api/v2/streams/NAME           NAME may have slashes
//	DELETE /api/v2/streams/NAME           ends it, its publisher and its readers, and undeclares it
//	GET    /api/v2/streams/NAME/snapshot.jpg
//	GET    /api/v2/declarations           ?prefix= &after=NAME &limit=N
//	GET    /api/v2/declarations/NAME      PUT, PATCH (RFC 7396) and DELETE too
//	GET    /api/v2/publishers             ?prefix= &after=NAME &limit=N
//	GET    /api/v2/sessions               ?stream= &role= &protocol= &user= &address= &after=CURSOR &limit=N
//	GET    /api/v2/sessions/ID
//	DELETE /api/v2/sessions/ID            ends the peer's connection
//	DELETE /api/v2/sessions?user=NAME     ends all that match; the other filters too
//	GET    /api/v2/server
//	GET    /api/v2/events                 server-sent events; ?stream= &type=
//	GET    /api/v2/log-level
//	PUT    /api/v2/log-level              {"level": "debug"}
//	GET    /api/v2/limits                 PUT and PATCH too; what is used of them: /usage
//	GET    /api/v2/config                 PATCH too: the host's settings
//	GET    /api/v2/tokens                 ?user=; POST makes one; DELETE ?user= revokes a user's
//	GET    /api/v2/tokens/ID              DELETE too
//	GET    /api/v2/me                     who the caller is
//	GET    /api/openapi.json              all of this, for programs
//
// Answers are JSON, refusals application/problem+json (RFC 9457). Times are
// RFC 3339, durations are seconds, bit rates bits a second. Answers have an
// ETag, and If-None-Match spares a body that has not changed. Who may do what
// is the access.Gate's to say: viewers look, operators end, admins change.
package mediaapi
