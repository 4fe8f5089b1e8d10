package whep

import (
	"net/http"
	"path"
	"strings"

	"github.com/runnel-media/runnel/internal/webrtc"
)

// SRS serves a Handler's endpoint as SRS has it, for SRS's pages, and for programs
// that were made for SRS. Mount it at /rtc/v1/whep/, /rtc/v1/whip-play/ and
// /rtc/v1/play/; a whip.SRS gives it what asks to play at /rtc/v1/whip/.
//
// /rtc/v1/whep/?app=live&stream=NAME takes an offer like WHEP; its Location, which
// is below /rtc/v1/whep/ too, has an unguessable token in the query. /rtc/v1/play/
// takes a JSON object with streamurl (webrtc://host/app/name?query) and sdp, and
// answers 200 with one whose code is 0, and sdp the answer, or whose code is the
// status of the refusal and error its reason. sessionid is what that token is. The
// peer's address is the connection's, whatever clientip the object has. The
// Authorizer sees the query of the stream's URL.
type SRS struct {
	Handler *Handler
	// VHost says which virtual host is meant, as ingest.Server.VHost does.
	// nil: the one that is named by vhost=.
	VHost func(host, named string) string
	// ServerID and ServiceID are said in JSON answers.
	ServerID, ServiceID string
}

// ServeHTTP serves /rtc/v1/whep/, /rtc/v1/whip-play/, /rtc/v1/play/, and
// /rtc/v1/whip/?action=play.
func (s *SRS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	form := path.Base(r.URL.Path)
	d := &webrtc.Dialect{JSON: form == "play", VHost: s.VHost, ServerID: s.ServerID, ServiceID: s.ServiceID}
	switch form {
	case "whep", "whip-play", "play", "whip":
	default:
		http.NotFound(w, r)
		return
	}
	if at, _, _ := strings.Cut(r.RequestURI, "?"); form == "whip" && strings.HasPrefix(at, "/") {
		d.Path = path.Dir(strings.TrimSuffix(at, "/")) + "/whep/"
	}
	s.Handler.prepare()
	s.Handler.endpoint.ServeSRS(w, r, d, s.Handler.begin)
}
