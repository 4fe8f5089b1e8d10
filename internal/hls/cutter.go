package hls

import (
	"slices"
	"time"

	"github.com/runnel-media/runnel/stream"
)

const (
	// settleTime is how much audio is looked at for a picture before the
	// stream is taken for audio only; settleAnnounced if a picture was announced.
	settleTime      = 500 * time.Millisecond
	settleAnnounced = 3 * time.Second
	// goneAfter is how far a track may fall behind the other before it counts
	// as silent, and how far the stream may step forward before it is a break.
	// Publishers interleave within a second.
	goneAfter = 3 * time.Second
	// maxBack is how far a timestamp may step back before it is a jump.
	maxBack = time.Second
	// maxHeld bounds the audio that waits for a picture, frames.
	maxHeld = 2048
)

// A cutter decides where segments begin. It belongs to the goroutine that calls
// Add.
type cutter struct {
	p *Packager

	video, audio lane
	announced    []*stream.Track

	open    bool            // a segment is being made
	bounds  []bound         // where segments began, oldest first: those that a rendition may still have to pass
	nextSeq uint64          // Media Sequence Number after the last of bounds
	discSeq uint64          // discontinuities so far
	broken  bool            // the next segment begins with a discontinuity
	newest  time.Duration   // the latest DTS since open
	size    int64           // bytes of frames since the last bound
	held    []*stream.Frame // audio that waits for a picture: the first, or the one before which it belongs
	blind   bool            // pictures came that cannot be decoded
	ended   bool
}

// A lane is the frames of one kind.
type lane struct {
	track   *stream.Track
	begun   bool // last is valid
	last    time.Duration
	step    time.Duration // between the last two frames
	gone    bool          // no frame for long, while the other lane goes on
	needKey bool          // nothing before the next key frame can be used
	waits   bool          // audio of a new configuration, which begins with the next segment
}

// patience is how long a lane may be silent before it is gone. Slide shows get more.
func (l *lane) patience(limit time.Duration) time.Duration {
	return min(max(goneAfter, 3*l.step), max(limit, goneAfter))
}

// present reports whether frames of the lane are to be expected.
func (l *lane) present() bool { return l.begun && !l.gone }

// A bound is where a segment begins in all renditions.
type bound struct {
	seq     uint64
	at      time.Duration // no frame of the segment has a DTS before it
	broken  bool          // a discontinuity
	discSeq uint64
	zero    time.Time // wall clock at DTS 0
}

// SetTracks tells what the publisher has announced, before the frames show it:
// whether to wait for a picture, and what to expect after a republish. It is
// optional; call it before the first Add and when the tracks change.
func (p *Packager) SetTracks(tracks ...*stream.Track) { p.announced = tracks }

// announces reports whether the publisher announced tracks, and of that kind.
func (c *cutter) announces(k stream.Kind) (known, yes bool) {
	for _, t := range c.announced {
		if t.Kind() == k {
			return true, true
		}
	}
	return len(c.announced) > 0, false
}

// expects reports whether t is the first track of its kind that was announced, or
// none of that kind was.
func (c *cutter) expects(t *stream.Track) bool {
	for _, a := range c.announced {
		if a.Kind() == t.Kind() {
			return a.ID == t.ID
		}
	}
	return true
}

// Add packages a frame. Frames come in the order of the stream; those of data
// tracks, and of a second track of a kind, are ignored. It keeps f until its
// part is complete, and its data is copied then.
func (p *Packager) Add(f *stream.Frame) {
	l := p.lane(f)
	if l == nil || p.ended {
		return
	}
	if p.place(l, f) {
		p.relieve()
	} else {
		p.dropped.Add(1)
	}
	p.publish()
}

// End completes what there is: playlists get EXT-X-ENDLIST, and nothing waits
// any longer.
func (p *Packager) End() {
	if p.ended {
		return
	}
	if !p.open && len(p.held) > 0 { // too short for the wait for a picture
		p.begin(p.held[0])
	}
	p.breakOff()
	p.ended = true
	for _, o := range p.out {
		o.dirty, o.completed, o.ended = true, true, true
	}
	p.publish()
}

func (c *cutter) lane(f *stream.Frame) *lane {
	switch f.Track.Kind() {
	case stream.Video:
		return &c.video
	case stream.Audio:
		return &c.audio
	}
	return nil
}

// place puts a frame where it belongs, or reports that it cannot.
func (c *cutter) place(l *lane, f *stream.Frame) bool {
	if !c.follow(l, f) {
		return false
	}
	if !c.open {
		return c.start(l, f)
	}
	if !l.begun && (f.DTS-c.newest).Abs() > goneAfter {
		return false // from another timeline than the rest
	}
	back := l.gone || l.needKey
	if !c.note(l, f) {
		return false
	}
	if !c.video.present() {
		c.release() // what waited for the picture comes before f
	}
	if c.cuts(l, f, back) {
		c.declare(f)
	}
	ok := !l.waits
	switch {
	case !ok:
	case l == &c.video:
		ok = c.deliver(f)
	case len(c.held) == maxHeld:
		ok = false
	default:
		c.held = append(c.held, f)
	}
	c.release()
	c.catchUp()
	return ok
}

