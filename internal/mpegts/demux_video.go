package mpegts

import (
	"bytes"
	"time"

	foreign "github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"

	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/stream"
)

// Bounds of what one PES packet holds; real ones have one picture of up to a
// few hundred slices.
const (
	maxUnits    = 4096
	maxPictures = 64
)

// pictureState is what is known of a stream of video from PES packet to PES
// packet.
type pictureState struct {
	units [][]byte      // scratch
	sets  []byte        // scratch
	timed bool          // next is known
	last  time.Duration // DTS of the last PES packet that had one,
	count int           // the pictures since its start,
	step  time.Duration // and the time for each; 0: unknown
	next  time.Duration // DTS of a picture that has none
}

// A unitKind is what a NAL unit means for the bounds of access units.
type unitKind uint8

const (
	unitOther     unitKind = iota
	unitDelimiter          // begins an access unit, and means nothing else
	unitFiller             // means nothing
	unitLead               // begins one when there has been a picture
	unitSet                // likewise: a parameter set
	unitFirst              // a slice that begins a picture
	unitSlice              // another slice
)

// kindOf classifies a NAL unit that is not empty: ITU-T H.264, 7.4.1.2.3, and
// H.265, 7.4.2.4.4.
func kindOf(c stream.Codec, unit []byte) unitKind {
	if c == stream.H264 {
		switch t := h264.Type(unit); {
		case t == h264.TypeAUD:
			return unitDelimiter
		case t == 12:
			return unitFiller
		case t == h264.TypeSPS || t == h264.TypePPS:
			return unitSet
		case t == h264.TypeSEI || t >= 14 && t <= 18:
			return unitLead
		case t == 3 || t == 4: // data partitions B and C
			return unitSlice
		case t >= h264.TypeSlice && t <= h264.TypeIDR:
			if len(unit) > 1 && unit[1]&0x80 != 0 { // first_mb_in_slice is 0
				return unitFirst
			}
			return unitSlice
		}
		return unitOther
	}
	t := h265.Type(unit)
	if len(unit) > 1 && (unit[0]&1 != 0 || unit[1]>>3 != 0) { // nuh_layer_id: what goes with a picture of layer 0
		if t < h265.TypeVPS {
			return unitSlice
		}
		return unitOther
	}
	switch {
	case t == h265.TypeAUD:
		return unitDelimiter
	case t == 38:
		return unitFiller
	case t >= h265.TypeVPS && t <= h265.TypePPS:
		return unitSet
	case t == h265.TypeSEI || t >= 41 && t <= 44 || t >= 48 && t <= 55:
		return unitLead
	case t < h265.TypeVPS:
		if len(unit) > 2 && unit[2]&0x80 != 0 { // first_slice_segment_in_pic_flag
			return unitFirst
		}
		return unitSlice
	}
	return unitOther
}

// beginsPicture reports whether a byte stream begins with an access unit.
func beginsPicture(c stream.Codec, b []byte) bool {
	zeros := 0
	for zeros < len(b) && b[zeros] == 0 {
		zeros++
	}
	if zeros < 2 || zeros+1 >= len(b) || b[zeros] != 1 {
		return false
	}
	kind := kindOf(c, b[zeros+1:])
	return kind != unitSlice && kind != unitOther && kind != unitFiller
}

// pictures takes the access units that es has collected, normally one.
func (d *Demuxer) pictures(es *elementary) error {
	s := &es.pictures
	if !s.split(es.data) {
		return d.drop()
	}
	if es.codec == stream.H264 {
		d.interlaced(s.units)
	}
	if !es.time.timed && !s.timed {
		return d.drop() // nothing tells when
	}
	units := s.units
	n := 0 // access units
	for rest := units; len(rest) > 0 && n < maxPictures; n++ {
		rest = rest[d.bound(es.codec, rest):]
	}
	t := es.time
	if t.timed {
		if passed := t.dts - s.last; s.timed && passed > 0 && passed <= 10*time.Second {
			s.step = passed / time.Duration(max(s.count, 1))
		}
		s.last, s.count, s.timed = t.dts, 0, true
	} else {
		t.dts, t.pts = s.next, s.next
	}
	delay := t.pts - t.dts
	for range n {
		end := d.bound(es.codec, units)
		unit := units[:end]
		units = units[end:]
		is, err := d.picture(es, unit, t)
		if err != nil {
			return err
		}
		if !is {
			continue
		}
		s.count++
		t.dts += d.step(s)
		t = timing{dts: t.dts, pts: t.dts + delay}
		s.next = t.dts
	}
	if len(units) > 0 {
		return d.drop()
	}
	return nil
}

// step returns how long a picture lasts.
func (d *Demuxer) step(s *pictureState) time.Duration {
	if s.step == 0 {
		s.step = 40 * time.Millisecond
		if t := d.tracks[VideoID-1]; t != nil {
			if info, err := t.Video(); err == nil && info.FPS > 0 {
				s.step = time.Duration(float64(time.Second) / info.FPS)
			}
		}
	}
	return s.step
}

