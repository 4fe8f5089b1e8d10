package mpegts

import (
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/aac"
	"github.com/runnel-media/runnel/internal/mp3"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/internal/opus"
	"github.com/runnel-media/runnel/stream"
)

// maxRun bounds the audio frames that share a PES packet, in bytes.
const maxRun = 60000

// run returns how many frames from the first on may share a PES packet.
func run(frames []*stream.Frame) int {
	const tolerance = 2 * time.Millisecond // of publishers whose clock counts milliseconds
	first := frames[0]
	if first.Track.Kind() != stream.Audio {
		return 1
	}
	size := len(first.Data)
	for n := 1; n < len(frames); n++ {
		f, prev := frames[n], frames[n-1]
		if f.Track != first.Track || f.Discontinuity {
			return n
		}
		gap := f.DTS - prev.DTS - duration(prev)
		if size += len(f.Data); size > maxRun || gap < -tolerance || gap > tolerance {
			return n
		}
	}
	return len(frames)
}

// duration returns how long an audio frame lasts.
func duration(f *stream.Frame) time.Duration {
	samples, rate := 0, f.Track.Rate
	switch f.Track.Codec {
	case stream.AAC:
		samples = 1024
	case stream.AC3:
		samples = 1536
	case stream.Opus:
		samples, rate = opus.Samples(f.Data), opus.Rate
	case stream.MP3:
		h, _ := mp3.Parse(f.Data)
		samples, rate = h.Samples, h.Rate
	}
	if rate <= 0 {
		return 0
	}
	return stream.FromTicks(int64(samples), rate)
}

// appendPES appends a PES packet with frames of one track.
func (m *Muxer) appendPES(dst []byte, frames []*stream.Frame) []byte {
	f := frames[0]
	t := m.track(f.Track)
	if t == nil {
		return dst
	}
	video := t.aud != nil
	key := video && f.Key
	size, sets := t.measure(frames)
	if size == 0 {
		return dst
	}
	if m.due || !m.fresh && (key || f.DTS >= m.tabled+tableInterval || f.DTS < m.tabled-maxStep) {
		dst = m.AppendTables(dst)
	}
	joint := m.fresh && t.Kind() != stream.Data // receivers may start here
	if joint {
		m.fresh, m.tabled = false, f.DTS
	}

	if t.Codec == stream.SCTE35 {
		return m.appendMessage(dst, t, f.Data)
	}
	pcr, broken := m.tick(t, frames, video || joint)
	var flags byte // of the adaptation field
	field := 0     // its size
	switch {
	case pcr && t != m.clock:
		dst = m.appendPCR(dst, broken)
	case pcr:
		flags, field = flagPCR, 8
		if broken {
			flags |= flagDiscontinuity
		}
		if !video {
			flags |= flagRandomAccess
		}
	}
	if key {
		flags, field = flags|flagRandomAccess, max(field, 2)
	}

	var buf [pesFixed + 10]byte
	header := appendPESHeader(buf[:0], t.streamID, f, size)
	total := len(header) + size
	packets := 1 + (max(total-bodySize+field, 0)+bodySize-1)/bodySize
	at := len(dst)
	dst = slices.Grow(dst, packets*PacketSize)[:at+packets*PacketSize]
	w := writer{out: dst[at:], left: total, counter: m.counters[t.ID]}
	w.head = syncByte<<24 | uint32(t.pid)<<8 | 0x10
	m.counters[t.ID] = byte(int(w.counter)+packets) & 15
	w.first(field, flags, m.reference())
	w.write(header)
	if video {
		t.writePicture(&w, f, sets)
	} else {
		t.writeSound(&w, frames)
	}
	return dst
}

// appendMessage appends the packets of a section that comes as it is.
func (m *Muxer) appendMessage(dst []byte, t *muxTrack, section []byte) []byte {
	at := len(dst)
	dst = appendPackets(dst, t.pid, section)
	for ; at < len(dst); at += PacketSize {
		dst[at+3] |= m.counters[t.ID]
		m.counters[t.ID] = (m.counters[t.ID] + 1) & 15
	}
	return dst
}

// tick decides whether a PCR goes with frames; always says that one must if
// their track carries the clock. broken says that the clock has been restarted.
func (m *Muxer) tick(t *muxTrack, frames []*stream.Frame, always bool) (pcr, broken bool) {
	f, own := frames[0], t == m.clock
	if !own && t.Kind() == stream.Data { // too seldom to tell the time
		return false, false
	}
	t.dts = f.DTS
	if !t.begun {
		t.begun, t.atPCR = true, f.DTS
	}
	next := f.DTS + minFrame
	if t.aud == nil {
		last := frames[len(frames)-1]
		next = max(next, last.DTS+duration(last))
	}
	switch broken = m.timed && (f.Discontinuity || own && f.DTS < m.pcr-maxStep); {
	case !m.timed || broken:
		m.pcr = f.DTS
	case own:
		if !always && next-m.pcr <= pcrInterval {
			return false, false
		}
		m.pcr = max(f.DTS, m.pcr+time.Microsecond)
	default:
		// The track that carries the clock is silent, or slower than this.
		// Tracks may be apart: time passes by as much as it does on this one.
		if next-t.atPCR <= pcrInterval {
			return false, false
		}
		m.pcr += max(f.DTS-t.atPCR, time.Microsecond)
	}
	m.timed = true
	for i := range m.tracks {
		m.tracks[i].atPCR = m.tracks[i].dts
	}
	return true, broken
}

