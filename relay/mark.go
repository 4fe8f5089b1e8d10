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

// A cut is a data message of the same name that goes before the mark of the first
// frame of a segment, and before that of the first frame of a connection: the string
// "onRunnelFrame", the string "segment", and eight AMF0 numbers. Receivers that do
// not know it take it for a mark that is not valid, and so for none.
type cut struct {
	segment *stream.Segment
	begins  bool // with the frame behind it
}

var cutHead = append(markHead[:len(markHead):len(markHead)], 2, 0, 7, 's', 'e', 'g', 'm', 'e', 'n', 't')

const (
	cutNumbers = 8
	cutSize    = 3 + len(markName) + 3 + 7 + 9*cutNumbers
	// maxCut bounds the counts in a cut: names of segments have 15 digits.
	maxCut = 1e14
)

func appendCut(dst []byte, s *stream.Segment, begins bool) []byte {
	number := func(b bool) int64 {
		if b {
			return 1
		}
		return 0
	}
	dst = append(dst, cutHead...)
	for _, v := range [cutNumbers]int64{
		int64(s.Number), number(begins), number(s.Discontinuity), int64(s.Discontinuities),
		s.Time.Unix(), int64(s.Time.Nanosecond()), int64(s.Target), int64(s.Shift),
	} {
		dst = append(dst, 0)
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(float64(v)))
	}
	return dst
}

// parseCut reads a data message; ok is false if it is no valid cut.
func parseCut(b []byte) (c cut, ok bool) {
	if !bytes.HasPrefix(b, cutHead) || len(b) != cutSize {
		return cut{}, false
	}
	var v [cutNumbers]int64
	for i := range v {
		at := b[len(cutHead)+9*i:]
		x := math.Float64frombits(binary.BigEndian.Uint64(at[1:]))
		if at[0] != 0 || !(x >= 0 && x <= maxCut || i == cutNumbers-1 && math.Abs(x) <= maxMarkTime) {
			return cut{}, false
		}
		v[i] = int64(x)
	}
	return cut{begins: v[1] != 0, segment: &stream.Segment{
		Number: uint64(v[0]), Discontinuity: v[2] != 0, Discontinuities: uint64(v[3]),
		Time: time.Unix(v[4], min(v[5], 1e9-1)), Target: time.Duration(v[6]), Shift: time.Duration(v[7]),
	}}, true
}

func isMark(b []byte) bool { return bytes.HasPrefix(b, markHead) }

// A marked sink takes the marks and cuts out of what a flv.Demuxer reads and
// applies them to the frames behind them.
type marked struct {
	flv.Sink

	next  *mark
	cut   cut
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
			if c, ok := parseCut(f.Data); ok {
				s.cut = c
				return nil
			}
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
	f.Segment, f.Cut = s.cut.segment, s.cut.begins
	s.cut.begins = false
	return s.Sink.Write(f)
}
