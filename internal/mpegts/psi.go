package mpegts

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/asticode/go-astits"

	"github.com/runnel-media/runnel/stream"
)

// tables is what the PAT and the PMT say.
type tables struct {
	pat, pmt *sections

	number uint16 // of the programme; 0: none yet
	pmtPID uint16 // 0: unknown
	pcrPID uint16
	absent int  // tables in a row that do not name the programme
	found  bool // there was a PMT

	refused []string // streams that can't be carried
}

// maxAbsent is how many sections of the PAT may leave out the programme before
// another takes its place: a long PAT has several.
const maxAbsent = 3

// section takes a packet of the PAT or of the programme's PMT.
func (d *Demuxer) section(p, body []byte, pid uint16, start bool) error {
	t := &d.tables
	if start && announced(body) {
		return nil
	}
	if pid == pidPAT {
		if t.pat == nil {
			t.pat = newSections()
		}
		return d.feed(t.pat, p, start, func(data *astits.DemuxerData) error {
			if data.PAT != nil {
				d.programmes(data.PAT)
			}
			return nil
		})
	}
	return d.feed(t.pmt, p, start, func(data *astits.DemuxerData) error {
		if data.PMT != nil && data.PMT.ProgramNumber == t.number && data.PID == t.pmtPID {
			return d.programme(data.PMT)
		}
		return nil
	})
}

// announced reports whether the first section that starts in a packet is not
// in force yet (current_next_indicator).
func announced(body []byte) bool {
	const indicator = 1 + 5 // behind the pointer, in the section
	if len(body) == 0 || len(body) < int(body[0])+indicator+1 {
		return false
	}
	return body[int(body[0])+indicator]&1 == 0
}

// programmes chooses the programme to follow.
func (d *Demuxer) programmes(pat *astits.PATData) {
	t := &d.tables
	var first *astits.PATProgram
	for _, p := range pat.Programs {
		if p.ProgramNumber == 0 || p.ProgramMapID < 0x10 || p.ProgramMapID >= pidNull ||
			d.Programme != 0 && p.ProgramNumber != d.Programme {
			continue
		}
		if p.ProgramNumber == t.number {
			d.follow(p)
			return
		}
		if first == nil {
			first = p
		}
	}
	if t.absent++; first != nil && (t.number == 0 || t.absent >= maxAbsent) {
		d.follow(first)
	}
}

// follow makes p the programme.
func (d *Demuxer) follow(p *astits.PATProgram) {
	t := &d.tables
	t.absent = 0
	if t.number == p.ProgramNumber && t.pmtPID == p.ProgramMapID {
		return
	}
	t.number, t.pmtPID = p.ProgramNumber, p.ProgramMapID
	t.pmt = newSections()
	// go-astits takes a PID for that of a PMT only if a PAT names it: ours
	// names no other, so that there is none that it could collect packets of.
	pat := appendSection(nil, pidPAT, tablePAT, 1, 0, patBody(t.number, t.pmtPID))
	_ = d.feed(t.pmt, pat, true, func(*astits.DemuxerData) error { return nil })
}

// programme takes the PMT.
func (d *Demuxer) programme(pmt *astits.PMTData) error {
	t := &d.tables
	t.found, t.pcrPID = true, pmt.PCRPID
	var video, audio *elementary
	var data []*dataStream
	var refused []string
	for _, s := range pmt.ElementaryStreams {
		es := newElementary(s)
		switch {
		case es.pid < 0x10 || es.pid == t.pmtPID || es.pid >= pidNull:
		case es.codec == 0 && newData(s) != nil:
			if len(data) < maxData && !slices.ContainsFunc(data, func(d *dataStream) bool { return d.pid == es.pid }) {
				data = append(data, newData(s))
			}
		case es.codec == 0:
			refused = append(refused, fmt.Sprintf("stream type %#02x", uint8(s.StreamType)))
		case es.codec.Kind() == stream.Video && video == nil:
			video = es
		case es.codec.Kind() == stream.Audio && audio == nil:
			audio = es
		}
	}
	t.refused = refused
	gone, err := d.replace(&d.video, video, VideoID)
	if err != nil {
		return err
	}
	if gone {
		d.avc, d.hevc = nil, nil
	}
	also, err := d.replace(&d.audio, audio, AudioID)
	if err != nil {
		return err
	}
	if d.replaceData(data) || gone || also {
		return d.setTracks()
	}
	return nil
}

