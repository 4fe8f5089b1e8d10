package webrtc

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/internal/vpx"
	"github.com/runnel-media/runnel/stream"
)

// A Cutter writes the frames of a stream, and of a rendition of its sound, to a
// Feed: one track of video and one of audio, of those that WebRTC can carry. Its
// methods are safe for concurrent use.
type Cutter struct {
	Feed
	// Clock is the Cutter that says what time of day goes with the stream's
	// times: that of the published stream for a rendition, which is later. nil:
	// it says so itself.
	Clock *Cutter

	size    atomic.Int64 // of the pictures, width<<32|height, where the configuration does not say it
	anchor  atomic.Int64 // wall clock at the stream's time 0, Unix ns; 0: unknown
	mu      sync.Mutex   // held while a frame is cut
	tracks  []*stream.Track
	shown   time.Duration
	refused bool // the video reorders its pictures in a way that can't be left out
}

// Cut cuts frames, in the order in which they are decoded.
func (c *Cutter) Cut(frames []*stream.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fr := range frames {
		c.cut(fr)
	}
}

// cut cuts one frame.
func (c *Cutter) cut(fr *stream.Frame) {
	if !slices.Contains(c.tracks, fr.Track) && !c.configure(fr.Track) {
		return
	}
	if fr.Track.Kind() == stream.Video && !c.inOrder(fr) {
		return
	}
	if fr.Key {
		c.look(fr)
	}
	c.Write(fr, c.wall(fr))
}

// Size returns that of the pictures of VP8 and VP9, of which a track says nothing;
// 0 before the first key frame.
func (c *Cutter) Size() (width, height int) {
	size := c.size.Load()
	return int(size >> 32), int(size & 0xffffffff)
}

// look notes the size of a key frame.
func (c *Cutter) look(fr *stream.Frame) {
	var width, height int
	var ok bool
	switch fr.Track.Codec {
	case stream.VP8:
		width, height, ok = vpx.VP8Key(fr.Data)
	case stream.VP9:
		width, height, ok = vpx.VP9Size(fr.Data)
	}
	if ok {
		c.size.Store(int64(width)<<32 | int64(height))
	}
}

// wall returns the time of day that sender reports tell for a frame: by the
// arrival of the first, unless what comes now is far from it, because time has
// jumped.
func (c *Cutter) wall(fr *stream.Frame) time.Time {
	if c.Clock != nil {
		if anchor := c.Clock.anchor.Load(); anchor != 0 {
			return time.Unix(0, anchor).Add(fr.PTS)
		}
	}
	anchor := c.anchor.Load()
	wall := time.Unix(0, anchor).Add(fr.PTS)
	if off := fr.Arrived().Sub(wall); anchor == 0 || off > time.Second || off < -time.Second {
		wall = fr.Arrived()
		c.anchor.Store(wall.Add(-fr.PTS).UnixNano())
		c.retell()
	}
	return wall
}

// configure takes a track, or another configuration of one. It reports whether
// WebRTC can carry it.
func (c *Cutter) configure(t *stream.Track) bool {
	p := packer(t)
	if p == nil {
		return false
	}
	c.tracks = slices.DeleteFunc(c.tracks, func(o *stream.Track) bool { return o.Kind() == t.Kind() && o.ID == t.ID })
	if slices.ContainsFunc(c.tracks, func(o *stream.Track) bool { return o.Kind() == t.Kind() }) {
		return false // one of each kind
	}
	c.tracks = append(c.tracks, t)
	c.SetTrack(t, p)
	return true
}

// packer returns what cuts a track's frames, nil if WebRTC can't carry it.
func packer(t *stream.Track) rtp.Packer {
	switch t.Codec {
	case stream.H264:
		if c, err := h264.ParseConfig(t.Config); err == nil {
			return &rtp.H264{Sets: append(slices.Clone(c.SPS), c.PPS...)}
		}
	case stream.H265:
		if c, err := h265.ParseConfig(t.Config); err == nil {
			var sets [][]byte
			for _, typ := range []byte{h265.TypeVPS, h265.TypeSPS, h265.TypePPS} {
				sets = append(sets, c.Units(typ)...)
			}
			return &rtp.H265{Sets: sets}
		}
	case stream.VP8:
		return &rtp.VP8{}
	case stream.VP9:
		return &rtp.VP9{}
	case stream.AV1:
		return &rtp.AV1{}
	case stream.Opus, stream.PCMA, stream.PCMU:
		return &rtp.Audio{}
	}
	return nil
}

// inOrder reports whether a picture can be sent: WebRTC shows pictures in the
// order in which they are sent. One that is to be shown before another that has
// been sent is left out, if no picture refers to it; the rest stays whole then.
// If one does, leaving it out would break the pictures that do, and so the video
// stops until the next key frame, from which on it may be in order.
func (c *Cutter) inOrder(fr *stream.Frame) bool {
	if fr.Key {
		c.refused, c.shown = false, fr.PTS
		return true
	}
	if c.refused {
		return false
	}
	if fr.PTS < c.shown {
		c.refused = !disposable(fr)
		return false
	}
	c.shown = fr.PTS
	return true
}

// disposable reports whether no other picture refers to this one.
func disposable(fr *stream.Frame) bool {
	if fr.Discardable {
		return true
	}
	for u := range nal.Units(fr.Data) {
		switch fr.Track.Codec {
		case stream.H264:
			if t := h264.Type(u); t >= h264.TypeSlice && t <= h264.TypeIDR && u[0]&0x60 != 0 {
				return false
			}
		case stream.H265:
			// Sub-layer non-reference pictures have even types up to 14
			// (ITU-T H.265, Table 7-1).
			if t := h265.Type(u); t < 32 && (t > 14 || t&1 != 0) {
				return false
			}
		}
	}
	return true
}

// Carries reports whether WebRTC can carry a track.
func Carries(t *stream.Track) bool { return packer(t) != nil }
