package mpegts

import (
	"bytes"
	"slices"
	"time"

	"github.com/asticode/go-astits"

	"github.com/runnel-media/runnel/stream"
)

// DataID is the ID of the first track of data; those of others follow.
const DataID = 3

const (
	// maxData bounds the streams of data that are followed.
	maxData = 8
	// maxMessage bounds a section of SCTE 35 (section 9.6: 4093 bytes and the
	// three before them).
	maxMessage = 3 + 4093
	tableCue   = 0xfc // table_id of a splice_info_section
)

// A dataStream is a stream that is passed on as it is: messages of SCTE 35, or
// PES packets.
type dataStream struct {
	elementary
	typ    byte   // stream_type
	format []byte // format_identifier of its registration, nil if there is none
	track  *stream.Track

	section []byte // SCTE 35: what has been collected of one
	open    bool   // it goes on in the next packet
}

// newData returns the stream of data that a PMT names, nil if it is none that is
// passed on.
func newData(s *astits.PMTElementaryStream) *dataStream {
	d := &dataStream{elementary: elementary{pid: s.ElementaryPID}, typ: byte(s.StreamType)}
	switch s.StreamType {
	case typeSCTE35:
		d.codec = stream.SCTE35
	case typePrivate, typeMetadata:
		d.codec = stream.PrivateTS
	default:
		return nil
	}
	for _, info := range s.ElementaryStreamDescriptors {
		if info.Registration != nil {
			f := info.Registration.FormatIdentifier
			if f == identifier(formatOpus) || f == identifier(formatH265) {
				return nil // of a form that can't be carried
			}
			d.format = []byte{byte(f >> 24), byte(f >> 16), byte(f >> 8), byte(f)}
		}
		if info.ISO639LanguageAndAudioType != nil && len(info.ISO639LanguageAndAudioType.Language) == 3 {
			d.language = language(info.ISO639LanguageAndAudioType.Language)
		}
	}
	return d
}

// same reports whether d is the stream that it was.
func (d *dataStream) same(o *dataStream) bool {
	return d.pid == o.pid && d.typ == o.typ && bytes.Equal(d.format, o.format)
}

// replaceData makes other streams of data those that are followed. gone says that
// tracks there were are none any more.
func (d *Demuxer) replaceData(set []*dataStream) (gone bool) {
	for i, s := range set {
		if k := slices.IndexFunc(d.data, s.same); k >= 0 {
			set[i] = d.data[k]
		}
	}
	for _, old := range d.data {
		gone = gone || old.track != nil && !slices.Contains(set, old)
	}
	d.data = set
	return gone
}

// dataOf returns the stream of data with a PID, or nil.
func (d *Demuxer) dataOf(pid uint16) *dataStream {
	for _, s := range d.data {
		if s.pid == pid {
			return s
		}
	}
	return nil
}

// message takes a packet of SCTE 35 (2.4.4.1).
func (d *Demuxer) message(s *dataStream, body []byte, counter byte, start bool) error {
	if s.counting && counter == s.counter {
		return nil // sent twice
	}
	if s.counting && counter != (s.counter+1)&15 {
		d.stats.Lost++
		s.open = false
	}
	s.counter, s.counting = counter, true
	if start {
		if len(body) == 0 || int(body[0]) >= len(body) {
			d.stats.Errors++
			s.open = false
			return nil
		}
		rest := body[1 : 1+int(body[0])] // of the one before
		body = body[1+int(body[0]):]
		if s.open {
			s.section = append(s.section, rest...)
			if err := d.messages(s); err != nil {
				return err
			}
		}
		s.section, s.open = s.section[:0], true
	}
	if !s.open {
		return nil
	}
	s.section = append(s.section, body...)
	return d.messages(s)
}

// messages takes the sections that are complete.
func (d *Demuxer) messages(s *dataStream) error {
	b := s.section
	defer func() { s.section = append(s.section[:0], b...) }()
	for len(b) > 0 {
		if b[0] == 0xff { // stuffing
			b, s.open = nil, false
			return nil
		}
		if len(b) < 3 {
			return nil
		}
		size := 3 + int(b[1]&0x0f)<<8 + int(b[2])
		if size > maxMessage || size < 3+4 {
			d.stats.Errors++
			b, s.open = nil, false
			return nil
		}
		if len(b) < size {
			return nil
		}
		section := b[:size]
		b = b[size:]
		switch {
		case crc32(section) != 0:
			d.stats.Errors++
		case section[0] == tableCue:
			if err := d.datum(s, stream.FromTicks(d.clock.last, clockRate), d.clock.begun, nil, section); err != nil {
				return err
			}
		}
	}
	return nil
}

// private takes what has been collected of a PES packet.
func (d *Demuxer) private(s *dataStream) error {
	at, timed := s.time.pts, s.time.timed
	if !timed { // such packets go with what comes at the time
		at, timed = stream.FromTicks(d.clock.last, clockRate), d.clock.begun
	}
	err := d.datum(s, at, timed, append([]byte{s.typ, s.header[3]}, s.format...), s.data)
	s.data, s.time = s.data[:0], timing{}
	return err
}

// datum hands over a frame of data.
func (d *Demuxer) datum(s *dataStream, at time.Duration, timed bool, config, data []byte) error {
	if !timed || len(data) == 0 {
		return d.drop()
	}
	if s.track == nil || !bytes.Equal(s.track.Config, config) {
		id := uint8(DataID + slices.Index(d.data, s))
		s.track = &stream.Track{ID: id, Codec: s.codec, Config: config, Language: s.language}
		if err := d.setTracks(); err != nil {
			return err
		}
	}
	return d.Sink.Write(&stream.Frame{Track: s.track, DTS: at, PTS: at, Time: d.at, Key: true, Data: bytes.Clone(data)})
}
