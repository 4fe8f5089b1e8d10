package hls

import (
	"errors"
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/stream"
)

// warmUp is how much of a track is looked at to find out how long its frames
// are. It is short of the first segment of any use, and no playlist is given
// out before that.
const warmUp = time.Second

// A cmafPacker makes parts of fragmented MP4.
type cmafPacker struct {
	*output
	init  *Init
	inits uint64

	rejected *stream.Track   // seen last that MP4 cannot carry
	pending  []*stream.Frame // of the next part
	any      bool            // the segment has frames
	sealer   *sealer         // of the segment
	last     time.Duration   // DTS of the last frame
	step     time.Duration   // between the last two frames
	usual    time.Duration   // step of the frames that partTarget was chosen by
}

func (c *cmafPacker) accepts(f *stream.Frame) bool {
	if c.init != nil && c.init.Track == f.Track {
		return true
	}
	if c.init != nil && c.init.Track.Same(f.Track) {
		i := *c.init
		i.Track, i.tracks[0] = f.Track, f.Track
		c.init = &i
		return true
	}
	if c.rejected == f.Track {
		return false
	}
	data, err := fmp4.Init(f.Track)
	if err != nil {
		c.rejected, c.err = f.Track, err
		return false
	}
	c.err = nil
	if c.cur != nil {
		c.follow(f.DTS)
		if c.any {
			return false // a new configuration begins with a segment
		}
	}
	c.init = &Init{Number: c.inits, Track: f.Track, tracks: [1]*stream.Track{f.Track}, Data: data, name: name{r: c.r, kind: kindInit, number: c.inits}.String()}
	c.inits++
	return true
}

func (c *cmafPacker) begin() {
	c.any = false
	c.cur.Init = c.init
	if c.cur.Key != nil {
		c.sealer = newSealer(c.cur.Key, c.cur.Sequence)
	}
}

func (c *cmafPacker) empty() bool { return !c.any }

func (c *cmafPacker) frame(f *stream.Frame) {
	c.cur.Init = c.init
	switch {
	case !c.any && c.partTarget > 0 && f.DTS-c.cur.from > c.usual+c.usual/2:
		c.gap(c.cur.from, f.DTS) // it comes back
	case c.any && c.r == Audio && c.partTarget > 0 && f.DTS-c.last > c.partTarget:
		c.stop(f.DTS) // packets were lost; a picture would have stayed
	case c.any:
		c.step = f.DTS - c.last
	}
	c.any, c.last = true, f.DTS
	switch n := len(c.pending); {
	case c.partTarget > 0:
		c.cut(f.DTS)
	case n > 0 && f.DTS-c.pending[0].DTS >= warmUp:
		c.settle(f.DTS)
		c.cut(f.DTS)
	}
	c.pending = append(c.pending, f)
}

// settle chooses the part target duration by the frames that are pending, and
// makes the parts that those are enough for. next is the DTS after them.
func (c *cmafPacker) settle(next time.Duration) {
	want := c.p.cfg.Part
	if want <= 0 {
		want = 500 * time.Millisecond // unlisted
	}
	frames := c.pending
	steps := make([]time.Duration, len(frames))
	for i := range frames {
		if i+1 < len(frames) {
			steps[i] = frames[i+1].DTS - frames[i].DTS
		} else {
			steps[i] = next - frames[i].DTS
		}
	}
	c.usual = max(usualStep(steps), time.Millisecond)
	n := framesPerPart(want, c.usual, c.p.cfg.Segment)
	c.partTarget = partTarget(n * c.usual)
	c.pending = make([]*stream.Frame, 0, 2*n)
	for i, f := range frames {
		if i > 0 {
			c.step = steps[i-1]
			c.cut(f.DTS)
		}
		c.pending = append(c.pending, f)
	}
	c.step = steps[len(steps)-1]
}

// framesPerPart returns how many frames of a length make a part of about the
// wanted one, such that the last part of a segment is not very short: it costs a
// request as any other does, and hls.js 1.7 takes a hole of up to 0.1 s for none, so
// that it may go on with the next segment without it.
func framesPerPart(want, step, segment time.Duration) time.Duration {
	nearest := max(1, (want+step/2)/step)
	for _, n := range []time.Duration{nearest, nearest - 1, nearest + 1, nearest - 2, nearest + 2} {
		if part := n * step; n > 0 && part >= want*3/4 && part <= want*5/4 {
			if rest := segment % part; rest < step/2 || rest > 110*time.Millisecond {
				return n
			}
		}
	}
	return nearest
}

// usualStep returns the mean of those steps that are about as long as the one in
// the middle: publishers who count whole milliseconds make 21 and 22 of 21.3.
func usualStep(steps []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(steps))
	middle := sorted[len(sorted)/2]
	sum, n := time.Duration(0), time.Duration(0)
	for _, step := range steps {
		if (step - middle).Abs() <= middle/8 {
			sum, n = sum+step, n+1
		}
	}
	return sum / n
}

