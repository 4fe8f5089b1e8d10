package deliver

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/admission"
	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/internal/name"
	"github.com/runnel-media/runnel/stream"
)

const (
	hlsDir     = "/_hls/"
	hlsShared  = "live"  // in the place of a token, for viewers who have none
	hlsOnVHost = "live-" // and of those of a virtual host; its name follows
)

// serveHLS answers requests for what is packaged, and reports whether r is one.
// It is a GET or HEAD.
func (s *Server) serveHLS(w http.ResponseWriter, r *http.Request) bool {
	path, below, ok := strings.Cut(r.URL.Path, hlsDir)
	if ok {
		a := s.newAnswer(w, r)
		if s.HLS.Disabled {
			a.refuse(stream.ErrNotFound)
			return true
		}
		dir, file, _ := strings.Cut(below, "/")
		switch _, playlist := hls.ParsePlaylistName(file); {
		case playlist || strings.HasSuffix(file, ".key"):
			a.underToken(path, dir, file)
		default:
			a.media(path, dir, file)
		}
		return true
	}
	if path, ok = strings.CutSuffix(r.URL.Path, ".m3u8"); ok {
		s.newAnswer(w, r).multivariant(path)
		return true
	}
	if path, ok = strings.CutSuffix(r.URL.Path, ".mpd"); ok {
		s.newAnswer(w, r).mpd(path)
		return true
	}
	return false
}

// An answer is a request for HLS or DASH and its response.
type answer struct {
	s   *Server
	w   http.ResponseWriter
	r   *http.Request
	rc  *http.ResponseController
	req *auth.Request
}

