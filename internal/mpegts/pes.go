package mpegts

import (
	"time"

	"github.com/runnel-media/runnel/stream"
)

// Bounds of what is collected of one elementary stream until it makes a frame.
const (
	maxPicture = 8 << 20
	maxSound   = 256 << 10
	// keepBuffer is how large a buffer may be that is kept for smaller pictures.
	keepBuffer = 1 << 20
	// maxWhole is how long a PES packet of video may be that is taken for a
	// whole access unit at its end. Some encoders, which always state a length,
	// cut larger ones into several packets, all but the last of which are full.
	maxWhole = 65000
)

// An elementary is a stream of PES packets that is followed: what has been
// collected of the packet at hand, and for audio of the frame that its
// predecessor ended in.
//
// PES packets are not read by go-astits as the tables are. With each packet that
// it gets, it copies all it has to see whether the PES packet is complete: 0.2 s
// for a picture of 1 MB. And it has no bound for what it collects.
type elementary struct {
	pid      uint16
	codec    stream.Codec
	opusCode byte
	language string

	counter  byte // the last one
	counting bool
	state    pesState
	header   [pesFixed + 255]byte
	have     int // bytes of it
	left     int // bytes of the packet's payload that are to come; below 0: unknown
	starting timing
	random   bool // random_access_indicator of the packet at hand

	data []byte
	time timing // of what is in data

	pictures pictureState
	sound    soundState
}

type pesState uint8

const (
	pesSkip   pesState = iota // up to the next packet
	pesHeader                 // in the header
	pesBegin                  // behind it
	pesBody                   // in the payload
)

// A timing is what the header of a PES packet says of the access unit that
// starts in it.
type timing struct {
	timed    bool
	dts, pts time.Duration
	random   bool // decoding can start there
	broken   bool // the clock was restarted before it
}

// payload takes what a transport packet carries for es.
func (d *Demuxer) payload(es *elementary, body []byte, counter byte, start bool, flags byte) error {
	if es.counting && flags&flagDiscontinuity == 0 && counter != (es.counter+1)&15 {
		if counter == es.counter {
			return nil // sent twice (2.4.3.3)
		}
		d.stats.Lost++
		if err := d.damage(es); err != nil {
			return err
		}
	}
	es.counter, es.counting = counter, true
	if start {
		if es.state == pesHeader {
			d.stats.Errors++
		}
		if es.state == pesBody && es.codec.Kind() != stream.Video {
			if err := d.flush(es); err != nil { // its length was unknown, or wrong
				return err
			}
		}
		es.state, es.have, es.random = pesHeader, 0, flags&flagRandomAccess != 0
	}
	if es.state == pesHeader {
		var err error
		if body, err = d.header(es, body); err != nil {
			return err
		}
	}
	if es.state < pesBegin || len(body) == 0 {
		return nil
	}
	if es.state == pesBegin {
		if err := d.begin(es, body); err != nil || es.state != pesBody {
			return err
		}
	}
	if es.left >= 0 {
		body = body[:min(len(body), es.left)]
		es.left -= len(body)
	}
	if len(es.data)+len(body) > es.limit() {
		es.data, es.state = nil, pesSkip
		return d.drop()
	}
	es.data = append(es.data, body...)
	if es.left != 0 {
		return nil
	}
	es.state = pesSkip
	if es.codec.Kind() == stream.Video && es.declared() > maxWhole {
		return nil // the next packet tells
	}
	return d.flush(es)
}

// header collects the header of a PES packet and returns the rest of body.
func (d *Demuxer) header(es *elementary, body []byte) (rest []byte, err error) {
	for {
		need := pesFixed
		if es.have >= pesFixed {
			need += int(es.header[pesFixed-1])
		}
		n := copy(es.header[es.have:need], body)
		es.have += n
		body = body[n:]
		if es.have < need {
			return nil, nil
		}
		if es.have == pesFixed && es.header[pesFixed-1] > 0 && need == pesFixed {
			continue
		}
		break
	}
	if ok := d.parseHeader(es); !ok {
		es.state = pesSkip
		d.stats.Errors++
		return nil, d.flush(es)
	}
	es.state = pesBegin
	return body, nil
}

