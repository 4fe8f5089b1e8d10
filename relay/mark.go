package relay

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

// A mark is the data message of the relay protocol that goes before each audio
// and video tag: what FLV's milliseconds leave out. On the wire it is the AMF0
// string "onRunnelFrame" and three AMF0 numbers: DTS and PTS in nanoseconds,
// and when the frame was captured, in microseconds since 1970.
type mark struct {
	dts, pts time.Duration
	captured time.Time
}

const markName = "onRunnelFrame"

var markHead = append([]byte{2, 0, byte(len(markName))}, markName...)

const markSize = 3 + len(markName) + 3*9

// maxMarkTime bounds the times of a mark to what a float64 holds exactly.
const maxMarkTime = 1 << 53

func appendMark(dst []byte, f *stream.Frame) []byte {
	dst = append(dst, markHead...)
	for _, v := range [...]int64{int64(f.DTS), int64(f.PTS), f.Time.UnixMicro()} {
		dst = append(dst, 0)
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(float64(v)))
	}
	return dst
}

// parseMark reads a data message; ok is false if it is no mark, or not a valid
// one.
func parseMark(b []byte) (m mark, ok bool) {
	if !isMark(b) || len(b) != markSize {
		return mark{}, false
	}
	var v [3]int64
	for i := range v {
		at := b[len(markHead)+9*i:]
		x := math.Float64frombits(binary.BigEndian.Uint64(at[1:]))
		if at[0] != 0 || !(math.Abs(x) <= maxMarkTime) { // not a NaN either
			return mark{}, false
		}
		v[i] = int64(x)
	}
	return mark{time.Duration(v[0]), time.Duration(v[1]), time.UnixMicro(v[2])}, true
}

func isMark(b []byte) bool { return bytes.HasPrefix(b, markHead) }

// A marked sink takes the marks out of what a flv.Demuxer reads and applies
// them to the frames behind them.
type marked struct {
	flv.Sink

	next  *mark
	ready bool // there is a data message that is no mark
	all   []*stream.Track
	told  []*stream.Track // what the Sink knows of before ready
}

// maxStray is how far a mark may be from the tag's own time, which has
// milliseconds and wraps around.
const maxStray = time.Second

func (s *marked) SetTracks(tracks ...*stream.Track) error {
	s.all = append(s.all[:0], tracks...)
	if s.ready {
		return s.Sink.SetTracks(tracks...)
	}
	without := make([]*stream.Track, 0, len(tracks))
	for _, t := range tracks {
		if t.Kind() != stream.Data {
			without = append(without, t)
		}
	}
	if len(without) == 0 || slices.Equal(without, s.told) {
		return nil // nothing is new but the marks
	}
	s.told = without
	return s.Sink.SetTracks(without...)
}

func (s *marked) Write(f *stream.Frame) error {
	if f.Track.Codec == stream.AMF0 {
		if isMark(f.Data) {
			s.next = nil
			if m, ok := parseMark(f.Data); ok {
				s.next = &m
			}
			return nil
		}
		if !s.ready {
			s.ready = true
			if err := s.Sink.SetTracks(s.all...); err != nil {
				return err
			}
		}
		return s.Sink.Write(f)
	}
	if m := s.next; m != nil {
		s.next = nil
		if stray := (m.dts - f.DTS).Abs(); stray <= maxStray {
			f.DTS, f.PTS = m.dts, m.pts
		}
		f.Time = m.captured
	}
	return s.Sink.Write(f)
}
