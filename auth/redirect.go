package auth

// Redirect is an error that an Authorizer returns to send the peer elsewhere:
// an RTMP 302 onStatus, an HTTP 302 or 307, a TURN ALTERNATE-SERVER.
type Redirect struct {
	// Location is the URL of the same stream on another server. For HTTP it may
	// lack the path: then path and query are those of the request, the query with
	// what Location has of one.
	Location string
}

// Error names the new location.
func (r *Redirect) Error() string { return "auth: redirected to " + r.Location }
