package stream

import "time"

// SegmentStored: a media segment of a stream is where it is to be kept, and its
// playlist lists it or will in a moment.
type SegmentStored struct {
	Time     time.Time     `json:"time"`
	Stream   string        `json:"stream"`
	Name     string        `json:"name"`     // of the file
	Playlist string        `json:"playlist"` // the media playlist's
	Sequence uint64        `json:"sequence"` // Media Sequence Number
	Duration time.Duration `json:"duration"` // nanoseconds
}

func (SegmentStored) event() {}

// ReportSegment emits a SegmentStored event: for those who store what they read of
// a stream.
func (h *Hub) ReportSegment(e SegmentStored) { h.emit(e) }
