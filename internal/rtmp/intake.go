package rtmp

import (
	"errors"
	"time"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

// An intake turns the media messages of one stream into what the demuxer's
// Sink takes.
type intake struct {
	demuxer flv.Demuxer
	clock   clock
	problem func(error) // told once of what the demuxer does not understand
}

func isMedia(typ byte) bool {
	switch typ {
	case typeAudio, typeVideo, typeDataAMF0, typeDataAMF3, typeAggregate:
		return true
	}
	return false
}

// message takes a message for which isMedia is true, and its body. Errors are
// the Sink's.
func (in *intake) message(m message, now time.Time) error {
	switch m.typ {
	case typeDataAMF3:
		if len(m.body) > 0 && m.body[0] == 0 {
			m.body = m.body[1:] // the format byte; AMF0 values follow
		}
		m.typ = typeDataAMF0
	case typeAggregate:
		return in.aggregate(m, now)
	}
	return in.tag(m.typ, m.ts, m.body, now)
}

func (in *intake) tag(typ byte, ts uint32, body []byte, now time.Time) error {
	err := in.demuxer.Tag(typ, in.clock.unwrap(ts), body, now)
	if errors.Is(err, stream.ErrUnsupported) || errors.Is(err, flv.ErrMalformed) {
		if in.problem != nil {
			in.problem(err)
			in.problem = nil // the first tells enough
		}
		return nil
	}
	return err
}

// aggregate takes an aggregate message apart (RTMP 1.0, section 7.1.6): its
// body is FLV tags, whose timestamps count from the first one's on.
func (in *intake) aggregate(m message, now time.Time) error {
	const head, tail = 11, 4
	var first uint32
	for b, i := m.body, 0; len(b) >= head; i++ {
		typ, size := b[0]&0x1f, int(u24(b[1:]))
		ts := u24(b[4:]) | uint32(b[7])<<24
		if i == 0 {
			first = ts
		}
		if size > len(b)-head {
			return nil // the last one is cut off
		}
		switch typ {
		case typeAudio, typeVideo, typeDataAMF0:
			body := b[head : head+size : head+size]
			if err := in.tag(typ, m.ts+ts-first, body, now); err != nil {
				return err
			}
		}
		b = b[min(len(b), head+size+tail):]
	}
	return nil
}

// A clock unwraps the 32-bit timestamps of a connection: of all its chunk
// streams together, or audio and video would part when they wrap.
type clock struct {
	last    int64
	started bool
}

// unwrap returns the 64-bit timestamp nearest to the last one. The first is as
// it is.
func (c *clock) unwrap(ts uint32) int64 {
	if !c.started {
		c.started, c.last = true, int64(ts)
		return c.last
	}
	step := int64(int32(ts - uint32(c.last)))
	c.last += step
	if c.last < 0 && step < -1<<30 {
		// Not a step back: metadata came at zero, and the encoder counts the
		// media from when it was started, long ago.
		c.last += 1 << 32
	}
	return c.last
}
