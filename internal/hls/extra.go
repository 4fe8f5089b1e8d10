package hls

import (
	"slices"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// An extra is a further track of video: another size of the same picture, whose
// key frames are where those of the first track are. It follows the bounds that
// the first sets, and has a gap where it cannot.
type extra struct {
	id      uint8 // of the track; 0: none
	last    time.Duration
	begun   bool            // last is valid
	needKey bool            // nothing before the next key frame can be used
	held    []*stream.Frame // until it is known where the first track is cut
}

// maxExtraHeld bounds the frames that wait, at some seconds.
const maxExtraHeld = 256

// extraOf returns what takes a frame if its track is a further one of video that
// was announced.
func (c *cutter) extraOf(f *stream.Frame) *extra {
	if f.Track.Kind() != stream.Video || len(c.announced) < 2 {
		return nil
	}
	main := true // the next track of video is the first
	var found *extra
	for _, t := range c.announced {
		switch {
		case t.Kind() != stream.Video:
		case main && t.ID == f.Track.ID:
			return nil
		case main:
			main = false
		default: // places are given in the order in which tracks are announced
			if x := c.extraPlace(t.ID); t.ID == f.Track.ID {
				found = x
			}
		}
	}
	return found
}

// extraPlace returns the place of a track, which gets one if there is room; without
// room it is one that takes nothing.
func (c *cutter) extraPlace(id uint8) *extra {
	var free *extra
	for i := range c.extras {
		switch x := &c.extras[i]; {
		case x.id == id:
			return x
		case x.id == 0 && free == nil:
			free = x
		}
	}
	if free == nil {
		return &extra{}
	}
	*free = extra{id: id, needKey: true}
	return free
}

// addExtra takes a frame of x.
func (c *cutter) addExtra(x *extra, f *stream.Frame) {
	if f.Discontinuity { // the first track tells what comes of it
		x.needKey = true
	}
	if x.id == 0 || len(x.held) == maxExtraHeld {
		c.p.dropped.Add(1)
		x.needKey = true
		return
	}
	x.held = append(x.held, f)
	c.releaseExtras()
	c.catchUp()
}

// releaseExtras delivers the further pictures that the first track has caught up
// with.
func (c *cutter) releaseExtras() {
	if !c.open || !c.video.present() {
		return
	}
	for i := range c.extras {
		x := &c.extras[i]
		n := 0
		for n < len(x.held) && x.held[n].DTS <= c.video.last {
			c.deliverExtra(Video2+Rendition(i), x, x.held[n])
			n++
		}
		x.held = slices.Delete(x.held, 0, n)
	}
}

func (c *cutter) deliverExtra(r Rendition, x *extra, f *stream.Frame) {
	o := c.p.out[r]
	if f.DTS < c.bounds[0].at || x.begun && f.DTS <= x.last || o.cur != nil && f.DTS < o.cur.from-maxBack {
		c.p.dropped.Add(1)
		return
	}
	// A segment begins with a key frame, or later, or is a gap.
	if x.needKey = x.needKey || c.crosses(o, f.DTS) || o.pack.empty(); x.needKey && !f.Key {
		c.p.dropped.Add(1)
		return
	}
	if x.needKey && o.cur == nil && !c.cutAt(f.DTS) {
		return // it begins where a segment does
	}
	if !o.add(f) {
		c.p.dropped.Add(1)
		return
	}
	x.begun, x.last, x.needKey = true, f.DTS, false
}

// crosses reports whether a frame at dts is in another segment than the one that o
// makes.
func (c *cutter) crosses(o *output, dts time.Duration) bool {
	if o.cur == nil {
		return true
	}
	b, ok := c.bound(o.cur.Sequence + 1)
	return ok && dts >= b.at
}

// cutAt reports whether a segment begins at dts, or so close that it is the same
// picture.
func (c *cutter) cutAt(dts time.Duration) bool {
	return slices.ContainsFunc(c.bounds, func(b bound) bool { return (b.at - dts).Abs() < 10*time.Millisecond })
}

// breakExtras delivers what the first track will not catch up with any more.
func (c *cutter) breakExtras() {
	for i := range c.extras {
		x := &c.extras[i]
		for _, f := range x.held {
			if c.open && f.DTS <= c.newest {
				c.deliverExtra(Video2+Rendition(i), x, f)
			}
		}
		*x = extra{id: x.id, needKey: true}
	}
}
