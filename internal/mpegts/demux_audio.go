package mpegts

import (
	"bytes"
	"time"

	"github.com/runnel-media/runnel/internal/aac"
	"github.com/runnel-media/runnel/internal/ac3"
	"github.com/runnel-media/runnel/internal/mp3"
	"github.com/runnel-media/runnel/internal/opus"
	"github.com/runnel-media/runnel/stream"
)

// soundState is what is known of a stream of audio from PES packet to PES
// packet.
type soundState struct {
	mark    int  // where in data the PES packet at hand begins: its timestamp is for what starts there
	locked  bool // data begins with a frame
	timed   bool // the two below are known
	base    time.Duration
	samples int64         // from base to the next frame
	track   *stream.Track // made of this stream's frames,
	shape   soundShape    // which are like this
	layerII bool          // of MPEG audio: there were frames of a layer that is not carried
}

// A soundShape is what makes a track of audio, beside its codec.
type soundShape struct {
	rate, channels int
	aacType        int // audio object type
	aacChannels    int // channel configuration
}

// A soundFrame is what the start of a frame tells.
type soundFrame struct {
	head, size int // bytes of the header that is taken off, and of both
	samples    int
	shape      soundShape
}

// parseSound looks at the frame at the start of b. more is whether b ends too
// early to say, or within the frame; ok is false if there is no frame.
func (es *elementary) parseSound(b []byte) (f soundFrame, more, ok bool) {
	switch es.codec {
	case stream.AAC:
		if len(b) < aac.ADTSHeaderSize {
			return f, true, b[0] == 0xff
		}
		if b[0] != 0xff || b[1]&0xf6 != 0xf0 { // ParseADTS says so too, with an error that costs more
			return f, false, false
		}
		c, head, size, err := aac.ParseADTS(b)
		if err != nil || size == head {
			return f, false, false
		}
		f = soundFrame{head, size, c.FrameSize, soundShape{c.Rate, c.Channels, c.Type, c.ChannelConfig}}
	case stream.MP3:
		if len(b) < mp3.HeaderSize {
			return f, true, b[0] == 0xff
		}
		if b[0] != 0xff || b[1]&0xe0 != 0xe0 {
			return f, false, false
		}
		h, err := mp3.Parse(b)
		if err != nil || h.Layer != 3 || h.Size < mp3.HeaderSize {
			es.sound.layerII = es.sound.layerII || err == nil && h.Layer == 2
			return f, false, false
		}
		f = soundFrame{0, h.Size, h.Samples, soundShape{rate: h.Rate, channels: h.Channels}}
	case stream.AC3:
		if len(b) < ac3.HeaderSize {
			return f, true, b[0] == 0x0b
		}
		if b[0] != 0x0b || b[1] != 0x77 {
			return f, false, false
		}
		h, err := ac3.Parse(b)
		if err != nil || h.Size < ac3.HeaderSize {
			return f, false, false
		}
		f = soundFrame{0, h.Size, 1536, soundShape{rate: h.Rate, channels: h.Channels}}
	case stream.Opus:
		head, size, more, ok := parseOpusHeader(b)
		if more || !ok {
			return f, more, ok
		}
		f = soundFrame{head, head + size, 0, soundShape{rate: opus.Rate}}
		if len(b) >= f.size {
			f.samples = opus.Samples(b[head:f.size])
			ok = f.samples > 0
		}
		return f, len(b) < f.size, ok
	}
	return f, len(b) < f.size, true
}

// sounds takes the frames that es has collected and keeps the start of the one
// that is not complete.
func (d *Demuxer) sounds(es *elementary) error {
	s := &es.sound
	data := bytes.Clone(es.data) // the frames alias it
	pos := 0
	var err error
	for pos < len(data) && err == nil {
		f, more, ok := es.parseSound(data[pos:])
		if ok && !more && !s.locked && pos+f.size < len(data) {
			// Data begins in the midst of a frame, in which there may be what
			// looks like another: one must follow.
			_, _, ok = es.parseSound(data[pos+f.size:])
		}
		if !ok {
			if s.locked {
				_ = d.drop()
				s.locked = false
			}
			pos++
			continue
		}
		if pos >= s.mark && es.time.timed {
			s.timed, s.base, s.samples = true, es.time.dts, 0
			es.time.timed = false
		}
		if more {
			break
		}
		s.locked = true
		end := pos + f.size
		err = d.sound(es, &f, data[pos+f.head:end:end])
		pos = end
	}
	es.data = append(es.data[:0], data[min(pos, len(data)):]...)
	es.time.timed, s.mark = false, 0
	return err
}

// sound takes one frame.
func (d *Demuxer) sound(es *elementary, f *soundFrame, data []byte) error {
	s := &es.sound
	if !s.timed {
		return d.drop()
	}
	if s.track == nil || s.shape != f.shape {
		if err := d.setTrack(es.track(f)); err != nil {
			return err
		}
		s.track = d.tracks[AudioID-1]     // an equal one may have been there
		if s.shape.rate != f.shape.rate { // samples counts those of another length
			s.base += stream.FromTicks(s.samples, max(s.shape.rate, 1))
			s.samples = 0
		}
		s.shape = f.shape
	}
	at := s.base + stream.FromTicks(s.samples, f.shape.rate)
	s.samples += int64(f.samples)
	broken := es.time.broken
	es.time.broken = false
	return d.Sink.Write(&stream.Frame{Track: s.track, DTS: at, PTS: at, Time: d.at, Key: true, Discontinuity: broken, Data: data})
}

// track returns the track that has frames like f.
func (es *elementary) track(f *soundFrame) *stream.Track {
	t := &stream.Track{ID: AudioID, Codec: es.codec, Rate: f.shape.rate, Channels: f.shape.channels, Language: es.language}
	switch es.codec {
	case stream.AAC:
		c := aac.Config{Type: f.shape.aacType, Rate: f.shape.rate, ChannelConfig: f.shape.aacChannels}
		t.Config = c.Append(nil)
	case stream.Opus:
		h := opusHead(es.opusCode)
		t.Channels, t.Config = h.Channels, h.Append(nil)
	}
	return t
}
