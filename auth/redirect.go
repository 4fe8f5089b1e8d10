package auth

// Redirect is an error that an Authorizer returns to send the peer elsewhere:
// an RTMP 302 onStatus, an HTTP 302, a TURN ALTERNATE-SERVER.
type Redirect struct {
	Location string // URL of the same stream on another server
}

// Error names the new location.
func (r *Redirect) Error() string { return "auth: redirected to " + r.Location }