// partTarget leaves room for uneven timestamps, and rounds up to what a playlist
// can say.
func partTarget(d time.Duration) time.Duration {
	return (d*108/100 + time.Millisecond - 1) / time.Millisecond * time.Millisecond
}

// cut makes a part of what is pending if it gets too long with the frame that
// comes next, at next.
func (c *cmafPacker) cut(next time.Duration) {
	for n := len(c.pending); n > 0; n = len(c.pending) {
		first, last := c.pending[0].DTS, c.pending[n-1].DTS
		switch {
		case next-first > c.partTarget && n > 1:
			c.part(n-1, last) // next is late: with the frame before it the part would be too long
		case next-first+min(c.step, c.usual) > c.partTarget:
			c.part(n, next)
		default:
			return
		}
	}
}

// part makes a part of the first n frames that are pending. next is the DTS of
// the frame after them.
func (c *cmafPacker) part(n int, next time.Duration) {
	frames := c.pending[:n]
	number := c.parts
	c.parts++
	p := &Part{
		Number: number, Start: frames[0].DTS, Duration: next - frames[0].DTS,
		Independent: slices.ContainsFunc(frames, isKey),
		name:        name{r: c.r, kind: kindPart, number: number}.String(),
	}
	run := fmp4.Run{Track: c.init.Track, Frames: frames, Next: next}
	switch {
	case c.cur.Key != nil:
		b := fmp4.AppendPart(nil, c.fragment(), run)
		if c.p.cfg.Part > 0 {
			p.data = newSealer(c.cur.Key, c.cur.Sequence).seal(b, true)
			c.hold(len(p.data))
		}
		c.append(c.sealer.seal(b, false))
	case c.p.cfg.OnData != nil: // nobody reads the part alone: the frames' own bytes do
		c.append(fmp4.AppendPartHeader(nil, c.fragment(), run))
		for _, f := range frames {
			c.append(f.Data)
		}
	default:
		p.data = fmp4.AppendPart(nil, c.fragment(), run)
		c.append(p.data)
	}
	p.text = p.line(c.p.mediaPrefix())
	c.cur.Parts = append(c.cur.Parts, p)
	rest := copy(c.pending, c.pending[n:])
	clear(c.pending[rest:])
	c.pending = c.pending[:rest]
	if c.p.cfg.Part > 0 {
		c.dirty = true
	}
}

// fragment returns what numbers the next part in its bytes: those are the same
// wherever the segment is made.
func (c *cmafPacker) fragment() uint32 {
	return uint32(c.cur.Sequence)<<10 + uint32(len(c.cur.Parts)) + 1
}

// stop ends what is pending where the last frame ends by itself, and states that
// there is nothing from there on.
func (c *cmafPacker) stop(next time.Duration) {
	end := c.last + c.usual
	c.cut(end)
	if n := len(c.pending); n > 0 {
		c.part(n, end)
	}
	c.gap(end, next)
}

// gap states that there is nothing between two times (bis 6.2.1).
func (c *cmafPacker) gap(from, to time.Duration) {
	n := (to - from + c.partTarget - 1) / c.partTarget
	for i := range max(n, 0) {
		start, end := from+(to-from)*i/n, from+(to-from)*(i+1)/n
		p := &Part{
			Number: c.parts, Start: start, Duration: end - start, Gap: true,
			name: name{r: c.r, kind: kindPart, number: c.parts}.String(),
		}
		p.text = p.line(c.p.mediaPrefix())
		c.cur.Parts = append(c.cur.Parts, p)
		c.parts++
	}
}

func (c *cmafPacker) end(next time.Duration, silent bool) {
	if c.partTarget == 0 {
		c.settle(next)
	}
	if silent && next-c.last > c.usual+c.usual/2 {
		c.stop(next)
	}
	c.cut(next)
	if n := len(c.pending); n > 0 {
		c.part(n, next)
	}
	if c.sealer != nil {
		c.append(c.sealer.seal(nil, true))
		c.sealer = nil
	}
}

func (c *cmafPacker) naturalEnd() time.Duration {
	step := c.step
	if step <= 0 {
		step = 40 * time.Millisecond
	}
	return c.last + step
}

func (c *cmafPacker) carries() []*stream.Track {
	if c.init == nil {
		return nil
	}
	return c.init.tracks[:]
}

// errNoTracks is why a rendition without usable tracks cannot begin.
var errNoTracks = errors.New("hls: no track that the rendition can carry")

// isKey reports whether decoding can start at f. Publishers of audio do not
// always say so.
func isKey(f *stream.Frame) bool { return f.Key || f.Track.Kind() == stream.Audio }
