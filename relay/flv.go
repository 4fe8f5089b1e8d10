package relay

import (
	"io"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

// An flvSink writes a stream as FLV. Of several tracks of a kind the first goes
// out.
type flvSink struct {
	w     io.Writer
	marks bool

	buf      []byte
	begun    bool
	metadata stream.Metadata
	tracks   []*stream.Track
	ts       uint32
	segment  *stream.Segment // that has been told of last
}

// flushSize is how much is collected before it is written inside a batch.
const flushSize = 64 << 10

func (s *flvSink) SetMetadata(m stream.Metadata) { s.metadata = m }

// SetTracks writes what a decoder needs.
func (s *flvSink) SetTracks(tracks ...*stream.Track) error {
	var chosen []*stream.Track
	var taken [stream.Data + 1]bool
	var configs [][]byte
	var refused error
	for _, t := range tracks {
		if taken[t.Kind()] {
			continue
		}
		body, err := flv.AppendConfigBody(nil, t)
		if err != nil {
			refused = err
			continue
		}
		taken[t.Kind()] = true
		chosen, configs = append(chosen, t), append(configs, body)
	}
	if chosen == nil && refused != nil {
		return refused
	}
	if !s.begun {
		s.begun = true
		s.buf = flv.AppendFileHeader(s.buf, taken[stream.Audio], taken[stream.Video])
	}
	meta, err := flv.AppendMetadataBody(nil, flv.MetadataFor(chosen, s.metadata))
	if err != nil {
		return err
	}
	if s.buf, err = flv.AppendTag(s.buf, flv.TagData, 0, meta, nil); err != nil {
		return err
	}
	for i, t := range chosen {
		if len(configs[i]) == 0 || in(s.tracks, t) {
			continue
		}
		if s.buf, err = flv.AppendTag(s.buf, flv.TagType(t), s.ts, configs[i], nil); err != nil {
			return err
		}
	}
	s.tracks = chosen
	return nil
}

// Write appends a frame, and writes when much has come together.
func (s *flvSink) Write(f *stream.Frame) error {
	if !in(s.tracks, f.Track) {
		return nil
	}
	s.ts = flv.Timestamp(f)
	var err error
	if s.marks && f.Track.Kind() != stream.Data {
		if f.Segment != nil && f.Segment != s.segment {
			s.segment = f.Segment
			if s.buf, err = flv.AppendTag(s.buf, flv.TagData, s.ts, appendCut(nil, f.Segment, f.Cut), nil); err != nil {
				return err
			}
		}
		var scratch [markSize]byte
		if s.buf, err = flv.AppendTag(s.buf, flv.TagData, s.ts, appendMark(scratch[:0], f), nil); err != nil {
			return err
		}
	}
	if s.buf, err = (flv.Options{}).AppendFrameTag(s.buf, f); err != nil {
		return err
	}
	if len(s.buf) >= flushSize {
		return s.Flush()
	}
	return nil
}

// Flush writes what has been collected.
func (s *flvSink) Flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}
