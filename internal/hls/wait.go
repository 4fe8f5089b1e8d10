package hls

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// Errors of requests, beside stream.ErrNotFound, stream.ErrUnsupported and
// what a context ends with.
var (
	ErrBadRequest = errors.New("hls: bad request")          // absurd directives: 400
	ErrTimeout    = errors.New("hls: not in time")          // waited for three target durations: 503
	ErrWaiters    = errors.New("hls: too many are waiting") // 503, or 429
)

// Directives are the Delivery Directives of a media playlist request (bis 6.2.5).
// The zero value asks for the playlist as it is.
type Directives struct {
	Block bool // wait until segment MSN, and with Part its Part-th partial segment, is listed
	Part  bool
	Skip  bool // a Playlist Delta Update will do

	MSN       uint64
	PartIndex uint64
}

// maxQuery bounds the queries that are looked at, bytes.
const maxQuery = 4096

// ParseDirectives reads the directives from a raw URL query; other parameters are
// ignored. The error is ErrBadRequest for a directive that is given twice or is
// malformed, and for a part without a segment (bis 6.2.5.2).
func ParseDirectives(rawQuery string) (d Directives, err error) {
	if len(rawQuery) > maxQuery {
		return Directives{}, fmt.Errorf("%w: query of %d bytes", ErrBadRequest, len(rawQuery))
	}
	for rawQuery != "" {
		var pair string
		pair, rawQuery, _ = strings.Cut(rawQuery, "&")
		key, value, _ := strings.Cut(pair, "=")
		ok := true
		switch key {
		case "_HLS_msn":
			ok = !d.Block
			if d.MSN, d.Block = parseNumber(value); !d.Block {
				ok = false
			}
		case "_HLS_part":
			ok = !d.Part
			if d.PartIndex, d.Part = parseNumber(value); !d.Part {
				ok = false
			}
		case "_HLS_skip":
			ok = !d.Skip && (value == "YES" || value == "v2")
			d.Skip = true
		}
		if !ok {
			return Directives{}, fmt.Errorf("%w: %.40q", ErrBadRequest, pair)
		}
	}
	if d.Part && !d.Block {
		return Directives{}, fmt.Errorf("%w: _HLS_part without _HLS_msn", ErrBadRequest)
	}
	return d, nil
}

// Playlist waits as Wait does, and returns the rendition's media playlist.
func (p *Packager) Playlist(ctx context.Context, r Rendition, d Directives, who netip.Addr) (*Playlist, error) {
	if err := p.Wait(ctx, r, d, who); err != nil {
		return nil, err
	}
	return p.out[r].snap.Load().page(d.Skip), nil
}

// Wait blocks until the rendition's media playlist can answer d (bis 6.2.5.2), but
// not for a playlist that has ended. A stream that has just begun has none before
// its first segment is complete, which is waited for too. Asking for TS starts
// that rendition.
//
// who is the address that the request is counted for; with the zero Addr it is
// counted for the stream only. The error is ErrBadRequest for what is too far in
// the future, ErrTimeout after three target durations, ErrWaiters if too many
// wait already, stream.ErrNotFound for a rendition that the stream does not have,
// stream.ErrUnsupported for one that cannot carry its codecs, and ctx's error when
// that ends.
func (p *Packager) Wait(ctx context.Context, r Rendition, d Directives, who netip.Addr) error {
	return p.wait(ctx, r, wish{Directives: d}, who)
}

