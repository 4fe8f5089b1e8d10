// Package whep plays streams over WebRTC: WHEP, the WebRTC-HTTP egress protocol
// (draft-ietf-wish-whep).
//
// A Handler answers offers over HTTP, for a deliver.Server, which asks the
// Authorizer; the media goes over the UDP port of a Transport, which package
// ingest/whip can use too. A frame is cut into packets once for all viewers of a
// stream.
package whep

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/internal/httpauth"
	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// A Transport is the UDP port that all sessions share. Set its fields, and call
// ServePacket before the first request.
type Transport = webrtc.Transport

// Playout is how long players are told to hold pictures back: Transport.Playout.
type Playout = webrtc.Playout

// A Handler serves viewers. POST an offer to /app/name; the answer's Location is
// the session, which DELETE ends. A bearer token, or token= in the query, is the
// Authorizer's to judge. The host strips what stands before /app/name from the
// path, as http.StripPrefix does.
//
// Who posts ["viewercount", "layers"] to the answer's Link with
// rel="urn:ietf:params:whep:ext:core:server-sent-events" gets the number of the
// stream's viewers, of all protocols, and its layers by server-sent events there.
//
// A stream's layers are its published pictures, which are called "source", and its
// renditions in the same codec: those of a simulcast, and the steps of a
// transcode.Ladder. A viewer gets the best that the estimate of its path allows, and
// goes from one to another with a key frame. ?rendition=NAME, or ?layer=NAME,
// chooses one, as does {"rid": "NAME"} that is posted to the Link with
// rel="urn:ietf:params:whep:ext:core:layer", where {} leaves it to the server
// again, and maxWidth and maxHeight bound what that chooses.
//
// The statuses are 201; 400 for an offer that is not acceptable, and 406 for one
// that has none of the stream's codecs, with the reason; 401 and 403 to who may
// not play, 404 where there is no such stream, 413, 415, 503 where there is no
// room.
type Handler struct {
	Server    *deliver.Server
	Transport *Transport

	// Wait is how long an offer waits for a stream that is not published yet.
	Wait time.Duration
	// Fixed plays the published pictures to who chooses none, whatever their
	// paths carry.
	Fixed bool
	// ICEServers are told to viewers, as the values of Link headers. nil: none.
	ICEServers func(r *http.Request) []string

	once     sync.Once
	endpoint webrtc.Endpoint

	mu      sync.Mutex
	feeds   map[*stream.Stream]*feed
	viewers map[*webrtc.Session]*viewer
}

// ServeHTTP serves /app/name, and the sessions.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.prepare()
	h.endpoint.Serve(w, r, h.begin)
}

func (h *Handler) prepare() {
	h.once.Do(func() {
		h.endpoint.ICEServers, h.endpoint.Viewers = h.ICEServers, h.count
		h.endpoint.Layers, h.endpoint.Choose = h.layers, h.choose
	})
}

var errAnswered = errors.New("whep: answered")

// begin asks whether the peer may play and answers its offer.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, o *webrtc.Offer) (*webrtc.Session, []byte, error) {
	req, err := httpauth.Request(r, auth.Play, r.URL.Path)
	if err != nil {
		http.Error(w, "bad stream name", http.StatusNotFound)
		return nil, nil, errAnswered
	}
	o.From = req.Remote.Addr()
	req.Protocol = "whep"
	v := &viewer{}
	sub, session, err := h.Server.Play(r.Context(), req, &stream.SubscribeOptions{Live: true, Wait: h.Wait}, v.kick)
	if err != nil {
		refuse(w, r, req, err)
		return nil, nil, errAnswered
	}
	v.session = session
	wanted := cmp.Or(r.URL.Query().Get("rendition"), r.URL.Query().Get("layer"))
	var rendition *stream.Rendition
	if wanted != "" && wanted != sourceLayer {
		if rendition = sub.Stream().Rendition(wanted); rendition == nil {
			sub.Close()
			session.Close(nil)
			http.Error(w, "the stream has no such rendition", http.StatusNotFound)
			return nil, nil, errAnswered
		}
	}
	v.chosen.RID = wanted
	v.source = h.feed(sub)
	v.pictures = v.source
	tracks := v.source.settled(r.Context(), time.Second, rendition)
	if rendition != nil {
		h.mu.Lock()
		if f, err := h.rendition(v.source, rendition); err == nil { // else it has just gone
			v.pictures = f
		}
		h.mu.Unlock()
	}
	ask := func() { h.keyNeeded(v) }
	s, answer, err := h.Transport.Send(o, tracks, webrtc.Handler{
		Connected: ask, KeyNeeded: ask, Ended: func(err error) { h.leave(v, err) },
	})
	if err != nil {
		h.release(v, nil)
		session.Close(err)
		if errors.Is(err, webrtc.ErrOffer) {
			http.Error(w, fmt.Sprintf("%v; the stream has %s", err, codecs(tracks)), http.StatusNotAcceptable)
		} else {
			webrtc.RefuseOffer(w, err)
		}
		return nil, nil, errAnswered
	}
	h.enter(v, s)
	return s, answer, nil
}

// count returns how many play the stream of a session, by whatever protocol.
func (h *Handler) count(s *webrtc.Session) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.viewers[s]
	if v == nil {
		return 0
	}
	f := v.source
	if now := time.Now(); now.Sub(f.counted) >= countEvery {
		f.counted, f.count = now, 0
		for session := range h.Server.Hub.Sessions() {
			if info := session.Info(); info.Role == stream.RolePlay && info.Stream == f.stream.Name() {
				f.count++
			}
		}
	}
	return f.count
}

// countEvery is how often a stream's viewers are counted, however many ask.
const countEvery = 900 * time.Millisecond

// codecs names what a stream has.
func codecs(tracks []*stream.Track) string {
	var names []string
	for _, t := range tracks {
		names = append(names, t.Codec.String())
	}
	if len(names) == 0 {
		return "nothing yet"
	}
	return strings.Join(names, ", ")
}

// refuse answers an error of Play.
func refuse(w http.ResponseWriter, r *http.Request, req *auth.Request, err error) {
	switch {
	case httpauth.Refuse(w, r, req, err):
	case errors.Is(err, stream.ErrNotFound), errors.Is(err, stream.ErrName):
		http.Error(w, "no such stream", http.StatusNotFound)
	case errors.Is(err, stream.ErrClosed), errors.Is(err, limit.ErrReached):
		w.Header().Set("Retry-After", "5")
		http.Error(w, "no room", http.StatusServiceUnavailable)
	default:
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}
