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
	// maxHeld bounds the audio that waits for a picture, frames.
	maxHeld = 2048
)

// A cutter decides where segments begin. It belongs to the goroutine that calls
// Add.
type cutter struct {
	p *Packager

	video, audio lane
	extras       [Audio - Video2]extra
	announced    []*stream.Track

	open     bool            // a segment is being made
	bounds   []bound         // where segments began, oldest first: those that a rendition may still have to pass
	firstSeq uint64          // Media Sequence Number of the first
	nextSeq  uint64          // Media Sequence Number after the last of bounds
	discSeq  uint64          // discontinuities so far
	broken   bool            // the next segment begins with a discontinuity
	mark     *stream.Segment // what the frames said of the last of bounds, if they are followed
	shift    uint64          // from their numbers to ours
	more     uint64          // discontinuities that they do not know of
	moved    time.Duration   // what has been added to timestamps since the first server
	sought   *stream.Frame   // the first that came before it was known where to begin
	newest   time.Duration   // the latest DTS since open
	reached  time.Duration   // newest before the frame that is being placed
	size     int64           // bytes of frames since the last bound
	held     []*stream.Frame // audio that waits for a picture: the first, or the one before which it belongs
	blind    bool            // pictures came that cannot be decoded
	ended    bool
}

// SetTracks tells what the publisher has announced, before the frames show it:
// whether to wait for a picture, and what to expect after a republish. It is
// optional; call it before the first Add and when the tracks change.
func (p *Packager) SetTracks(tracks ...*stream.Track) { p.announced = tracks }

// Add packages a frame. Frames come in the order of the stream; those of data
// tracks, and of a second track of audio, are ignored. Further tracks of video are
// packaged if they were announced, up to Video4 and as far as their key frames are
// where those of the first are. It keeps f until its part is complete, and its
// data is copied then, or with OnData passed on.
func (p *Packager) Add(f *stream.Frame) {
	f = p.unshifted(f)
	if x := p.extraOf(f); x != nil {
		if !p.ended {
			p.addExtra(x, f)
			p.publish()
		}
		return
	}
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

// Flush completes what there is, since nothing that follows it is to be expected
// soon. A frame that comes all the same begins a segment with
// EXT-X-DISCONTINUITY.
//
// It is to be called some time before End, so that players get the last part
// before they are told that it is the last: hls.js 1.7 takes a segment for
// loaded of which no more than 0.2 s is missing when EXT-X-ENDLIST comes, and
// never loads the rest.
func (p *Packager) Flush() {
	if p.ended {
		return
	}
	if !p.open && len(p.held) > 0 && p.opens(p.held[0]) { // too short for the wait for a picture
		p.begin(p.held[0])
	}
	p.breakOff()
	p.publish()
}

// End completes what there is: playlists get EXT-X-ENDLIST, and nothing waits
// any longer.
func (p *Packager) End() {
	if p.ended {
		return
	}
	p.Flush()
	p.ended = true
	for _, o := range p.out {
		o.dirty, o.ended = true, true
	}
	p.publish()
}

// place puts a frame where it belongs, or reports that it cannot.
func (c *cutter) place(l *lane, f *stream.Frame) bool {
	c.reached = c.newest
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
	c.releaseExtras()
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

// start begins the first segment, or the one after a break, if f is where it
// can begin.
func (c *cutter) start(l *lane, f *stream.Frame) bool {
	if l == &c.video {
		if !f.Key || !c.opens(f) {
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
		if i := slices.IndexFunc(c.held, c.opens); i >= 0 {
			c.held = c.held[i:]
			c.begin(c.held[0])
		}
	}
	return true
}

// begin opens the first segment with f, a key frame or the oldest of held, and
// lets the held audio in.
func (c *cutter) begin(f *stream.Frame) {
	c.open, c.blind, c.sought = true, false, nil
	c.fill(f)
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
	c.releaseExtras()
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
	case c.follows(f):
		return c.cutHere(f, video || !c.video.present())
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
	if c.open && len(c.bounds) > 0 {
		c.fill(f)
	}
	b := bound{at: f.DTS, broken: c.broken}
	c.endTS(b.at)
	b.broken = c.broken // also since there are other tracks in the same file
	c.number(&b, f)
	b.zero = c.zero(f, b.broken || len(c.bounds) == 0)
	c.broken, c.audio.waits = false, false
	c.bind(b)
}

// bind has all renditions begin a segment.
func (c *cutter) bind(b bound) {
	c.discSeq, c.nextSeq = b.discSeq, b.seq+1
	c.size = 0
	c.bounds = append(c.bounds, b)
	for _, o := range c.p.out {
		o.bounded(b)
	}
	c.prune()
}

// number gives a bound its numbers.
func (c *cutter) number(b *bound, f *stream.Frame) {
	first := c.nextSeq == c.firstSeq
	if first { // after the stream that this one follows
		b.broken = c.p.cfg.FirstSequence > 0
	}
	if c.follows(f) {
		c.adopt(b, f, first)
		return
	}
	b.seq, b.discSeq = c.nextSeq, c.discSeq
	if b.broken {
		b.discSeq++
	}
}

// endTS completes the segment of MPEG-TS in the making, and looks which tracks
// the next is to have.
func (c *cutter) endTS(at time.Duration) {
	if ts := c.p.out[TS]; ts.live {
		if ts.cur != nil {
			end := at
			if natural := ts.after(ts.cur.from); c.broken && end-natural < maxRagged {
				end = min(end, natural)
			}
			ts.complete(end, false)
		}
		if ts.pack.(*tsPacker).configure() {
			c.broken = true // other tracks in the same file
		}
	}
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
	for _, o := range c.p.out {
		if o.r != TS && o.cur != nil && c.silent(o.r) {
			o.catchUp()
		}
	}
}

// silent reports whether no frames of a rendition are expected.
func (c *cutter) silent(r Rendition) bool {
	if r.extra() {
		x := &c.extras[r-Video2]
		return c.newest-max(x.last, c.bounds[0].at) > goneAfter
	}
	l := c.laneOf(r)
	return l.gone || !l.begun && c.newest-c.bounds[0].at > goneAfter
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
	c.breakExtras()
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