// wait blocks until there is what is wished, or it is known that it will not be.
func (p *Packager) wait(ctx context.Context, r Rendition, what wish, who netip.Addr) error {
	for {
		if ok, err := p.has(r, what); ok || err != nil {
			return err
		}
		woken := make(chan struct{})
		w, err := p.await(r, what, who, func() { close(woken) })
		if w == nil {
			return err
		}
		timer := time.NewTimer(p.Patience())
		select {
		case <-woken:
		case <-ctx.Done():
			w.Stop()
			err = ctx.Err()
		case <-timer.C:
			w.Stop()
			err = ErrTimeout
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

// Await is Wait without blocking. If there is nothing to wait for, or it is in
// vain, it returns no Waiter, and why it is in vain. Else it calls wake, once, when
// that has changed: Playlist does not block then. wake must not block, for it is
// the goroutine that packages that calls it. Who gives up, after Patience at the
// latest, stops the Waiter.
func (p *Packager) Await(r Rendition, d Directives, who netip.Addr, wake func()) (*Waiter, error) {
	return p.await(r, wish{Directives: d}, who, wake)
}

// Ready reports whether Wait would not block, or its error.
func (p *Packager) Ready(r Rendition, d Directives) (bool, error) {
	return p.has(r, wish{Directives: d})
}

func (p *Packager) await(r Rendition, what wish, who netip.Addr, wake func()) (*Waiter, error) {
	if ok, err := p.has(r, what); ok || err != nil {
		return nil, err
	}
	snap := &p.out[r].snap
	w := &Waiter{table: &p.waiters, r: r, who: who, wish: what, wake: wake}
	return w.enter(snap)
}

// has reports whether there is what is wished of a rendition, or why there never
// will be.
func (p *Packager) has(r Rendition, what wish) (bool, error) {
	if r >= renditions {
		return false, stream.ErrNotFound
	}
	if r == TS && p.cfg.TS != nil && !p.wantTS.Load() {
		p.wantTS.Store(true)
	}
	return what.granted(p.out[r].snap.Load())
}

// A wish is what a request waits for.
type wish struct {
	Directives        // of a playlist
	part       uint64 // or the number of a part
	media      bool   // the latter
}

func (w *wish) granted(s *snapshot) (bool, error) {
	if w.media {
		return s.hasPart(w.part)
	}
	return s.answers(w.Directives)
}

// Patience is how long a request is held back at most: three target durations
// (bis 6.2.5.2), or what the first segment may take.
func (p *Packager) Patience() time.Duration {
	conf := p.conf.Load()
	if conf == nil {
		return p.cfg.MaxSegment + p.cfg.Segment
	}
	return 3 * time.Duration(conf.target) * time.Second
}

// there reports whether there is a playlist, or why there will be none.
func (s *snapshot) there() (ok bool, err error) {
	switch {
	case s.conf != nil && s.live && len(s.segs) > 0:
		return true, nil
	case s.err != nil && !s.live:
		return false, s.err
	case s.r == TS && s.p.cfg.TS == nil, s.ended:
		return false, stream.ErrNotFound
	case s.conf != nil && !s.live && s.r != TS:
		return false, stream.ErrNotFound
	}
	return false, nil
}

// answers reports whether a request with d can be answered, or why it never will.
func (s *snapshot) answers(d Directives) (bool, error) {
	if ok, err := s.there(); !ok {
		return false, err
	}
	if !d.Block || s.ended {
		return true, nil
	}
	seq, parts := s.next()
	msn, index := d.MSN, d.PartIndex
	byPart := d.Part && s.listsParts()
	if msn > seq+1 { // the last segment has seq-1
		return false, fmt.Errorf("%w: segment %d, and the last is %d", ErrBadRequest, msn, int64(seq)-1)
	}
	if byPart {
		if msn+1 == seq {
			if last := s.find(msn); last != nil && index >= uint64(len(last.Parts)) {
				msn, index = seq, 0 // beyond the last part is the first of the next
			}
		}
		ahead := index + 1
		if msn == seq {
			ahead -= min(ahead, uint64(parts))
		}
		if msn >= seq && ahead > s.advanceLimit() {
			return false, fmt.Errorf("%w: part %d of segment %d", ErrBadRequest, index, msn)
		}
	}
	return msn < seq || byPart && msn == seq && index < uint64(parts), nil
}

// advanceLimit is the Advance Part Limit of bis 6.2.5.2.
func (s *snapshot) advanceLimit() uint64 {
	if s.partTarget <= 0 || s.partTarget >= time.Second {
		return 3
	}
	return uint64(math.Ceil(3 / s.partTarget.Seconds()))
}