// release delivers the audio that the picture has caught up with, or need not:
// before that it is not known where the picture is cut.
func (c *cutter) release() {
	n := 0
	for n < len(c.held) && (!c.video.present() || c.held[n].DTS < c.video.last+c.video.step) {
		c.deliver(c.held[n])
		n++
	}
	c.held = slices.Delete(c.held, 0, n)
}

// follow adopts the frame's track and looks for breaks in time. It reports
// whether the frame is one of the tracks that are packaged.
func (c *cutter) follow(l *lane, f *stream.Frame) bool {
	video := l == &c.video
	switch {
	case l.track == f.Track:
	case l.track == nil:
		if !c.expects(f.Track) {
			return false
		}
		l.track, l.needKey = f.Track, video
	case l.track.Same(f.Track):
		l.track = f.Track
	case l.track.ID == f.Track.ID || c.succeeds(l, f.Track):
		l.track, l.needKey = f.Track, video
		if video || !c.justBroken(f) {
			c.broken = true
			l.waits = !video && c.open && c.video.present()
		}
	default:
		return false
	}
	if f.Discontinuity {
		c.broken = true
	}
	if !l.begun {
		return true
	}
	step := f.DTS - l.last
	if step < -maxBack || c.open && f.DTS-c.newest > l.patience(c.p.cfg.MaxSegment) {
		l.step = max(step, 0)
		c.breakOff()
		return true
	}
	return step > 0
}

// justBroken reports whether audio f belongs to a segment that begins with a
// discontinuity and has no audio yet: then the break is its own too.
func (c *cutter) justBroken(f *stream.Frame) bool {
	if !c.open {
		return false
	}
	b, a := c.bounds[len(c.bounds)-1], c.p.out[Audio]
	return b.broken && f.DTS >= b.at && (a.cur == nil || a.cur.Sequence < b.seq || a.pack.empty())
}

// succeeds reports whether track t takes the place of a lane's track, which has
// another ID.
func (c *cutter) succeeds(l *lane, t *stream.Track) bool {
	if l.gone || !l.begun {
		return true
	}
	old, young := false, false
	for _, a := range c.announced {
		old = old || a.ID == l.track.ID && a.Kind() == t.Kind()
		young = young || a.ID == t.ID && a.Kind() == t.Kind()
	}
	return young && !old
}

// note records that a lane has a frame, unless that is of no use.
func (c *cutter) note(l *lane, f *stream.Frame) bool {
	if l.needKey && !f.Key {
		c.blind = true
		return false
	}
	if l.begun {
		l.step = f.DTS - l.last
	}
	l.begun, l.last, l.needKey, l.gone = true, f.DTS, false, false
	c.newest = max(c.newest, f.DTS)
	for _, other := range []*lane{&c.video, &c.audio} {
		if other.begun && !other.gone && c.newest-other.last > other.patience(c.p.cfg.MaxSegment) {
			other.gone = true
			other.needKey = other == &c.video
		}
	}
	return true
}

// start begins the first segment, or the one after a break, if f is where it
// can begin.
func (c *cutter) start(l *lane, f *stream.Frame) bool {
	if l == &c.video {
		if !f.Key {
			c.blind = true
			return false
		}
		c.begin(f)
		return true
	}
	if len(c.held) > 0 && (f.DTS < c.held[0].DTS || f.DTS > c.held[0].DTS+c.p.cfg.MaxSegment+time.Second) {
		c.held = nil
	}
	if len(c.held) == maxHeld {
		c.held = append(c.held[:0], c.held[1:]...)
	}
	c.held = append(c.held, f)
	limit := settleTime
	switch known, yes := c.announces(stream.Video); {
	case c.blind:
		limit = c.p.cfg.MaxSegment
	case yes:
		limit = settleAnnounced
	case known:
		limit = 0
	}
	if f.DTS-c.held[0].DTS >= limit {
		c.begin(c.held[0])
	}
	return true
}

// begin opens the first segment with f, a key frame or the oldest of held, and
// lets the held audio in.
func (c *cutter) begin(f *stream.Frame) {
	c.open, c.blind = true, false
	c.newest = f.DTS
	held := c.held
	c.held = nil
	c.declare(f)
	if f.Track.Kind() == stream.Video {
		c.note(&c.video, f)
		c.deliver(f)
	}
	for _, h := range held {
		if h.DTS >= f.DTS && h.DTS <= f.DTS+goneAfter && (!c.audio.begun || h.DTS > c.audio.last) {
			c.note(&c.audio, h)
			c.held = append(c.held, h)
		}
	}
	c.release()
	c.catchUp()
}

