package whep

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// A viewer is one peer, and its session with the hub.
type viewer struct {
	session *stream.Session

	mu     sync.Mutex
	peer   *webrtc.Session
	kicked error

	// guarded by Handler.mu
	source   *feed // of the published stream: its sound comes from there
	pictures *feed // where its pictures come from, from the next key frame on
	before   *feed // where they came from, until then; nil: from pictures
	gone     bool
	chosen   webrtc.Choice
	chooser  chooser
	since    time.Time // when before was to be left
	missed   time.Time // when what is chosen could not be had
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

// enter lets a viewer see and hear.
func (h *Handler) enter(v *viewer, s *webrtc.Session) {
	v.attach(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	if v.gone {
		return
	}
	if h.viewers == nil {
		h.viewers = make(map[*webrtc.Session]*viewer)
	}
	h.viewers[s] = v
	v.source.watchers[v] = struct{}{}
	v.source.out.Show(s, stream.Audio)
	v.pictures.out.Show(s, stream.Video)
}

// leave is the end of a viewer.
func (h *Handler) leave(v *viewer, err error) {
	v.mu.Lock()
	peer, kicked := v.peer, v.kicked
	v.mu.Unlock()
	switch {
	case kicked != nil:
		err = kicked
	case errors.Is(err, webrtc.ErrHungUp):
		err = nil
	}
	if peer != nil {
		v.session.AddOut(int(peer.Stats().Bytes))
	}
	v.session.Close(err)
	h.release(v, peer)
}

// release takes a viewer off its feeds.
func (h *Handler) release(v *viewer, peer *webrtc.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v.gone = true
	delete(h.viewers, peer)
	delete(v.source.watchers, v)
	for _, f := range []*feed{v.source, v.pictures, v.before} {
		if f != nil && peer != nil {
			f.out.Remove(peer)
		}
	}
	for _, f := range []*feed{v.pictures, v.before} {
		if f != nil && f != v.source {
			h.drop(f)
		}
	}
	h.drop(v.source)
}

// keyNeeded asks for a key frame of what a viewer sees, and of what it is to see.
func (h *Handler) keyNeeded(v *viewer) {
	h.mu.Lock()
	pictures, before := v.pictures, v.before
	h.mu.Unlock()
	pictures.stream.RequestKey()
	if before != nil {
		before.stream.RequestKey()
	}
}

// show has a viewer's pictures come from another feed, of which the caller has
// counted it as a user unless it is v.source. Called with h.mu held.
func (h *Handler) show(v *viewer, f *feed) {
	h.settle(v)
	switch now := v.pictures; {
	case f == now:
		h.unuse(v, f)
		return
	case f == v.before: // back
		h.unuse(v, f)
		v.pictures, v.before = f, nil
		h.unuse(v, now)
	case v.before != nil: // it has not come so far
		v.pictures = f
		h.unuse(v, now)
	default:
		v.pictures, v.before, v.since = f, now, time.Now()
	}
	f.out.Show(v.peer, stream.Video)
	go f.stream.RequestKey()
}

// settle lets go of the feed that a viewer's pictures do not come from any more.
// Called with h.mu held.
func (h *Handler) settle(v *viewer) {
	if v.before != nil && v.peer.Shows(stream.Video) != &v.before.out.Feed {
		before := v.before
		v.before = nil
		h.unuse(v, before)
	}
}

// unuse lets go of a feed of pictures. Called with h.mu held.
func (h *Handler) unuse(v *viewer, f *feed) {
	if f == v.source {
		return
	}
	if f != v.pictures && f != v.before {
		f.out.Remove(v.peer)
	}
	h.drop(f)
}

// adapt sees to it that the viewers of a stream get the layers that they want, or
// else those that their paths carry.
func (h *Handler) adapt(f *feed, now time.Time) {
	byCodec := make(map[stream.Codec][]rung)
	h.mu.Lock()
	defer h.mu.Unlock()
	for v := range f.watchers {
		codec := v.peer.Codec(stream.Video)
		if codec == 0 || v.gone {
			continue
		}
		h.settle(v)
		all, known := byCodec[codec]
		if !known {
			all = f.rungs(codec)
			byCodec[codec] = all
		}
		if len(all) == 1 && v.pictures == v.source {
			continue
		}
		h.consider(v, all, now)
	}
}

const (
	// missAgain is how long a layer that could not be had is not asked for again.
	missAgain = 5 * time.Second
	// turnTime is how long a layer's first key frame may take.
	turnTime = 10 * time.Second
)

// consider does what adapt says for one viewer. Called with h.mu held.
func (h *Handler) consider(v *viewer, all []rung, now time.Time) {
	is := func(name string) func(rung) bool {
		return func(r rung) bool { return r.RID == name }
	}
	if v.before != nil && now.Sub(v.since) > turnTime {
		v.missed = now
		if v.before != v.source {
			v.before.users++
		}
		h.show(v, v.before)
		return
	}
	if v.chosen.RID != "" {
		if i := slices.IndexFunc(all, is(v.chosen.RID)); i >= 0 && v.pictures.name != v.chosen.RID && now.Sub(v.missed) > missAgain {
			h.lead(v, &all[i], now)
		}
		return
	}
	if h.Fixed {
		h.show(v, v.source)
		return
	}
	some := fit(all, v.pictures.name, v.chosen.MaxWidth, v.chosen.MaxHeight)
	rates := make([]int64, len(some))
	for i := range some {
		rates[i] = some[i].Bitrate
		if i > 0 { // of a still picture the smaller may take more for a while
			rates[i] = min(rates[i], rates[i-1])
		}
	}
	at := slices.IndexFunc(some, is(v.pictures.name))
	to, probe := v.chooser.look(now, at, rates, v.peer.Stats())
	if to != at && now.Sub(v.missed) > missAgain {
		h.lead(v, &some[to], now)
	} else if probe > 0 {
		v.peer.Probe(probe, 2*lookEvery)
	}
}

// lead has a viewer see a rung. Called with h.mu held.
func (h *Handler) lead(v *viewer, r *rung, now time.Time) {
	if r.rendition == nil {
		h.show(v, v.source)
		return
	}
	f, err := h.rendition(v.source, r.rendition)
	if err != nil {
		v.missed = now
		return
	}
	h.show(v, f)
}

// lost has viewers of a rendition that has ended see the published pictures.
func (h *Handler) lost(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for v := range f.source.watchers {
		if v.pictures == f {
			v.missed = time.Now()
			h.show(v, v.source)
		}
	}
}

// layers tells a peer which there are.
func (h *Handler) layers(s *webrtc.Session) []webrtc.Layer {
	h.mu.Lock()
	v := h.viewers[s]
	h.mu.Unlock()
	if v == nil {
		return nil
	}
	var list []webrtc.Layer
	for _, r := range v.source.rungs(s.Codec(stream.Video)) {
		if r.idle {
			r.Bitrate = 0
		}
		list = append(list, r.Layer)
	}
	return list
}

// choose does what a peer wants.
func (h *Handler) choose(s *webrtc.Session, c webrtc.Choice) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.viewers[s]
	if v == nil {
		return false
	}
	all := v.source.rungs(s.Codec(stream.Video))
	if c.RID != "" && !slices.ContainsFunc(all, func(r rung) bool { return r.RID == c.RID }) {
		return false
	}
	v.chosen, v.missed = c, time.Time{}
	h.consider(v, all, time.Now())
	return true
}
