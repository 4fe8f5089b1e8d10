package deliver

import (
	"net/url"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/dash"
	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/stream"
)

// mpd answers with the manifest of DASH. Players fetch it again and again, with
// whatever they said who they are, so each time the authorizer is asked about
// those who are not known to play. The session is that of the address.
func (a *answer) mpd(path string) {
	if a.s.HLS.Disabled {
		a.refuse(stream.ErrNotFound)
		return
	}
	if !a.ask(path) {
		return
	}
	a.req.Protocol = "dash"
	text, grant, err := a.manifest()
	if err != nil {
		a.refuse(err)
		return
	}
	h := a.w.Header()
	h.Set("Content-Type", dash.ContentType)
	if individual(grant, a.req) {
		h.Set("Cache-Control", "private, no-cache")
	} else {
		h.Set("Cache-Control", "public, max-age=1")
	}
	a.send(text)
}

func (a *answer) manifest() ([]byte, *auth.Grant, error) {
	s, ctx := a.s, a.r.Context()
	who := whoIs(a.r, a.req)
	v := s.hls.lookup(who)
	if v != nil && v.refused() {
		return nil, nil, errBarred // a kick counts until it is forgotten
	}
	if v != nil {
		a.req.Session = v.info.ID
	}
	right, err := a.permit() // tokens are part of each request
	if err != nil {
		return nil, nil, err
	}
	run, err := s.findHLS(ctx, a.req.Stream)
	if err != nil {
		return nil, nil, err
	}
	if v == nil {
		v = s.newViewer(a.r, a.req, right, false)
		if err := s.hls.remember(v); err != nil {
			return nil, nil, err
		}
	}
	if err := v.begin(); err != nil {
		return nil, nil, err
	}
	defer v.end()
	run.ladder.await(ctx)
	text, err := run.mpd.MPD(ctx, a.req.Remote.Addr(), time.Now())
	v.idle.Store(int64(max(firstIdle, 3*run.pack.View(hls.Video).TargetDuration)))
	return text, right.Grant, err
}

// mediaBase is what leads from NAME.mpd to media.
func mediaBase(name string) string { return "./" + url.PathEscape(name) + hlsDir }