// cuts reports whether a segment begins with f. back tells that f's lane was
// silent before.
func (c *cutter) cuts(l *lane, f *stream.Frame, back bool) bool {
	since := f.DTS - c.bounds[len(c.bounds)-1].at
	if since <= 0 {
		return false
	}
	if c.size > c.p.cfg.MaxBytes/4 {
		return true
	}
	video := l == &c.video
	if since+l.step > c.p.cfg.MaxSegment && (video || !c.video.present()) {
		return true
	}
	switch {
	case video && f.Key:
		// Timestamps of key frames are a little early at times.
		return c.broken || back || since >= c.p.cfg.Segment-c.p.cfg.Segment/20
	case video || c.video.present():
		return false
	}
	return c.broken || since >= c.p.cfg.Segment-l.step/2
}

// declare begins a segment with f in all renditions.
func (c *cutter) declare(f *stream.Frame) {
	if ts := c.p.out[TS]; ts.live {
		if ts.cur != nil {
			end := f.DTS
			if natural := ts.after(ts.cur.from); c.broken && end-natural < maxRagged {
				end = min(end, natural)
			}
			ts.complete(end, false)
		}
		if ts.pack.(*tsPacker).configure() {
			c.broken = true // other tracks in the same file
		}
	}
	first := c.nextSeq == c.p.cfg.FirstSequence
	b := bound{seq: c.nextSeq, at: f.DTS, broken: c.broken && !first}
	if b.broken {
		c.discSeq++
	}
	b.discSeq = c.discSeq
	b.zero = c.zero(f, b.broken || len(c.bounds) == 0)
	c.nextSeq++
	c.broken, c.audio.waits = false, false
	c.size = 0
	c.bounds = append(c.bounds, b)
	for _, o := range c.p.out {
		o.bounded(b)
	}
	c.prune()
}

// zero returns the wall clock at DTS 0. After a break it is what the frame says,
// else what it was, brought closer to that by so little that dates and
// durations agree: publishers' clocks drift, and arrival times wander.
func (c *cutter) zero(f *stream.Frame, fresh bool) time.Time {
	now := f.Time
	if now.IsZero() {
		now = time.Now()
	}
	now = now.Round(0).Add(-f.DTS)
	if fresh { // dates must not overlap (bis 6.2.1)
		end := c.p.lastDate()
		if n := len(c.bounds); n > 0 {
			end = c.bounds[n-1].zero.Add(f.DTS)
		}
		if now.Add(f.DTS).Before(end) {
			now = end.Add(-f.DTS)
		}
		return now
	}
	const most = 5 * time.Millisecond
	zero := c.bounds[len(c.bounds)-1].zero
	return zero.Add(min(max(now.Sub(zero)/8, -most), most))
}

// lastDate returns where the dates of the segments so far end.
func (p *Packager) lastDate() (end time.Time) {
	for _, o := range p.out {
		if n := len(o.segs); n > 0 {
			if e := o.segs[n-1].Time.Add(o.segs[n-1].Duration); e.After(end) {
				end = e
			}
		}
	}
	return end
}

// prune forgets bounds that no rendition will ask for: all have passed them, and
// none that begins late would go back so far.
func (c *cutter) prune() {
	n := 0
	for n+1 < len(c.bounds) && c.bounds[n+1].at <= c.newest-goneAfter && c.passed(c.bounds[n+1].seq) {
		n++
	}
	c.bounds = slices.Delete(c.bounds, 0, n)
}

// passed reports whether no rendition is still at a segment before seq.
func (c *cutter) passed(seq uint64) bool {
	for _, o := range c.p.out {
		if o.cur != nil && o.cur.Sequence < seq {
			return false
		}
	}
	return true
}

// bound returns the bound where segment seq begins, if that has been declared.
func (c *cutter) bound(seq uint64) (b bound, ok bool) {
	if len(c.bounds) == 0 || seq < c.bounds[0].seq || seq >= c.nextSeq {
		return bound{}, false
	}
	return c.bounds[seq-c.bounds[0].seq], true
}

// deliver gives a frame to the renditions that carry it.
func (c *cutter) deliver(f *stream.Frame) bool {
	c.size += int64(len(f.Data))
	ok := c.p.out[TS].add(f)
	if f.Track.Kind() == stream.Video {
		return c.p.out[Video].add(f) || ok
	}
	return c.p.out[Audio].add(f) || ok
}

// catchUp completes segments of renditions whose track is silent.
func (c *cutter) catchUp() {
	for _, o := range c.p.out[:TS] {
		if l := c.laneOf(o.r); o.cur != nil && (l.gone || !l.begun && c.newest-c.bounds[0].at > goneAfter) {
			o.catchUp()
		}
	}
}

func (c *cutter) laneOf(r Rendition) *lane {
	if r == Audio {
		return &c.audio
	}
	return &c.video
}

// breakOff completes all segments where they are: nothing that comes next fits
// to what was.
func (c *cutter) breakOff() {
	for _, f := range c.held {
		if c.open {
			c.deliver(f)
		}
	}
	c.held = nil
	c.broken = true
	c.video = lane{track: c.video.track, needKey: c.video.track != nil, step: c.video.step}
	c.audio = lane{track: c.audio.track, step: c.audio.step}
	if !c.open {
		return
	}
	c.open = false
	end := c.newest
	for _, o := range c.p.out {
		end = o.after(end)
	}
	for _, o := range c.p.out {
		o.breakOff(end)
	}
	c.bounds = nil
}
