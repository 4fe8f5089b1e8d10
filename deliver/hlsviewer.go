package deliver

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/admission"
	"github.com/runnel-media/runnel/stream"
)

// An hlsViewer is somebody who reloads playlists. An individual one has a token
// in the path of its playlists; others are told apart by address and
// User-Agent, so that all of them share URLs, which caches like.
//
// A viewer has a session as long as it comes back in time. One that does not is
// remembered for a while without, for it may only have paused.
type hlsViewer struct {
	server  *Server
	right   *admission.Right
	who     hlsWho
	id      string // in the token; "" for those without
	info    stream.SessionInfo
	expires time.Time // zero: never

	active atomic.Int32                  // requests that are being answered
	last   atomic.Int64                  // when the last one was answered, Unix ns
	idle   atomic.Int64                  // how long it may stay away, ns
	barred atomic.Bool                   // its requests are refused
	moved  atomic.Pointer[auth.Redirect] // to where; only of one that is barred

	session atomic.Pointer[stream.Session]
	mu      sync.Mutex // opens and closes session
}

// hlsWho tells viewers apart who have no token.
type hlsWho struct {
	stream string
	addr   netip.Addr
	agent  uint64
}

var agentSeed = maphash.MakeSeed()

func whoIs(r *http.Request, req *auth.Request) hlsWho {
	return hlsWho{req.Stream, req.Remote.Addr(), maphash.String(agentSeed, r.UserAgent())}
}

const (
	// maxViewers bounds the viewers that are remembered.
	maxViewers = 200_000
	// dormancy is how long a viewer is remembered that stays away.
	dormancy = 10 * time.Minute
	// firstIdle is how long a viewer may take to its first playlist.
	firstIdle = 10 * time.Second
)

// newViewer makes a viewer of a grant. It is not remembered yet.
func (s *Server) newViewer(r *http.Request, req *auth.Request, right *admission.Right, individual bool) *hlsViewer {
	grant := right.Grant
	v := &hlsViewer{server: s, right: right, who: whoIs(r, req), expires: grant.Expires, info: stream.SessionInfo{
		ID:       req.Session,
		Role:     stream.RolePlay,
		Protocol: req.Protocol,
		Stream:   req.Stream,
		User:     grant.User,
		Remote:   req.Remote,
		Labels:   grant.Labels,
		VHost:    req.VHost,
		App:      req.App,
		Name:     req.Name,
		RawQuery: req.RawQuery,
		TCURL:    req.TCURL,
		PageURL:  req.PageURL,
	}}
	if individual {
		v.id = rand.Text()
		if v.expires.IsZero() {
			v.expires = time.Now().Add(s.HLS.tokenLife())
		}
	}
	v.idle.Store(int64(firstIdle))
	v.last.Store(time.Now().UnixNano())
	return v
}

// remember enters a viewer into the table. Beyond maxViewers individuals, whose
// tokens would be worth nothing, are refused.
func (t *hlsTable) remember(v *hlsViewer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return ErrServerClosed
	case len(t.tokens)+len(t.shared) >= maxViewers:
		if v.id != "" {
			return errFull
		}
		return nil
	case v.id == "":
		if t.shared == nil {
			t.shared = make(map[hlsWho]*hlsViewer)
		}
		t.shared[v.who] = v
		return nil
	}
	if t.tokens == nil {
		t.tokens = make(map[string]*hlsViewer)
		t.recent = make(map[hlsWho]*hlsViewer)
	}
	t.tokens[v.id] = v
	t.recent[v.who] = v
	return nil
}

// forget is called with the table locked.
func (t *hlsTable) forget(v *hlsViewer) {
	if v.id == "" {
		if t.shared[v.who] == v {
			delete(t.shared, v.who)
		}
		return
	}
	delete(t.tokens, v.id)
	if t.recent[v.who] == v {
		delete(t.recent, v.who)
	}
}

// fetcher returns the session to which media is counted that is sent to
// somebody who need not say who it is, nil if it is nobody's that is known.
func (t *hlsTable) fetcher(who hlsWho) *stream.Session {
	t.mu.RLock()
	defer t.mu.RUnlock()
	v := t.recent[who]
	if v == nil {
		v = t.shared[who]
	}
	if v == nil {
		return nil
	}
	return v.session.Load()
}