// replace makes another elementary stream the one that makes the track with
// that ID, unless it is the one already. gone says that the track there was is
// none of its.
func (d *Demuxer) replace(old **elementary, es *elementary, id uint8) (gone bool, err error) {
	was := *old
	if was != nil && es != nil && was.pid == es.pid && was.codec == es.codec && was.opusCode == es.opusCode {
		return false, nil
	}
	if was != nil {
		if err := d.flush(was); err != nil {
			return false, err
		}
	}
	*old = es
	t := d.tracks[id-1]
	if t == nil || es != nil && es.codec == t.Codec {
		return false, nil
	}
	d.tracks[id-1] = nil
	return true, nil
}

// newElementary returns the stream that a PMT names; without a codec, if it
// can't be carried.
func newElementary(s *astits.PMTElementaryStream) *elementary {
	es := &elementary{pid: s.ElementaryPID}
	format := uint32(0)
	for _, info := range s.ElementaryStreamDescriptors {
		switch {
		case info.Registration != nil:
			format = info.Registration.FormatIdentifier
		case info.ISO639LanguageAndAudioType != nil && len(info.ISO639LanguageAndAudioType.Language) == 3:
			es.language = language(info.ISO639LanguageAndAudioType.Language)
		case info.Extension != nil && info.Extension.Tag == tagOpus && info.Extension.Unknown != nil && len(*info.Extension.Unknown) > 0:
			es.opusCode = (*info.Extension.Unknown)[0]
		case info.Tag == tagDVBAC3 && format == 0:
			format = identifier(formatAC3)
		}
	}
	switch s.StreamType {
	case typeH264:
		es.codec = stream.H264
	case typeH265:
		es.codec = stream.H265
	case typeADTS:
		es.codec = stream.AAC
	case typeMPEG1Audio, typeMPEG2Audio:
		es.codec = stream.MP3
	case typeAC3:
		es.codec = stream.AC3
	case typePrivate:
		switch format {
		case identifier(formatOpus):
			if opusHead(es.opusCode) != nil {
				es.codec = stream.Opus
			}
		case identifier(formatAC3):
			es.codec = stream.AC3
		case identifier(formatH265):
			es.codec = stream.H265
		}
	}
	return es
}

// identifier returns a format_identifier as go-astits has it.
func identifier(format string) uint32 {
	return uint32(format[0])<<24 | uint32(format[1])<<16 | uint32(format[2])<<8 | uint32(format[3])
}

// language returns a code of ISO 639-2, "" for what is none.
func language(code []byte) string {
	for _, c := range code {
		if c < 'a' || c > 'z' {
			return ""
		}
	}
	if string(code) == "und" {
		return ""
	}
	return string(code)
}

// sections has go-astits read the tables of one PID.
//
// Its demuxer pulls from an io.Reader and is made for that to be a whole
// stream. It gets one packet at a time instead, and between them an error that
// it passes on without losing what it has: so it works in the caller's goroutine
// when packets are pushed. It collects packets without end while no section is
// complete, so that their number is bounded here.
type sections struct {
	demuxer *astits.Demuxer
	packet  []byte // what it may read
	budget  int    // packets that may follow before another section starts
}

// maxSectionPackets is more than sections of 4096 bytes need; those of a PAT
// or PMT have 1024 at most.
const maxSectionPackets = 24

var errNoPacket = errors.New("mpegts: no packet")

func newSections() *sections {
	s := &sections{}
	s.demuxer = astits.NewDemuxer(context.Background(), packetReader{s}, astits.DemuxerOptPacketSize(PacketSize))
	return s
}

// feed gives a packet to go-astits and what comes of it to take.
func (d *Demuxer) feed(s *sections, p []byte, start bool, take func(*astits.DemuxerData) error) error {
	if start {
		s.budget = maxSectionPackets
	}
	if s.budget == 0 {
		d.stats.Errors++
		return nil
	}
	s.budget--
	s.packet = p
	for {
		data, err := s.demuxer.NextData()
		switch {
		case errors.Is(err, errNoPacket):
			return nil
		case err != nil:
			d.stats.Errors++
		default:
			if err := take(data); err != nil {
				return err
			}
		}
	}
}

type packetReader struct{ *sections }

// Read implements io.Reader.
func (r packetReader) Read(b []byte) (int, error) {
	if len(r.packet) == 0 {
		return 0, errNoPacket
	}
	n := copy(b, r.packet)
	r.packet = r.packet[n:]
	return n, nil
}
