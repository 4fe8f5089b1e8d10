package rtp

import "time"

// A Frame is one that has been put together.
type Frame struct {
	Timestamp int64 // of the RTP clock, without wraps
	Data      []byte
	Key       bool
	// Lost says that something between the frame before and this one is gone:
	// a picture that is not Key may refer to it.
	Lost    bool
	Arrived time.Time // of its last packet
}

// Frames puts the packets of a track together. It is used by one goroutine.
type Frames struct {
	Unpacker Unpacker
	// Whole says that each packet is a frame (audio); else its Marker or the
	// next timestamp ends it.
	Whole bool

	clock   Counter
	at      int64 // timestamp of the frame that is put together
	open    bool
	lost    bool // before the frame that is put together
	broken  bool // it can't be completed
	arrived time.Time
}

// Push takes the next packet in order, and calls emit for each frame that it
// completes. emit owns the frame's data.
func (f *Frames) Push(p *Packet, emit func(Frame)) {
	at := f.clock.Next32(p.Timestamp)
	if p.Lost > 0 {
		f.drop()
		f.broken = !f.Unpacker.Begins(p.Payload)
		f.at, f.open = at, true
	}
	if f.open && at != f.at {
		f.end(emit)
	}
	if !f.open {
		f.at, f.open, f.broken = at, true, false
	}
	f.arrived = p.Arrived
	// Padding alone has no payload; it may stand between frames.
	if len(p.Payload) > 0 && !f.broken && !f.Unpacker.Push(p.Payload) {
		f.broken = true
	}
	if p.Marker || f.Whole {
		f.end(emit)
	}
}

// Near returns a timestamp without wraps, as those of the frames around it.
func (f *Frames) Near(stamp uint32) int64 {
	c := f.clock
	return c.Next32(stamp)
}

// drop gives up the frame that is put together.
func (f *Frames) drop() {
	f.lost = true
	f.Unpacker.Pull()
}

// end completes the frame, if it can be.
func (f *Frames) end(emit func(Frame)) {
	f.open = false
	if f.broken {
		f.drop()
		f.broken = false
		return
	}
	data, key, ok := f.Unpacker.Pull()
	if !ok {
		f.lost = f.lost || len(data) > 0
		return
	}
	lost := f.lost
	f.lost = false
	emit(Frame{Timestamp: f.at, Data: data, Key: key, Lost: lost, Arrived: f.arrived})
}
