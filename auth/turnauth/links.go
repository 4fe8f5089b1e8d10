package turnauth

import (
	"strings"
	"time"
)

// Links makes the values of HTTP Link headers that hand TURN servers out to
// WebRTC clients, with credentials of Credentials that hold until the time (RFC
// 9725 Section 4.6, WHIP and WHEP). The URLs are those of RFC 7064 and RFC 7065,
// such as "turn:turn.example.org?transport=udp"; to "stun:" ones no credentials
// are added. Who gets the values can use the servers, so give them to peers that
// have been authorized.
func Links(secret, user string, expires time.Time, urls ...string) []string {
	name, password := Credentials(secret, user, expires)
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var links []string
	for _, u := range urls {
		link := "<" + u + `>; rel="ice-server"`
		if !strings.HasPrefix(u, "stun") {
			link += `; username="` + quoted.Replace(name) + `"; credential="` + password + `"; credential-type="password"`
		}
		links = append(links, link)
	}
	return links
}