// reference returns the PCR.
func (m *Muxer) reference() int64 {
	lead := m.Lead
	if lead <= 0 {
		lead = defaultLead
	}
	return stream.Ticks(m.pcr+Offset-min(lead, Offset), pcrRate)
}

// appendPCR appends a packet that has nothing but a PCR. It does not count
// (2.4.3.3).
func (m *Muxer) appendPCR(dst []byte, broken bool) []byte {
	at := len(dst)
	dst = slices.Grow(dst, PacketSize)[:at+PacketSize]
	w := writer{out: dst[at:], counter: (m.counters[m.clock.ID] - 1) & 15}
	w.head = syncByte<<24 | uint32(m.clock.pid)<<8 | 0x20
	flags := byte(flagPCR)
	if broken {
		flags |= flagDiscontinuity
	}
	w.first(8, flags, m.reference())
	return dst
}

// appendPESHeader appends the header of a PES packet (2.4.3.6) for an elementary
// stream of size bytes that begins with f.
func appendPESHeader(dst []byte, id byte, f *stream.Frame, size int) []byte {
	dts := stream.Ticks(f.DTS+Offset, clockRate) & clockMask
	pts := stream.Ticks(max(f.PTS, f.DTS)+Offset, clockRate) & clockMask
	optional := 5
	if pts != dts {
		optional = 10
	}
	length := pesFixed - pesUncounted + optional + size
	if length > pesLengthMax {
		length = 0 // any; meant for video, and no audio frame is so long but of many Opus channels
	}
	dst = append(dst, 0, 0, 1, id, byte(length>>8), byte(length),
		0x84, // the frame is aligned with the packet
		0x80, byte(optional))
	if pts == dts {
		return appendTime(dst, 2, pts)
	}
	dst[len(dst)-2] = 0xc0
	return appendTime(appendTime(dst, 3, pts), 1, dts)
}

// appendTime appends a PTS or DTS with its four bits of prefix.
func appendTime(dst []byte, prefix byte, t int64) []byte {
	return append(dst, prefix<<4|byte(t>>29)&0xe|1, byte(t>>22), byte(t>>14)|1, byte(t>>7), byte(t<<1)|1)
}

// measure returns the size of the frames as an elementary stream, and whether
// the parameter sets must go before them.
func (t *muxTrack) measure(frames []*stream.Frame) (size int, sets bool) {
	if t.aud != nil {
		f := frames[0]
		size, own := t.measurePicture(f.Data)
		if size == 0 {
			return 0, false
		}
		if sets = f.Key && !own; sets {
			size += len(t.sets)
		}
		return len(t.aud) + size, sets
	}
	for _, f := range frames {
		if t.fits(f) {
			size += len(f.Data)
			switch t.Codec {
			case stream.AAC:
				size += aac.ADTSHeaderSize
			case stream.Opus:
				size += opusHeaderSize(len(f.Data))
			}
		}
	}
	return size, false
}

// fits reports whether a frame of audio or data can be sent.
func (t *muxTrack) fits(f *stream.Frame) bool {
	switch t.Codec {
	case stream.AAC:
		return len(f.Data) > 0 && len(f.Data) <= maxADTS
	case stream.SCTE35:
		return len(f.Data) > 0 && len(f.Data) <= maxMessage
	case stream.PrivateTS:
		return len(f.Data) > 0 && len(f.Data) <= maxRun
	}
	return len(f.Data) > 0
}

// maxADTS is the size of the largest frame that an ADTS header can announce.
const maxADTS = 1<<13 - 1 - aac.ADTSHeaderSize

var startCode = []byte{0, 0, 0, 1}

func (t *muxTrack) writePicture(w *writer, f *stream.Frame, sets bool) {
	w.write(t.aud)
	if sets {
		w.write(t.sets)
	}
	for au := f.Data; ; {
		unit, rest, ok := nal.Next(au)
		if !ok {
			return
		}
		if au = rest; !t.isDelimiter(unit) {
			w.write(startCode)
			w.write(unit)
		}
	}
}

func (t *muxTrack) writeSound(w *writer, frames []*stream.Frame) {
	var buf [32]byte
	for _, f := range frames {
		if !t.fits(f) {
			continue
		}
		switch t.Codec {
		case stream.AAC:
			header, _ := t.adts.AppendADTS(buf[:0], len(f.Data)) // Supports and fits have tried it
			w.write(header)
		case stream.Opus:
			w.write(appendOpusHeader(buf[:0], len(f.Data)))
		}
		w.write(f.Data)
	}
}