// newAnswer lifts the bounds that the host's server has for a request: some
// wait for media.
func (s *Server) newAnswer(w http.ResponseWriter, r *http.Request) *answer {
	a := &answer{s: s, w: w, r: r, rc: http.NewResponseController(w)}
	_ = a.rc.SetReadDeadline(time.Time{})
	_ = a.rc.SetWriteDeadline(time.Time{})
	h := w.Header()
	if s.AllowOrigin != "-" {
		h.Set("Access-Control-Expose-Headers", "Content-Length, Content-Range, Date, ETag")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	return a
}

// ask fills in the question to the authorizer.
func (a *answer) ask(path string) bool {
	var err error
	if a.req, err = httpRequest(a.r, path); err != nil {
		a.fail(http.StatusBadRequest, "bad stream name")
		return false
	}
	a.req.Protocol = "hls"
	return true
}

// permit asks the authorizer. A session that is there already is named by the
// request.
func (a *answer) permit() (*admission.Right, error) {
	if a.req.Session == "" {
		a.req.Session = rand.Text()
	}
	return a.s.door().Ask(a.r.Context(), a.req)
}

// admit asks whether a viewer may play, and finds what is packaged.
func (a *answer) admit(path string) (*admission.Right, *hlsRun, bool) {
	s := a.s
	if s.HLS.Disabled {
		a.refuse(stream.ErrNotFound)
		return nil, nil, false
	}
	if !a.ask(path) {
		return nil, nil, false
	}
	right, err := a.permit()
	if err == nil {
		err = s.room()
	}
	var run *hlsRun
	if err == nil {
		run, err = s.findHLS(a.r.Context(), a.req.Stream)
	}
	if err != nil {
		a.refuse(err)
		return nil, nil, false
	}
	return right, run, true
}

// multivariant answers the request that playing begins with. Those who said who
// they are, or whose grant ends, get playlists of their own.
func (a *answer) multivariant(path string) {
	right, run, ok := a.admit(path)
	if !ok {
		return
	}
	s, ctx := a.s, a.r.Context()
	alone := individual(right.Grant, a.req)
	v := s.newViewer(a.r, a.req, right, alone)
	known := s.hls.lookup(v.who)
	if alone || known != nil && known.refused() {
		known = nil
	}
	if known != nil {
		v = known // it does not count twice
	}
	if err := v.begin(); err != nil {
		a.refuse(err)
		return
	}
	defer v.end()
	run.ladder.await(ctx)
	q := a.r.URL.Query()
	o := hls.MultivariantOptions{TS: q.Get("format") == "ts", AudioOnly: q.Has("audio-only"), AudioVariant: q.Has("audio-variant")}
	o.Prefix = playlistPrefix(a.req, v)
	who := a.req.Remote.Addr()
	text, err := run.pack.Multivariant(ctx, who, o)
	if errors.Is(err, stream.ErrUnsupported) && !o.TS {
		o.TS = true
		text, err = run.pack.Multivariant(ctx, who, o)
	}
	if err == nil && known == nil {
		err = s.hls.remember(v)
	}
	if err != nil {
		if known == nil {
			v.close(err)
		}
		a.refuse(err)
		return
	}
	h := a.w.Header()
	h.Set("Content-Type", hls.PlaylistType)
	if alone {
		h.Set("Cache-Control", "private, no-store")
	} else {
		h.Set("Cache-Control", "public, max-age=1")
	}
	a.send(text)
}

// individual reports whether what a viewer gets is to be for it alone: it said
// who it is, or what it may do ends.
func individual(grant *auth.Grant, r *auth.Request) bool {
	return grant.User != "" || !grant.Expires.IsZero() || r.Token != "" || r.User != "" ||
		r.TLS != nil && len(r.TLS.PeerCertificates) > 0
}

// playlistPrefix is what leads from NAME.m3u8 to a viewer's playlists.
func playlistPrefix(req *auth.Request, v *hlsViewer) string {
	dir := hlsShared
	switch {
	case v.id != "":
		dir = v.token()
	case req.VHost != "":
		dir = hlsOnVHost + base64.RawURLEncoding.EncodeToString([]byte(req.VHost))
	}
	return "./" + url.PathEscape(req.Name) + hlsDir + dir + "/"
}

// underToken answers what only those get who may play.
func (a *answer) underToken(path, dir, file string) {
	v, err := a.viewer(path, dir)
	if a.req == nil {
		return // it has been answered
	}
	if err == nil {
		err = v.begin()
	}
	if err != nil {
		a.refuse(err)
		return
	}
	defer v.end()
	run, err := a.s.findHLS(a.r.Context(), v.info.Stream)
	if err == nil {
		run.touch()
		if r, ok := hls.ParsePlaylistName(file); ok {
			err = a.playlist(v, run, r)
		} else {
			err = a.key(run, file)
		}
	}
	if err != nil {
		a.refuse(err)
	}
}

// viewer finds out who asks.
func (a *answer) viewer(path, dir string) (*hlsViewer, error) {
	s := a.s
	if !a.ask(path) {
		return nil, nil
	}
	if dir != hlsShared && !strings.HasPrefix(dir, hlsOnVHost) {
		v := s.hls.viewer(dir, a.req.Stream)
		if v == nil {
			return nil, errBarred
		}
		return v, nil
	}
	if dir != hlsShared {
		vhost, err := base64.RawURLEncoding.DecodeString(dir[len(hlsOnVHost):])
		if err == nil {
			a.req.VHost = string(vhost)
			a.req.Stream, err = name.Join(a.req.VHost, a.req.App, a.req.Name)
		}
		if err != nil {
			return nil, stream.ErrNotFound
		}
	}
	if v := s.hls.lookup(whoIs(a.r, a.req)); v != nil {
		return v, nil
	}
	// Who comes past NAME.m3u8, or through a cache, has not been asked yet.
	right, err := a.permit()
	if err != nil {
		return nil, err
	}
	if _, err := s.findHLS(a.r.Context(), a.req.Stream); err != nil {
		return nil, err
	}
	v := s.newViewer(a.r, a.req, right, false)
	return v, s.hls.remember(v)
}

// lookup returns the viewer without a token that comes from there, or nil.
func (t *hlsTable) lookup(who hlsWho) *hlsViewer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.shared[who]
}

func (a *answer) playlist(v *hlsViewer, run *hlsRun, r hls.Rendition) error {
	d, err := hls.ParseDirectives(a.r.URL.RawQuery)
	if err != nil {
		return err
	}
	if ok, err := run.pack.Ready(r, d); !ok && err == nil && a.park(v, run, r, d) {
		return nil
	}
	return a.reload(v, run, r, d)
}

