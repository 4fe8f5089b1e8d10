// Package mpegts writes and reads MPEG-2 transport streams (ITU-T H.222.0 |
// ISO/IEC 13818-1) of one programme: what HTTP and SRT peers play and publish,
// and the segments of HLS for old players.
//
// The Muxer is the hot path of every TS viewer: it appends packets to bytes
// that all of them share and allocates nothing. The Demuxer reads what
// strangers send.
package mpegts

import (
	"errors"
	"fmt"

	"github.com/runnel-media/runnel/internal/aac"
	"github.com/runnel-media/runnel/stream"
)

// PacketSize is the size of a transport packet.
const PacketSize = 188

const (
	syncByte     = 0x47
	headerSize   = 4 // of a packet
	bodySize     = PacketSize - headerSize
	clockRate    = 90000           // of PTS and DTS
	pcrRate      = 300 * clockRate // of the programme clock reference
	clockMask    = 1<<33 - 1       // PTS, DTS and the PCR's base have 33 bits
	pesFixed     = 9               // bytes of a PES header before its optional fields
	pesUncounted = 6               // of them, those that PES_packet_length leaves out
	pesLengthMax = 1<<16 - 1       // what PES_packet_length can say
)

// PIDs, and the number of the programme that a Muxer writes.
const (
	pidPAT    = 0
	pidPMT    = 0x1000
	pidMedia  = 0x100 // the track's ID is added
	pidNull   = 0x1fff
	programme = 1
)

// Stream types of the PMT (2.4.4.9, table 2-34; those from 0x80 on are ATSC's)
// and the registration descriptors (2.6.8) that tell what they leave open.
const (
	typeMPEG1Audio = 0x03
	typeMPEG2Audio = 0x04 // with the half sample rates
	typePrivate    = 0x06 // PES packets of private data
	typeADTS       = 0x0f
	typeMetadata   = 0x15 // PES packets of metadata
	typeH264       = 0x1b
	typeH265       = 0x24
	typeAC3        = 0x81
	typeSCTE35     = 0x86 // sections, no PES packets

	formatAC3  = "AC-3"
	formatH265 = "HEVC"
	formatOpus = "Opus"
	formatCue  = "CUEI" // of a programme with SCTE 35
)

// Descriptor tags.
const (
	tagRegistration = 0x05
	tagLanguage     = 0x0a // ISO_639_language_descriptor
	tagDVBAC3       = 0x6a // ETSI EN 300 468, annex D
	tagExtension    = 0x7f
	tagOpus         = 0x80 // extension: channel_config_code
)

// Sink takes what a Demuxer reads. A *stream.Publisher is one.
type Sink interface {
	SetTracks(tracks ...*stream.Track) error
	Write(f *stream.Frame) error
}

// ErrMalformed is wrapped by errors about bytes that are no transport stream.
var ErrMalformed = errors.New("mpegts: malformed")

// Supports says whether a transport stream can carry the track: nil, or an
// error that wraps stream.ErrUnsupported.
func Supports(t *stream.Track) error {
	switch t.Codec {
	case stream.H264, stream.H265, stream.MP3, stream.AC3, stream.SCTE35:
		return nil
	case stream.PrivateTS:
		if n := len(t.Config); n == 2 || n == 6 {
			return nil
		}
	case stream.AAC:
		_, err := adtsConfig(t)
		return err
	case stream.Opus:
		_, err := opusCode(t)
		return err
	}
	return fmt.Errorf("mpegts: %v: %w", t.Codec, stream.ErrUnsupported)
}

// adtsConfig returns what ADTS headers say of an AAC track.
func adtsConfig(t *stream.Track) (*aac.Config, error) {
	c, err := aac.ParseConfig(t.Config)
	if err == nil && c.FrameSize != 1024 {
		err = fmt.Errorf("ADTS has no frames of %d samples", c.FrameSize)
	}
	if err == nil {
		_, err = c.AppendADTS(nil, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("mpegts: %w: %w", err, stream.ErrUnsupported)
	}
	return c, nil
}
