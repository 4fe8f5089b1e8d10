package whip

import (
	"net/http"
	"path"

	"github.com/runnel-media/runnel/internal/webrtc"
)

// SRS serves a Handler's endpoint as SRS has it, for SRS's pages, and for programs
// that were made for SRS. Mount it at /rtc/v1/whip/ and /rtc/v1/publish/.
//
// /rtc/v1/whip/?app=live&stream=NAME takes an offer like WHIP; its Location has
// an unguessable token in the query. /rtc/v1/publish/ takes a JSON object with
// streamurl (webrtc://host/app/name?query) and sdp, and answers 200 with one whose
// code is 0, and sdp the answer, or whose code is the status of the refusal and
// error its reason. sessionid is what that token is. The peer's address is the
// connection's, whatever clientip the object has. The Authorizer sees the query
// of the stream's URL.
type SRS struct {
	Handler *Handler
	// Players gets what asks to play: /rtc/v1/whip/?action=play. nil: 404. It
	// is a *whep.SRS.
	Players http.Handler
	// VHost says which virtual host is meant, as ingest.Server.VHost does.
	// nil: the one that is named by vhost=.
	VHost func(host, named string) string
	// ServerID and ServiceID are said in JSON answers.
	ServerID, ServiceID string
}

// ServeHTTP serves /rtc/v1/whip/ and /rtc/v1/publish/.
func (s *SRS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	form := path.Base(r.URL.Path)
	d := &webrtc.Dialect{JSON: form == "publish", VHost: s.VHost, ServerID: s.ServerID, ServiceID: s.ServiceID}
	switch {
	case form == "whip" && r.URL.Query().Get("action") == "play":
		if s.Players == nil {
			http.NotFound(w, r)
			return
		}
		s.Players.ServeHTTP(w, r)
	case form == "whip", form == "publish":
		s.Handler.prepare()
		s.Handler.endpoint.ServeSRS(w, r, d, s.Handler.begin)
	default:
		http.NotFound(w, r)
	}
}