// errBarred refuses a viewer who was thrown out, whose time is over, or whose
// token is worth nothing. Another question would not help: 403.
var errBarred = fmt.Errorf("deliver: viewer is barred: %w", auth.ErrDenied)

// begin counts a request, which must be ended if the error is nil.
func (v *hlsViewer) begin() error {
	if v.refused() {
		if to := v.moved.Load(); to != nil {
			return to
		}
		return errBarred
	}
	v.active.Add(1)
	if v.session.Load() != nil {
		return nil
	}
	if err := v.open(); err != nil {
		v.active.Add(-1)
		return err
	}
	return nil
}

func (v *hlsViewer) end() {
	v.last.Store(time.Now().UnixNano())
	v.active.Add(-1)
}

// refused reports whether the viewer was thrown out, or its time is over.
func (v *hlsViewer) refused() bool {
	return v.barred.Load() || !v.expires.IsZero() && !time.Now().Before(v.expires)
}

func (v *hlsViewer) open() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.session.Load() != nil {
		return nil
	}
	if v.barred.Load() {
		return errBarred
	}
	if err := v.server.room(); err != nil {
		return err
	}
	if err := v.right.Enter(); err != nil {
		return err
	}
	v.server.hls.started.Add(1)
	session := v.server.Hub.OpenSession(v.info, v.bar)
	v.session.Store(session)
	v.right.Hold(session)
	return nil
}

// bar refuses the viewer from now on. One that is to go to another server, and
// whose playlists are where everybody's are, finds them there.
func (v *hlsViewer) bar(err error) {
	var to *auth.Redirect
	if v.id == "" && errors.As(err, &to) {
		v.moved.Store(to)
	}
	v.barred.Store(true)
	v.close(err)
}

func (v *hlsViewer) close(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.session.Swap(nil); s != nil {
		v.server.hls.started.Add(-1)
		s.Close(err)
	}
}

// sweep closes the session of a viewer who stays away, and reports whether it can
// be forgotten.
func (v *hlsViewer) sweep(now time.Time) (forget bool) {
	if !v.expires.IsZero() && !now.Before(v.expires) {
		v.bar(auth.ErrDenied)
		return v.active.Load() == 0
	}
	away := now.Sub(time.Unix(0, v.last.Load()))
	if v.active.Load() > 0 || away <= time.Duration(v.idle.Load()) {
		return false
	}
	v.close(nil)
	// Who has no token and was not thrown out can begin anew at any time.
	return away > dormancy || v.id == "" && !v.barred.Load()
}

// Tokens are ID "." EXPIRY "." MAC: the viewer's ID, when it expires in Unix
// seconds, and a keyed hash of both and of the stream.

const macSize = 16

func (t *hlsTable) mac(id, expiry, stream string) string {
	t.mu.Lock()
	if t.key == nil {
		t.key = make([]byte, sha256.Size)
		_, _ = rand.Read(t.key) // never fails
	}
	key := t.key
	t.mu.Unlock()
	h := hmac.New(sha256.New, key)
	h.Write([]byte(id + "." + expiry + "." + stream))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:macSize])
}

// token returns what goes into the path of an individual viewer's playlists.
func (v *hlsViewer) token() string {
	expiry := strconv.FormatInt(v.expires.Unix(), 10)
	return v.id + "." + expiry + "." + v.server.hls.mac(v.id, expiry, v.info.Stream)
}

// viewer returns the viewer of a token, for the stream with the given path, or
// nil if the token is forged, has expired or is long unused.
func (t *hlsTable) viewer(token, path string) *hlsViewer {
	if len(token) > 100 {
		return nil
	}
	id, rest, _ := strings.Cut(token, ".")
	expiry, mac, _ := strings.Cut(rest, ".")
	t.mu.RLock()
	v := t.tokens[id]
	t.mu.RUnlock()
	if v == nil || !underPath(v.info.Stream, path) ||
		!hmac.Equal([]byte(mac), []byte(t.mac(id, expiry, v.info.Stream))) {
		return nil
	}
	if at, err := strconv.ParseInt(expiry, 10, 64); err != nil || time.Now().Unix() > at {
		return nil
	}
	return v
}

// underPath reports whether a hub key is that of a path, in whatever virtual
// host.
func underPath(key, path string) bool {
	vhost, ok := strings.CutSuffix(key, path)
	return ok && (vhost == "" || strings.HasSuffix(vhost, "/") && strings.Count(vhost, "/") == 1)
}
