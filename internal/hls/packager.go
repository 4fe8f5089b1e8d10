package hls

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Packager makes HLS of the frames of one stream. Add, SetTracks and End are
// for one goroutine, the one that reads the stream; all other methods are for
// any number of goroutines. Readers take no lock: what there is at a moment is
// an immutable snapshot for each rendition, and a new part is a new snapshot.
type Packager struct {
	cfg    Config
	secret string
	tag    string // begins every ETag, tells this Packager's from those of another
	out    [renditions]*output

	conf    atomic.Pointer[control] // set once playlists can be given out
	wantTS  atomic.Bool
	waiters waiters
	gzips   sync.Pool // of *gzip.Writer
	bytes   atomic.Int64
	dropped atomic.Uint64

	cutter
}

// control is what playlists say of the whole presentation. All media playlists
// must agree on it (bis 6.2.4).
type control struct {
	target       int           // EXT-X-TARGETDURATION, seconds
	partHoldBack time.Duration // PART-HOLD-BACK; 0: the presentation has no parts
}

// New returns a Packager for one stream. It starts no goroutine and needs no
// closing.
func New(c Config) *Packager {
	p := &Packager{cfg: c.withDefaults()}
	var random [20]byte
	_, _ = rand.Read(random[:]) // never fails
	p.secret = strings.ToLower(base32.StdEncoding.EncodeToString(random[:15]))
	p.tag = hex.EncodeToString(random[15:])
	p.waiters = waiters{max: p.cfg.MaxWaiters, maxPerAddr: p.cfg.MaxWaitersPerAddr}
	p.wantTS.Store(p.cfg.TSAlways)
	for r := range renditions {
		o := &output{p: p, r: r}
		if r == TS {
			o.pack = &tsPacker{output: o}
		} else {
			o.pack = &cmafPacker{output: o}
		}
		p.out[r] = o
		o.publish()
	}
	p.cutter = cutter{p: p, nextSeq: p.cfg.FirstSequence, firstSeq: p.cfg.FirstSequence, discSeq: p.cfg.FirstDiscontinuity}
	return p
}

// Secret returns the path segment that the names of media begin with.
func (p *Packager) Secret() string { return p.secret }

// Stats is what a Packager holds and does at a moment.
type Stats struct {
	Bytes   int64  // of media in memory
	Waiters int    // requests that are held back
	Dropped uint64 // frames that could not be placed on the timeline, or decoded
}

// Stats returns the current figures.
func (p *Packager) Stats() Stats {
	return Stats{Bytes: p.bytes.Load(), Waiters: p.waiters.count(), Dropped: p.dropped.Load()}
}

// A View is a rendition as it is at a moment: what another manifest, such as
// DASH's MPD, is made of.
type View struct {
	Track          *stream.Track // CMAF only
	Init           *Init         // CMAF only: the newest
	Segments       []*Segment    // complete ones in the window, oldest first; not to be modified
	TargetDuration time.Duration
	Bandwidth      int  // bits a second of the densest segment
	Average        int  // bits a second over the window
	Ended          bool // nothing will be added
}

// View returns what there is of a rendition. It has no Segments while there is
// none or the stream does not have such a rendition; it never blocks.
func (p *Packager) View(r Rendition) View {
	if r >= renditions {
		return View{}
	}
	s := p.out[r].snap.Load()
	v := View{Segments: s.listed(), Ended: s.ended}
	v.Bandwidth, v.Average = s.bandwidth()
	if s.conf != nil {
		v.TargetDuration = time.Duration(s.conf.target) * time.Second
	}
	if v.Init = s.newestInit(); v.Init != nil {
		v.Track = v.Init.Track
	}
	return v
}

// publish makes what has changed visible.
func (p *Packager) publish() {
	if p.conf.Load() == nil && p.settled() {
		p.conf.Store(p.control())
		for _, o := range p.out {
			o.dirty = true
		}
	}
	// Nobody wakes before all renditions are in place: who waits for one looks
	// at the others too.
	var changed [renditions]bool
	for r, o := range p.out {
		if changed[r] = o.dirty; changed[r] {
			o.publish()
		}
	}
	for r, o := range p.out {
		if changed[r] {
			p.waiters.wake(o.snap.Load())
		}
	}
}

// settled reports whether each rendition that has media has a complete segment,
// so that a playlist can say how long segments and parts are.
func (p *Packager) settled() bool {
	any := false
	for _, o := range p.out {
		if len(o.segs) > 0 {
			any = true
		} else if o.live {
			return false
		}
	}
	return any
}

// control derives what playlists declare from the first segments.
func (p *Packager) control() *control {
	c := &control{target: roundTarget(p.cfg.Segment)}
	if p.mark != nil { // all who package the stream are to say the same
		c.target = roundTarget(min(p.mark.Target, p.cfg.MaxSegment))
	}
	if p.cfg.Part > 0 {
		c.partHoldBack = 3 * partTarget(p.cfg.Part) // also for a rendition that comes later
	}
	for _, o := range p.out {
		for _, s := range o.segs {
			c.target = max(c.target, roundTarget(s.Duration))
		}
		if o.r != TS && o.live && p.cfg.Part > 0 {
			c.partHoldBack = max(c.partHoldBack, 3*o.partTarget)
		}
	}
	return c
}

// roundTarget rounds a duration up to the seconds of a target duration. What
// players round down anyway, such as 2.002 s, is not worth a second.
func roundTarget(d time.Duration) int {
	return max(1, int((d+time.Second-50*time.Millisecond-1)/time.Second))
}

// grow raises what has been declared if a new segment, or a rendition that came
// later, does not fit. The package comment says why.
func (p *Packager) grow(o *output, d time.Duration) {
	old := p.conf.Load()
	if old == nil {
		return
	}
	c := *old
	if int((d+time.Second/2)/time.Second) > c.target {
		c.target = roundTarget(d)
	}
	if o.r != TS && p.cfg.Part > 0 && c.partHoldBack < 2*o.partTarget {
		c.partHoldBack = 3 * o.partTarget
	}
	if c == *old {
		return
	}
	p.conf.Store(&c)
	for _, o := range p.out {
		o.dirty = true
	}
}

// windowLength is how much a playlist covers at least.
func (p *Packager) windowLength() time.Duration {
	w := p.cfg.Window
	if c := p.conf.Load(); c != nil {
		w = max(w, 3*time.Duration(c.target)*time.Second)
	}
	return w
}

// relieve drops the oldest segments until the media fits Config.MaxBytes.
func (p *Packager) relieve() {
	for p.bytes.Load() > p.cfg.MaxBytes {
		var oldest *output
		for _, o := range p.out {
			if len(o.segs) > 0 && (oldest == nil || o.segs[0].Sequence < oldest.segs[0].Sequence) {
				oldest = o
			}
		}
		if oldest == nil {
			return
		}
		oldest.drop(1)
	}
}
