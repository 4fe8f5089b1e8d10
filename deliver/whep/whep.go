// Package whep plays streams over WebRTC: WHEP, the WebRTC-HTTP egress protocol
// (draft-ietf-wish-whep).
//
// A Handler answers offers over HTTP, for a deliver.Server, which asks the
// Authorizer; the media goes over the UDP port of a Transport, which package
// ingest/whip can use too. A frame is cut into packets once for all viewers of a
// stream.
package whep

import (
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

// A Handler serves viewers. POST an offer to /app/name; the answer's Location is
// the session, which DELETE ends. A bearer token, or token= in the query, is the
// Authorizer's to judge. The host strips what stands before /app/name from the
// path, as http.StripPrefix does.
//
// Who posts ["viewercount"] to the answer's Link with
// rel="urn:ietf:params:whep:ext:core:server-sent-events" gets the number of the
// stream's viewers, of all protocols, by server-sent events there.
//
// ?rendition=NAME plays another form of the stream's pictures, such as a step of
// transcode.Ladder, with the stream's sound.
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
	// ICEServers are told to viewers, as the values of Link headers. nil: none.
	ICEServers func(r *http.Request) []string

	once     sync.Once
	endpoint webrtc.Endpoint

	mu    sync.Mutex
	feeds map[*stream.Stream]*feed
}

// ServeHTTP serves /app/name, and the sessions.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.prepare()
	h.endpoint.Serve(w, r, h.begin)
}

func (h *Handler) prepare() {
	h.once.Do(func() { h.endpoint.ICEServers, h.endpoint.Viewers = h.ICEServers, h.count })
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
	rendition := r.URL.Query().Get("rendition")
	sub, session, err := h.Server.Play(r.Context(), req, &stream.SubscribeOptions{Live: true, Wait: h.Wait, Rendition: rendition}, v.kick)
	if err != nil {
		refuse(w, r, req, err)
		return nil, nil, errAnswered
	}
	v.session = session
	f := h.feed(sub)
	patience := time.Second
	if rendition != "" {
		patience = renditionPatience
	}
	tracks := f.settled(r.Context(), patience)
	s, answer, err := h.Transport.Send(o, tracks, webrtc.Handler{
		Connected: f.source.RequestKey, KeyNeeded: f.source.RequestKey,
		Ended: func(err error) { h.leave(f, v, err) },
	})
	if err != nil {
		h.drop(f)
		session.Close(err)
		if errors.Is(err, webrtc.ErrOffer) {
			http.Error(w, fmt.Sprintf("%v; the stream has %s", err, codecs(tracks)), http.StatusNotAcceptable)
		} else {
			webrtc.RefuseOffer(w, err)
		}
		return nil, nil, errAnswered
	}
	v.attach(s)
	f.out.Add(s)
	return s, answer, nil
}

// count returns how many play the stream of a session, by whatever protocol.
func (h *Handler) count(s *webrtc.Session) int {
	of := s.Feed()
	h.mu.Lock()
	defer h.mu.Unlock()
	for st, f := range h.feeds {
		if &f.out.Feed != of {
			continue
		}
		if now := time.Now(); now.Sub(f.counted) >= countEvery {
			f.counted, f.count = now, 0
			for session := range h.Server.Hub.Sessions() {
				if info := session.Info(); info.Role == stream.RolePlay && info.Stream == st.Name() {
					f.count++
				}
			}
		}
		return f.count
	}
	return 0
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

// A viewer is one peer, and its session with the hub.
type viewer struct {
	session *stream.Session

	mu     sync.Mutex
	peer   *webrtc.Session
	kicked error
}

// kick ends the peer's session by somebody else's will.
func (v *viewer) kick(err error) {
	v.mu.Lock()
	v.kicked = err
	peer := v.peer
	v.mu.Unlock()
	if peer != nil {
		peer.Close()
	}
}

func (v *viewer) attach(s *webrtc.Session) {
	v.mu.Lock()
	v.peer = s
	kicked := v.kicked
	v.mu.Unlock()
	if kicked != nil {
		s.Close()
	}
}

// leave is the end of a viewer.
func (h *Handler) leave(f *feed, v *viewer, err error) {
	v.mu.Lock()
	peer, kicked := v.peer, v.kicked
	v.mu.Unlock()
	if peer != nil {
		f.out.Remove(peer)
		v.session.AddOut(int(peer.Stats().Bytes))
	}
	switch {
	case kicked != nil:
		err = kicked
	case errors.Is(err, webrtc.ErrHungUp):
		err = nil
	}
	v.session.Close(err)
	h.drop(f)
}
