package hls

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync"
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
	return p.wait(ctx, r, who, func(s *snapshot) (<-chan struct{}, error) { return s.answers(d) })
}

// wait blocks until ready gives no channel to wait on.
func (p *Packager) wait(ctx context.Context, r Rendition, who netip.Addr, ready func(*snapshot) (<-chan struct{}, error)) error {
	if r >= renditions {
		return stream.ErrNotFound
	}
	if r == TS && p.cfg.TS != nil && !p.wantTS.Load() {
		p.wantTS.Store(true)
	}
	o := p.out[r]
	s := o.snap.Load()
	more, err := ready(s)
	if more == nil || err != nil {
		return err
	}
	if !p.waiters.enter(who) {
		return ErrWaiters
	}
	defer p.waiters.leave(who)
	o.waiting.Add(1)
	defer o.waiting.Add(-1)
	timer := time.NewTimer(s.patience())
	defer timer.Stop()
	for {
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return ErrTimeout
		}
		if more, err = ready(o.snap.Load()); more == nil || err != nil {
			return err
		}
	}
}

// patience is how long a request is held back: three target durations (bis
// 6.2.5.2), or what the first segment may take.
func (s *snapshot) patience() time.Duration {
	if s.conf == nil {
		return s.p.cfg.MaxSegment + s.p.cfg.Segment
	}
	return 3 * time.Duration(s.conf.target) * time.Second
}

// there reports whether there is a playlist, or else what to wait for.
func (s *snapshot) there() (ok bool, more <-chan struct{}, err error) {
	switch {
	case s.conf != nil && s.live && len(s.segs) > 0:
		return true, nil, nil
	case s.err != nil && !s.live:
		return false, nil, s.err
	case s.r == TS && s.p.cfg.TS == nil, s.ended:
		return false, nil, stream.ErrNotFound
	case s.conf != nil && !s.live && s.r != TS:
		return false, nil, stream.ErrNotFound
	}
	return false, s.segment, nil
}

// answers reports what a request with d has to wait for, nil if for nothing.
func (s *snapshot) answers(d Directives) (<-chan struct{}, error) {
	ok, more, err := s.there()
	if !ok {
		return more, err
	}
	if !d.Block || s.ended {
		return nil, nil
	}
	seq, parts := s.next()
	msn, index := d.MSN, d.PartIndex
	byPart := d.Part && s.listsParts()
	if msn > seq+1 { // the last segment has seq-1
		return nil, fmt.Errorf("%w: segment %d, and the last is %d", ErrBadRequest, msn, int64(seq)-1)
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
			return nil, fmt.Errorf("%w: part %d of segment %d", ErrBadRequest, index, msn)
		}
	}
	switch {
	case msn < seq:
		return nil, nil
	case !byPart:
		return s.segment, nil
	case msn == seq && index < uint64(parts):
		return nil, nil
	}
	return s.update, nil
}

// advanceLimit is the Advance Part Limit of bis 6.2.5.2.
func (s *snapshot) advanceLimit() uint64 {
	if s.partTarget <= 0 || s.partTarget >= time.Second {
		return 3
	}
	return uint64(math.Ceil(3 / s.partTarget.Seconds()))
}

// waiters counts the requests that are held back.
type waiters struct {
	max, maxPerAddr int

	mu      sync.Mutex
	total   int
	perAddr map[netip.Addr]int
}

func (w *waiters) enter(who netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.max > 0 && w.total >= w.max {
		return false
	}
	if w.maxPerAddr > 0 && who.IsValid() {
		if w.perAddr[who] >= w.maxPerAddr {
			return false
		}
		if w.perAddr == nil {
			w.perAddr = make(map[netip.Addr]int)
		}
		w.perAddr[who]++
	}
	w.total++
	return true
}

func (w *waiters) leave(who netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.total--
	if n, ok := w.perAddr[who]; ok {
		if n == 1 {
			delete(w.perAddr, who)
		} else {
			w.perAddr[who] = n - 1
		}
	}
}

func (w *waiters) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}