// reload answers with a media playlist that can answer d, now or later.
func (a *answer) reload(v *hlsViewer, run *hlsRun, r hls.Rendition, d hls.Directives) error {
	p, err := run.pack.Playlist(a.r.Context(), r, d, a.req.Remote.Addr())
	if err != nil {
		return err
	}
	if err := a.s.room(); errors.Is(err, ErrServerClosed) {
		return err // and that the playlist has ended is not true
	}
	if v.refused() {
		return errBarred // by now
	}
	v.idle.Store(int64(3*p.TargetDuration + time.Second))
	h := a.w.Header()
	h.Set("Content-Type", hls.PlaylistType)
	h.Set("Cache-Control", playlistCaching(v, p, d))
	h.Set("Vary", "Accept-Encoding")
	text, etag := p.Text, p.ETag
	if acceptsGzip(a.r) {
		text, etag = p.Gzip(), strings.TrimSuffix(etag, `"`)+`-gz"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", etag)
	if matches(a.r.Header.Get("If-None-Match"), etag) {
		h.Del("Content-Encoding")
		a.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	a.send(text)
	return nil
}

// playlistCaching is what bis appendix B recommends of playlists that all share:
// what a blocking reload got is good for six target durations, as its URL is
// asked for once, and others for half of one.
func playlistCaching(v *hlsViewer, p *hls.Playlist, d hls.Directives) string {
	switch target := int(p.TargetDuration / time.Second); {
	case v.id != "" || !v.expires.IsZero():
		return "private, no-cache"
	case d.Block:
		return "public, max-age=" + strconv.Itoa(6*target)
	default:
		return "public, max-age=" + strconv.Itoa(max(1, target/2))
	}
}

func (a *answer) key(run *hlsRun, file string) error {
	k, err := run.pack.Key(file)
	if err != nil {
		return err
	}
	h := a.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "private, no-store")
	a.send(k.Bytes[:])
	return nil
}

// send writes a small body.
func (a *answer) send(body []byte) {
	a.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	a.deadline(int64(len(body)))
	a.w.WriteHeader(http.StatusOK)
	if a.r.Method != http.MethodHead {
		_, _ = a.w.Write(body)
	}
}

// deadline bounds how long a body may take, so that who does not read cannot
// keep the media alive that it was to be sent: StallTimeout and what 64 KiB a
// second need.
func (a *answer) deadline(size int64) {
	d := orDefault(a.s.StallTimeout, 10*time.Second) + time.Duration(size)*time.Second/(64<<10)
	_ = a.rc.SetWriteDeadline(time.Now().Add(d))
}

// fail answers with an error.
func (a *answer) fail(status int, text string) {
	a.w.Header().Set("Cache-Control", "no-store")
	http.Error(a.w, text, status)
}

// refuse is the table from errors to statuses, for what Server.refuse does not
// know.
func (a *answer) refuse(err error) {
	if a.r.Context().Err() != nil {
		return // it has gone
	}
	h := a.w.Header()
	h.Set("Cache-Control", "no-store")
	a.deadline(0)
	switch {
	case errors.Is(err, hls.ErrBadRequest):
		a.fail(http.StatusBadRequest, "bad delivery directives")
	case errors.Is(err, hls.ErrTimeout):
		h.Set("Retry-After", "1")
		a.fail(http.StatusServiceUnavailable, "not in time")
	case errors.Is(err, hls.ErrWaiters):
		h.Set("Retry-After", "1")
		a.fail(http.StatusTooManyRequests, "too many are waiting")
	case errors.Is(err, errBarred):
		a.fail(http.StatusForbidden, "not allowed")
	case a.req == nil:
		a.fail(http.StatusNotFound, "not found")
	default:
		a.s.refuse(a.w, a.r, a.req, err)
	}
}

// acceptsGzip reports whether the Accept-Encoding header has gzip.
func acceptsGzip(r *http.Request) bool {
	for _, v := range r.Header.Values("Accept-Encoding") {
		for v != "" {
			var coding string
			coding, v, _ = strings.Cut(v, ",")
			coding, q, _ := strings.Cut(coding, ";")
			if coding = strings.TrimSpace(coding); !strings.EqualFold(coding, "gzip") && coding != "*" {
				continue
			}
			weight, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(q), "q="), 64)
			return err != nil || weight > 0
		}
	}
	return false
}

// matches reports whether an If-None-Match header names the entity tag.
func matches(header, etag string) bool {
	for header != "" {
		var tag string
		tag, header, _ = strings.Cut(header, ",")
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == etag || tag == "*" {
			return true
		}
	}
	return false
}
