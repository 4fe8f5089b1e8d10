package stream

import "time"

// A Frame is one access unit: a picture, an audio packet, a data message. It
// is immutable once written to a Publisher, shared by every reader, and freed
// by the garbage collector: there is nothing to release.
type Frame struct {
	Track *Track // the description in force for this frame

	// DTS and PTS count from the start of the stream. Ticks of a 90 kHz,
	// 48 kHz, 44.1 kHz or 1 kHz clock survive the conversion by FromTicks
	// and Ticks.
	DTS, PTS time.Duration

	Time time.Time // wall clock at capture if the publisher knows it, else at arrival

	Key           bool // decoding can start here
	Discontinuity bool // the timeline was broken before this frame: publisher gone and back, or a repaired jump
	Discardable   bool // no other frame refers to it
	Spatial       uint8
	Temporal      uint8 // layers of simulcast and SVC, 0 is the base

	// Cut tells that the frame begins Segment: outputs in segments begin one with
	// it. Frames of other tracks belong to the segment by their DTS. The hub sets
	// both (Hub.Segment); who publishes what another server has cut gives what that
	// server said, and the hub then makes sure that numbers go on.
	Cut     bool
	Segment *Segment // nil: nobody has said

	Data []byte // in the form that Codec's constants state

	arrived time.Time
}

// Arrived returns when the frame was written to its Publisher: the start of
// the server's own latency. It has a monotonic reading.
func (f *Frame) Arrived() time.Time { return f.arrived }

// FromTicks converts a count of ticks of a clock of rate Hz, which is positive,
// to a duration. Ticks of the result is n again for every rate up to 1 MHz.
func FromTicks(n int64, rate int) time.Duration {
	r := int64(rate)
	sec, rest := n/r, n%r
	if rest < 0 {
		sec, rest = sec-1, rest+r
	}
	return time.Duration(sec)*time.Second + time.Duration((rest*int64(time.Second)+r/2)/r)
}

// Ticks converts a duration to ticks of a clock of rate Hz, rounded to the
// nearest.
func Ticks(d time.Duration, rate int) int64 {
	sec, rest := int64(d/time.Second), int64(d%time.Second)
	if rest < 0 {
		sec, rest = sec-1, rest+int64(time.Second)
	}
	return sec*int64(rate) + (rest*int64(rate)+int64(time.Second)/2)/int64(time.Second)
}
