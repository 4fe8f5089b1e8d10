package transcode

import (
	"bytes"
	"fmt"
	"time"

	"github.com/runnel-media/runnel/internal/opus"
	"github.com/runnel-media/runnel/stream"
)

const (
	// maxConcealed is how much may be missing and is concealed; after more the
	// sound begins anew. Opus pauses for 400 ms where it sends nothing in silence.
	maxConcealed = time.Second
	// maxEarly is how much a packet may come before its time.
	maxEarly = 200 * time.Millisecond
	// maxDrift is how far the packets may be from the source's timeline, on
	// average, before they are put back on it.
	maxDrift = 5 * time.Millisecond
	// driftFrames is over how many packets that average goes.
	driftFrames = 16
	// maxMalformed is how many packets in a row may be malformed.
	maxMalformed = 100
)

// A soundLine turns packets of one codec into packets of another. Their times are
// counted in samples from that of the first packet, and compared with the source's.
type soundLine struct {
	dec   Decoder
	enc   Encoder
	res   *resampler // nil: the rates are the same
	heard func(pts time.Duration, broken bool, packet []byte)
	exact bool // a gap between the source's times is a loss, however short

	in, out Format

	base    time.Duration // when the first sample is heard
	samples int64         // decoded since
	packets int64         // made of them
	begun   bool
	broken  bool          // the next packet is the first behind a break
	last    time.Duration // PTS of the packet that was made last
	made    bool          // there was one
	length  time.Duration // of the last packet that was decoded
	drift   time.Duration // average distance of the source's times from those counted
	checked int           // of how many packets, up to driftFrames
	bad     int           // malformed packets in a row

	decoded []float32
	waiting []float32 // for a whole frame
	packet  []byte
}

// newSoundLine takes over the codecs.
func newSoundLine(d Decoder, e Encoder, heard func(time.Duration, bool, []byte)) (*soundLine, error) {
	l := &soundLine{dec: d, enc: e, heard: heard, in: d.Format(), out: e.Format()}
	if l.in.Channels != l.out.Channels || l.in.Channels < 1 || l.in.Rate < 1 || l.out.Rate < 1 || e.FrameSize() < 1 {
		l.close()
		return nil, fmt.Errorf("transcode: codecs that do not fit: %v decoded, %v to encode", l.in, l.out)
	}
	var err error
	if l.res, err = newResampler(l.in.Rate, l.out.Rate, l.in.Channels); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *soundLine) close() {
	l.dec.Close()
	l.enc.Close()
}

// write takes a packet of the source. An error is the encoder's, or says that no
// packet can be decoded.
func (l *soundLine) write(f *stream.Frame) error {
	off := f.PTS - l.base - stream.FromTicks(l.samples, l.in.Rate)
	switch {
	case !l.begun:
		l.begin(f.PTS)
	case f.Discontinuity, off > maxConcealed, off < -maxEarly:
		if err := l.drain(); err != nil {
			return err
		}
		l.begin(f.PTS)
	case l.exact && l.length > 0 && off < -l.length*3/4:
		return nil // a packet for the second time
	case l.lost(off):
		missing := stream.Ticks(off, l.in.Rate)
		l.decoded = l.dec.Conceal(l.decoded[:0], int(missing))
		if err := l.feed(); err != nil {
			return err
		}
		l.drift = 0
	default:
		l.checked = min(l.checked+1, driftFrames)
		l.drift += (off - l.drift) / time.Duration(l.checked)
		// The first packet of a stream may have been put off its time.
		if l.checked > 2 && (l.drift > maxDrift || l.drift < -maxDrift) {
			l.base += l.drift
			l.drift = 0
		}
	}
	l.broken = l.broken || f.Discontinuity

	var err error
	if l.decoded, err = l.dec.Decode(l.decoded[:0], f.Data); err != nil {
		if l.bad++; l.bad > maxMalformed {
			return fmt.Errorf("transcode: %d packets in a row cannot be decoded: %w", l.bad, err)
		}
		missing := int(stream.Ticks(l.length, l.in.Rate))
		if n := opus.Samples(f.Data); l.exact && n > 0 {
			missing = n
		}
		l.decoded = l.dec.Conceal(l.decoded[:0], missing)
	} else {
		l.bad = 0
	}
	l.length = stream.FromTicks(int64(len(l.decoded)/l.in.Channels), l.in.Rate)
	return l.feed()
}

// lost reports whether packets are missing before one that is so far off its time.
// Publishers of other codecs than Opus take times from a clock of their own, or give
// one to several packets.
func (l *soundLine) lost(off time.Duration) bool {
	if l.exact {
		return off > l.length/2 && off > time.Millisecond
	}
	return off > max(l.length*3/2, 40*time.Millisecond)
}

// begin sets the line to begin with a packet of that time.
func (l *soundLine) begin(at time.Duration) {
	l.begun = true
	l.base, l.samples, l.packets, l.drift, l.checked, l.length = at, 0, 0, 0, 0, 0
	l.waiting = l.waiting[:0]
}

// feed encodes what was decoded.
func (l *soundLine) feed() error {
	l.samples += int64(len(l.decoded) / l.in.Channels)
	if l.res == nil {
		l.waiting = append(l.waiting, l.decoded...)
	} else {
		l.waiting = l.res.append(l.waiting, l.decoded)
	}
	return l.encode()
}

// encode encodes the whole frames of what waits.
func (l *soundLine) encode() error {
	size := l.enc.FrameSize() * l.out.Channels
	used := 0
	for ; len(l.waiting)-used >= size; used += size {
		var err error
		if l.packet, err = l.enc.Encode(l.packet[:0], l.waiting[used:used+size]); err != nil {
			return err
		}
		if len(l.packet) == 0 {
			continue // it looks ahead
		}
		pts := l.base + stream.FromTicks(l.packets*int64(l.enc.FrameSize())-int64(l.enc.Delay()), l.out.Rate)
		l.packets++
		// Nothing is heard before the stream begins, nor twice.
		if pts >= 0 && (!l.made || pts > l.last) {
			l.heard(pts, l.broken, bytes.Clone(l.packet))
			l.last, l.made, l.broken = pts, true, false
		}
	}
	l.waiting = l.waiting[:copy(l.waiting, l.waiting[used:])]
	return nil
}

// drain encodes what the codecs and the resampler still hold, behind which comes
// silence.
func (l *soundLine) drain() error {
	if !l.begun {
		return nil
	}
	l.decoded = l.decoded[:0]
	if l.res != nil {
		l.waiting = l.res.append(l.waiting, make([]float32, l.res.tail()*l.in.Channels))
	}
	end := stream.Ticks(stream.FromTicks(l.samples, l.in.Rate), l.out.Rate) + int64(l.enc.Delay())
	frame := int64(l.enc.FrameSize())
	for range 8 { // none looks ahead further
		if l.packets*frame >= end {
			break
		}
		short := int(frame)*l.out.Channels - len(l.waiting)
		l.waiting = append(l.waiting, make([]float32, max(short, 0))...)
		if err := l.encode(); err != nil {
			return err
		}
	}
	l.begun = false
	l.dec.Reset()
	l.enc.Reset()
	if l.res != nil {
		l.res.reset()
	}
	return nil
}