// split finds the NAL units of a byte stream (ITU-T H.264 and H.265, annex B).
// It returns false if there are too many.
func (s *pictureState) split(b []byte) bool {
	short := startCode[1:]
	s.units = s.units[:0]
	for i := bytes.Index(b, short); i >= 0; {
		b = b[i+len(short):]
		i = bytes.Index(b, short)
		unit := b
		if i >= 0 {
			unit = b[:i]
		}
		if unit = bytes.TrimRight(unit, "\x00"); len(unit) > 0 {
			if len(s.units) == maxUnits {
				return false
			}
			s.units = append(s.units, unit)
		}
	}
	return true
}

// bound returns how many of the units belong to the first access unit. Of fields
// all do: each of the two of a frame is an access unit, but they are together in
// a PES packet, as in a frame of ours.
func (d *Demuxer) bound(c stream.Codec, units [][]byte) int {
	if c == stream.H264 && d.fields {
		return len(units)
	}
	picture := false
	for i, unit := range units {
		kind := kindOf(c, unit)
		if i > 0 && (kind == unitDelimiter || picture && (kind == unitLead || kind == unitSet || kind == unitFirst)) {
			return i
		}
		picture = picture || kind == unitFirst || kind == unitSlice
	}
	return len(units)
}

// picture takes the units of one access unit. is says whether it has a picture.
func (d *Demuxer) picture(es *elementary, units [][]byte, t timing) (is bool, err error) {
	s := &es.pictures
	s.sets = s.sets[:0]
	for _, unit := range units {
		switch kindOf(es.codec, unit) {
		case unitSet:
			s.sets = nal.Append(s.sets, unit)
		case unitFirst, unitSlice:
			is = true
		}
	}
	if len(s.sets) > 0 {
		if err := d.update(es); err != nil {
			return is, err
		}
	}
	track := d.tracks[VideoID-1]
	if !is {
		return false, nil
	}
	if track == nil || track.Codec != es.codec {
		return true, d.drop()
	}
	size, n := 0, 0
	for _, unit := range units {
		switch kind := kindOf(es.codec, unit); {
		case kind == unitDelimiter, kind == unitFiller, kind == unitSet && d.known(unit):
			continue
		}
		units[n] = unit
		n++
		size += nal.LengthSize + len(unit)
	}
	data := make([]byte, 0, size)
	for _, unit := range units[:n] {
		data = nal.Append(data, unit)
	}
	f := &stream.Frame{Track: track, DTS: t.dts, PTS: t.pts, Time: d.at, Discontinuity: t.broken, Data: data}
	if es.codec == stream.H264 {
		info, _ := h264.Inspect(data)
		// Streams without IDR pictures have points at which decoding recovers.
		f.Key = info.Key || t.random && len(s.sets) > 0
		f.Discardable = info.Discardable
	} else {
		info, _ := h265.Inspect(data)
		f.Key, f.Temporal = info.Key, info.Temporal
		// Such a picture may still serve higher sub-layers, if there are any.
		f.Discardable = info.NonReference && d.hevc.TemporalLayers > 0 && info.Temporal+1 >= d.hevc.TemporalLayers
	}
	return true, d.Sink.Write(f)
}

// known reports whether the track's configuration has a parameter set.
func (d *Demuxer) known(unit []byte) bool {
	if d.avc != nil {
		return nal.Contains(d.avc.SPS, unit) || nal.Contains(d.avc.PPS, unit)
	}
	return nal.Contains(d.hevc.Units(h265.Type(unit)), unit)
}

// update puts a track into force that has the parameter sets of an access unit.
func (d *Demuxer) update(es *elementary) error {
	// The new sets are copied into the record: the track outlives the buffer.
	if es.codec == stream.H264 {
		c, changed := d.avc.Update(es.pictures.sets)
		if !changed || len(c.PPS) == 0 {
			return nil
		}
		record := c.Append(nil)
		c, err := h264.ParseConfig(record)
		if err != nil {
			d.stats.Errors++
			return nil
		}
		d.avc, d.hevc = c, nil
		return d.setTrack(&stream.Track{ID: VideoID, Codec: stream.H264, Config: record})
	}
	c, changed := d.hevc.Update(es.pictures.sets)
	if !changed || len(c.Units(h265.TypePPS)) == 0 {
		return nil
	}
	record := c.Append(nil)
	c, err := h265.ParseConfig(record)
	if err != nil {
		d.stats.Errors++
		return nil
	}
	d.avc, d.hevc = nil, c
	return d.setTrack(&stream.Track{ID: VideoID, Codec: stream.H265, Config: record})
}

// interlaced finds out whether pictures may be fields, if there is a new
// parameter set.
func (d *Demuxer) interlaced(units [][]byte) {
	for _, unit := range units {
		if h264.Type(unit) == h264.TypeSPS && (d.avc == nil || !nal.Contains(d.avc.SPS, unit)) {
			var sps foreign.SPS
			d.fields = sps.Unmarshal(unit) == nil && !sps.FrameMbsOnlyFlag
		}
	}
}
