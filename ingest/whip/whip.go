// Package whip takes publishers over WebRTC: WHIP, the WebRTC-HTTP ingestion
// protocol (RFC 9725).
//
// A Handler answers offers over HTTP, for an ingest.Server, which asks the
// Authorizer; the media comes over the UDP port of a Transport, which package
// deliver/whep can use too.
package whip

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/httpauth"
	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// A Transport is the UDP port that all sessions share. Set its fields, and call
// ServePacket before the first request.
type Transport = webrtc.Transport

// Playout is how long players are told to hold pictures back: Transport.Playout.
type Playout = webrtc.Playout

// A Handler takes publishers. POST an offer to /app/name; the answer's Location
// is the session, which DELETE ends. A bearer token, or token= in the query, is
// the Authorizer's to judge. The host strips what stands before /app/name from
// the path, as http.StripPrefix does.
//
// Of a publisher that sends several pictures at once (simulcast, RFC 8853) the
// finest that comes is the stream's, and the others are renditions of it, named
// by their rids.
//
// The statuses are 201; 400 for an offer that is not acceptable, with the
// reason; 401 and 403 to who may not publish, 404 for a name that cannot be,
// 409 for a stream that has a publisher, 413, 415, 503 where there is no room.
type Handler struct {
	Server    *ingest.Server
	Transport *Transport

	// PeerOrder takes the codec that the publisher likes most; else it is the
	// one that most outputs can carry: H.264 before AV1, VP9 and VP8.
	PeerOrder bool
	// ICEServers are told to publishers, as the values of Link headers
	// (RFC 9725 Section 4.6). nil: none.
	ICEServers func(r *http.Request) []string

	once     sync.Once
	endpoint webrtc.Endpoint
}

// ServeHTTP serves /app/name, and the sessions.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.prepare()
	h.endpoint.Serve(w, r, h.begin)
}

func (h *Handler) prepare() {
	h.once.Do(func() { h.endpoint.ICEServers = h.ICEServers })
}

var errAnswered = errors.New("whip: answered")

// begin asks whether the peer may publish and answers its offer.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, o *webrtc.Offer) (*webrtc.Session, []byte, error) {
	req, err := httpauth.Request(r, auth.Publish, r.URL.Path)
	if err != nil {
		http.Error(w, "bad stream name", http.StatusNotFound)
		return nil, nil, errAnswered
	}
	o.From = req.Remote.Addr()
	req.Protocol = "whip"
	// A page of another site must not publish from its visitor's machine, which
	// may be let in for its address. One that has a token may.
	var origins http.CrossOriginProtection
	if !req.HasCredentials() && origins.Check(r) != nil {
		http.Error(w, "a page of another site needs a token", http.StatusForbidden)
		return nil, nil, errAnswered
	}
	p := &publication{}
	// The request ends with its answer; the publication does not.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	p.cancel = cancel
	p.pub, err = h.Server.Publish(ctx, req, &stream.PublishOptions{
		Jitter: stream.JitterFull, OnEvict: p.evict, OnKeyRequest: p.requestKey,
	})
	if err != nil {
		cancel()
		refuse(w, r, req, err)
		return nil, nil, errAnswered
	}
	p.frames.Publisher, p.frames.RequestKey = p.pub, p.requestKeyOf
	s, answer, err := h.Transport.Receive(o, h.PeerOrder, webrtc.Handler{Frame: p.frame, Ended: p.ended})
	if err != nil {
		p.ended(err)
		webrtc.RefuseOffer(w, err)
		return nil, nil, errAnswered
	}
	p.attach(s)
	return s, answer, nil
}

// refuse answers an error of Publish.
func refuse(w http.ResponseWriter, r *http.Request, req *auth.Request, err error) {
	switch {
	case httpauth.Refuse(w, r, req, err):
	case errors.Is(err, stream.ErrBusy):
		http.Error(w, "the stream has a publisher", http.StatusConflict)
	case errors.Is(err, stream.ErrName):
		http.Error(w, "bad stream name", http.StatusNotFound)
	case errors.Is(err, stream.ErrClosed), errors.Is(err, limit.ErrReached):
		w.Header().Set("Retry-After", "5")
		http.Error(w, "no room", http.StatusServiceUnavailable)
	default:
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}
