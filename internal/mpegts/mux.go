package mpegts

import (
	"fmt"
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/aac"
	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/stream"
)

// Offset is the distance of PTS and DTS from the time of the frames: room for
// a PCR that runs ahead of frames at the stream's start.
const Offset = 1400 * time.Millisecond

const (
	// defaultLead is what other live muxers use.
	defaultLead = 700 * time.Millisecond
	// A PCR is due every 100 ms (2.7.2), tables by custom every 500 ms. Both are
	// written with frames only: early, if the next frame would be too late.
	pcrInterval   = 98 * time.Millisecond
	tableInterval = 400 * time.Millisecond
	minFrame      = 30 * time.Millisecond // what a frame is taken to last at least
	// maxStep is how far the frames of the track that carries the PCR may step
	// back before the clock is restarted.
	maxStep = time.Second
)

// A Muxer turns frames into a transport stream of one programme. Its zero value
// is ready for Configure. It is not safe for concurrent use.
//
// The PAT and PMT are repeated before each key frame of video and every half
// second of media, so that a receiver can join at key frames (without video, at
// any AppendTables) and the bytes be cut there. A PES packet holds one access
// unit of video or one or more audio frames. Key frames carry their parameter
// sets. The PCR is that of the first video track, or else of the first of audio.
// SCTE 35 messages are sections of a PID of their own, and private data is PES
// packets as it was.
type Muxer struct {
	// Lead is the time by which a frame's DTS is later than the PCR sent with
	// it: what a receiver that keeps to the clock waits before it decodes. 0
	// means 700 ms, at most Offset.
	Lead time.Duration

	tracks   []muxTrack
	clock    *muxTrack  // of tracks: it carries the PCR
	counters [256]uint8 // the next continuity counter of each track ID
	tables   []byte     // packets of PAT and PMT with counters 0
	program  []byte     // body of the PMT
	version  uint8      // of the PMT
	patCount uint8      // next continuity counters
	pmtCount uint8

	due    bool          // tables must be written before the next frame
	fresh  bool          // tables have been written after the last frame
	tabled time.Duration // DTS of the first frame after the last tables
	timed  bool          // a PCR has been written
	pcr    time.Duration // the last one, as the DTS that it goes with
}

// A muxTrack is how one track is carried.
type muxTrack struct {
	*stream.Track
	pid      uint16
	streamID uint8
	adts     *aac.Config
	aud      []byte // video: the access unit delimiter,
	sets     []byte // and the parameter sets, with start codes

	dts   time.Duration // of the last frame
	atPCR time.Duration // dts when the last PCR was written
	begun bool
}

// Configure states the tracks from the next frame on. An error, which wraps
// stream.ErrUnsupported, says that one of them can't be carried (see Supports)
// or that they are too many; then nothing has changed.
func (m *Muxer) Configure(tracks []*stream.Track) error {
	set := make([]muxTrack, len(tracks))
	clock := 0
	for i, t := range tracks {
		if err := set[i].init(t); err != nil {
			return err
		}
		if t.Kind() < set[clock].Kind() { // video, else audio
			clock = i
		}
	}
	var program []byte
	if len(set) > 0 {
		program = pmtBody(set, set[clock].pid)
	}
	if sectionSize+len(program) > maxSection {
		return fmt.Errorf("mpegts: %d tracks: %w", len(tracks), stream.ErrUnsupported)
	}
	if m.tables != nil && string(program) != string(m.program) {
		m.version = (m.version + 1) & 31
	}
	m.tracks, m.clock, m.program, m.due = set, nil, program, true
	if len(set) > 0 {
		m.clock = &set[clock]
	}
	m.tables = appendSection(nil, pidPAT, tablePAT, 1, 0, patBody(programme, pidPMT))
	m.tables = appendSection(m.tables, pidPMT, tablePMT, programme, m.version, program)
	return nil
}

// AppendTables appends the packets of the PAT and the PMT: what a file, a
// segment, or the point at which receivers join has to begin with. AppendFrame
// does not repeat them before the next frame, which it gives a PCR if its track
// carries the clock. Continuity counters run on: a receiver of all segments sees
// no gap, one that begins with any of them has nothing to compare with.
func (m *Muxer) AppendTables(dst []byte) []byte {
	if len(m.tables) == 0 {
		return dst
	}
	at := len(dst)
	dst = append(dst, m.tables...)
	dst[at+3] |= m.patCount
	m.patCount = (m.patCount + 1) & 15
	for at += PacketSize; at < len(dst); at += PacketSize {
		dst[at+3] |= m.pmtCount
		m.pmtCount = (m.pmtCount + 1) & 15
	}
	m.fresh, m.due = true, false
	return dst
}

// AppendFrame appends the packets of a frame, with tables and clock where they
// are due. A frame of a track that Configure was not given, or one in which
// there is nothing to send, adds nothing. It does not allocate if dst has room
// for Size bytes.
func (m *Muxer) AppendFrame(dst []byte, f *stream.Frame) []byte {
	one := [1]*stream.Frame{f}
	return m.appendPES(dst, one[:])
}

// AppendFrames is AppendFrame for each of frames, with frames of one audio
// track that follow one another in frames and in time sharing a PES packet,
// which saves up to half of the bytes at low bit rates. Frames that are to
// share one should not last longer than 100 ms together: receivers expect a
// clock that often. It appends at most what Size says of all frames.
func (m *Muxer) AppendFrames(dst []byte, frames []*stream.Frame) []byte {
	for len(frames) > 0 {
		n := run(frames)
		dst = m.appendPES(dst, frames[:n])
		frames = frames[n:]
	}
	return dst
}

