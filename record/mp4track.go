package record

import (
	"bytes"
	"encoding/binary"

	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/runnel-media/runnel/stream"
)

// stream returns the track as a publisher would have described it, or nil if it is
// of a kind that no publisher here has.
func (d *mp4Trak) stream() *stream.Track {
	box, err := mp4.DecodeBox(0, bytes.NewReader(d.stsd))
	stsd, ok := box.(*mp4.StsdBox)
	if err != nil || !ok || d.tkhd.TrackID == 0 || d.tkhd.TrackID > 255 {
		return nil
	}
	t := &stream.Track{ID: uint8(d.tkhd.TrackID)}
	if language := d.mdhd.GetLanguage(); language != "und" && language != "```" {
		t.Language = language
	}
	switch {
	case stsd.AvcX != nil && stsd.AvcX.AvcC != nil:
		t.Codec, t.Config = stream.H264, payload(stsd.AvcX.AvcC)
	case stsd.HvcX != nil && stsd.HvcX.HvcC != nil:
		t.Codec, t.Config = stream.H265, payload(stsd.HvcX.HvcC)
	case stsd.Av01 != nil && stsd.Av01.Av1C != nil:
		t.Codec, t.Config = stream.AV1, payload(stsd.Av01.Av1C)
	case stsd.VpXX != nil && stsd.VpXX.VppC != nil:
		t.Codec = stream.VP9
		if p := payload(stsd.VpXX.VppC); len(p) > 4 {
			t.Config = p[4:] // behind version and flags
		}
	case stsd.Mp4a != nil && stsd.Mp4a.Esds != nil && stsd.Mp4a.Esds.DecConfigDescriptor != nil:
		t.Rate, t.Channels = int(d.mdhd.Timescale), int(stsd.Mp4a.ChannelCount)
		t.Codec = stream.MP3
		const aac = 0x40
		if c := stsd.Mp4a.Esds.DecConfigDescriptor; c.ObjectType == aac {
			t.Codec = stream.AAC
			if c.DecSpecificInfo != nil {
				t.Config = c.DecSpecificInfo.DecConfig
			}
		}
	case stsd.Opus != nil && stsd.Opus.Dops != nil:
		t.Codec, t.Rate, t.Channels = stream.Opus, 48000, int(stsd.Opus.Dops.OutputChannelCount)
		t.Config = opusHead(stsd.Opus.Dops)
	default:
		return nil
	}
	return t
}

func payload(box mp4.Box) []byte {
	b, err := encode([]mp4.Box{box})
	if err != nil || len(b) < boxHeader {
		return nil
	}
	return b[boxHeader:]
}

// opusHead is the identification header (RFC 7845 section 5.1) of a dOps box.
func opusHead(d *mp4.DopsBox) []byte {
	b := append([]byte("OpusHead"), 1, d.OutputChannelCount)
	b = binary.LittleEndian.AppendUint16(b, d.PreSkip)
	b = binary.LittleEndian.AppendUint32(b, d.InputSampleRate)
	b = binary.LittleEndian.AppendUint16(b, uint16(d.OutputGain))
	b = append(b, d.ChannelMappingFamily)
	if d.ChannelMappingFamily != 0 {
		b = append(append(b, d.StreamCount, d.CoupledCount), d.ChannelMapping...)
	}
	return b
}