// declared returns PES_packet_length.
func (es *elementary) declared() int { return int(es.header[4])<<8 | int(es.header[5]) }

// parseHeader reads a complete header (2.4.3.7).
func (d *Demuxer) parseHeader(es *elementary) bool {
	h := es.header[:es.have]
	if h[0] != 0 || h[1] != 0 || h[2] != 1 || !framed(h[3]) || h[6]&0xf0 != 0x80 { // of MPEG-2, not scrambled
		return false
	}
	optional := h[pesFixed:]
	es.left = -1
	if n := es.declared(); n > 0 {
		if es.left = n - (len(h) - pesUncounted); es.left < 0 {
			return false
		}
	}
	es.starting = timing{random: es.random}
	pts, dts := int64(0), int64(0)
	switch h[7] >> 6 {
	case 2:
		if len(optional) < 5 {
			return false
		}
		pts = parseTime(optional)
		dts = pts
	case 3:
		if len(optional) < 10 {
			return false
		}
		pts, dts = parseTime(optional), parseTime(optional[5:])
	default:
		return true
	}
	es.starting.timed, es.starting.broken, d.broken = true, d.broken, false
	es.starting.dts, es.starting.pts = d.clock.times(pts, dts)
	return true
}

// framed reports whether PES packets with a stream_id have the whole header and
// may carry what is followed: those of audio and video, private_stream_1, metadata
// and extended_stream_id.
func framed(id byte) bool { return id >= 0xc0 && id <= 0xef || id == 0xbd || id == 0xfc || id == 0xfd }

func parseTime(b []byte) int64 {
	return int64(b[0]>>1&7)<<30 | int64(b[1])<<22 | int64(b[2]>>1)<<15 | int64(b[3])<<7 | int64(b[4]>>1)
}

// begin decides what the payload that begins with body is: of video without a
// timestamp, the rest of the picture that is there already, or the next.
func (d *Demuxer) begin(es *elementary, body []byte) error {
	es.state = pesBody
	switch es.codec.Kind() {
	case stream.Audio:
		es.time, es.sound.mark = es.starting, len(es.data)
		return nil
	case stream.Data:
		es.time = es.starting
		return nil
	}
	if !es.starting.timed && !beginsPicture(es.codec, body) {
		if len(es.data) == 0 {
			es.state = pesSkip
			return d.drop()
		}
		return nil
	}
	if err := d.flush(es); err != nil {
		return err
	}
	es.time = es.starting
	return nil
}

// limit returns how much may be collected.
func (es *elementary) limit() int {
	if es.codec.Kind() == stream.Video {
		return maxPicture
	}
	return maxSound
}

// damage is told that something is missing: what follows in the PES packet at
// hand can't be used.
func (d *Demuxer) damage(es *elementary) error {
	es.state = pesSkip
	if es.codec.Kind() != stream.Audio {
		if len(es.data) == 0 {
			return nil
		}
		es.data = es.data[:0]
		return d.drop()
	}
	err := d.flush(es) // the frames that are complete
	es.data, es.time = es.data[:0], timing{}
	es.sound.locked, es.sound.timed = false, false
	return err
}

// flush hands over what has been collected, but for the start of an audio frame
// that is not complete.
func (d *Demuxer) flush(es *elementary) error {
	if len(es.data) == 0 {
		return nil
	}
	switch es.codec.Kind() {
	case stream.Audio:
		return d.sounds(es)
	case stream.Data:
		return d.private(d.dataOf(es.pid))
	}
	err := d.pictures(es)
	if n := cap(es.data); n > keepBuffer && len(es.data) < n/4 {
		es.data = nil
	}
	es.data = es.data[:0]
	return err
}