// Size returns how much AppendFrame appends at most.
func (m *Muxer) Size(f *stream.Frame) int {
	t := m.track(f.Track)
	if t == nil {
		return 0
	}
	const clock = 8 // bytes of an adaptation field with a PCR
	n := clock + pesFixed + 10 + len(t.aud) + len(t.sets) + len(f.Data)
	switch t.Codec {
	case stream.AAC:
		n += aac.ADTSHeaderSize
	case stream.Opus:
		n += opusHeaderSize(len(f.Data))
	}
	return len(m.tables) + PacketSize + (n+bodySize-1)/bodySize*PacketSize
}

func (m *Muxer) track(t *stream.Track) *muxTrack {
	for i := range m.tracks {
		if m.tracks[i].Track == t {
			return &m.tracks[i]
		}
	}
	return nil
}

func (t *muxTrack) init(track *stream.Track) error {
	*t = muxTrack{Track: track, pid: pidMedia + uint16(track.ID), streamID: 0xc0}
	if err := Supports(track); err != nil {
		return err
	}
	switch track.Codec {
	case stream.H264:
		t.streamID, t.aud = 0xe0, []byte{0, 0, 0, 1, h264.TypeAUD, 0xf0} // any picture may follow
		if c, err := h264.ParseConfig(track.Config); err == nil {
			t.addSets(c.SPS)
			t.addSets(c.SPSExt)
			t.addSets(c.PPS)
		}
	case stream.H265:
		t.streamID, t.aud = 0xe0, []byte{0, 0, 0, 1, h265.TypeAUD << 1, 1, 0x50}
		if c, err := h265.ParseConfig(track.Config); err == nil {
			for _, a := range c.Arrays { // begins with VPS, SPS, PPS by its standard
				t.addSets(a.Units)
			}
		}
	case stream.AAC:
		t.adts, _ = adtsConfig(track)
	case stream.AC3, stream.Opus:
		t.streamID = 0xbd // private_stream_1
	case stream.PrivateTS:
		t.streamID = track.Config[1]
	}
	return nil
}

func (t *muxTrack) addSets(units [][]byte) {
	for _, u := range units {
		t.sets = append(append(t.sets, 0, 0, 0, 1), u...)
	}
}

// pmtBody returns the body of the PMT.
func pmtBody(tracks []muxTrack, pcr uint16) []byte {
	b := []byte{0xe0 | byte(pcr>>8), byte(pcr), 0xf0, 0}
	if slices.ContainsFunc(tracks, func(t muxTrack) bool { return t.Codec == stream.SCTE35 }) {
		info := registration(formatCue) // SCTE 35, section 8.1
		b = append(b[:3], byte(len(info)))
		b = append(b, info...)
	}
	for i := range tracks {
		t := &tracks[i]
		typ, info := t.description()
		if len(t.Language) == 3 { // ISO 639-2 as it is
			info = append(append(info, tagLanguage, 4), t.Language...)
			info = append(info, 0)
		}
		b = append(b, typ, 0xe0|byte(t.pid>>8), byte(t.pid), 0xf0|byte(len(info)>>8), byte(len(info)))
		b = append(b, info...)
	}
	return b
}

// description returns the stream type and the descriptors of a track.
func (t *muxTrack) description() (typ byte, info []byte) {
	switch t.Codec {
	case stream.SCTE35:
		return typeSCTE35, nil
	case stream.PrivateTS:
		if format := t.Config[2:]; len(format) > 0 {
			info = registration(string(format))
		}
		return t.Config[0], info
	case stream.H264:
		return typeH264, nil
	case stream.H265:
		return typeH265, registration(formatH265)
	case stream.AAC:
		return typeADTS, nil
	case stream.AC3:
		return typeAC3, registration(formatAC3)
	case stream.Opus:
		code, _ := opusCode(t.Track)
		return typePrivate, append(registration(formatOpus), tagExtension, 2, tagOpus, code)
	}
	if t.Rate > 0 && t.Rate < 32000 {
		return typeMPEG2Audio, nil
	}
	return typeMPEG1Audio, nil
}

// registration returns a registration_descriptor.
func registration(format string) []byte { return append([]byte{tagRegistration, 4}, format...) }

// measurePicture returns the size of an access unit as a byte stream without
// delimiters, and whether it has a full set of parameter sets of its own.
func (t *muxTrack) measurePicture(au []byte) (size int, sets bool) {
	const startCode = 4
	found := 0
	for {
		unit, rest, ok := nal.Next(au)
		if !ok {
			break
		}
		au = rest
		if t.isDelimiter(unit) {
			continue
		}
		size += startCode + len(unit)
		if t.Codec == stream.H264 {
			switch h264.Type(unit) {
			case h264.TypeSPS:
				found |= 1 | 4
			case h264.TypePPS:
				found |= 2
			}
		} else if typ := h265.Type(unit); typ >= h265.TypeVPS && typ <= h265.TypePPS {
			found |= 1 << (typ - h265.TypeVPS)
		}
	}
	return size, found == 7
}

func (t *muxTrack) isDelimiter(unit []byte) bool {
	if t.Codec == stream.H264 {
		return h264.Type(unit) == h264.TypeAUD
	}
	return h265.Type(unit) == h265.TypeAUD
}
