package fmp4

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/runnel-media/runnel/stream"
)

// The picture size that a sample entry states where the configuration has
// none, as with VP9, whose size is in its key frames only. Decoders go by the
// frames; browsers merely refuse an empty size.
const unknownWidth, unknownHeight = 1280, 720

// A configuration record goes into its box byte for byte: it has come from a
// publisher and was checked where it came in, and re-encoding it could only
// lose what we don't know.
func configBox(name string, config []byte) mp4.Box {
	return mp4.CreateUnknownBox(name, uint64(8+len(config)), config)
}

// videoEntry makes the sample description of a video track: ISO/IEC 14496-15
// 5.4.2 (AVC) and 8.4.1 (HEVC), and the bindings of AV1 and VP9.
func videoEntry(t *stream.Track) (*mp4.VisualSampleEntryBox, error) {
	var name string
	var config mp4.Box
	switch t.Codec {
	case stream.H264:
		name, config = "avc1", configBox("avcC", t.Config)
	case stream.H265:
		name, config = "hvc1", configBox("hvcC", t.Config)
	case stream.AV1:
		name, config = "av01", configBox("av1C", t.Config)
	case stream.VP9:
		name, config = "vp09", configBox("vpcC", vpcRecord(t.Config))
	default:
		return nil, fmt.Errorf("%v: %w", t.Codec, stream.ErrUnsupported)
	}
	if len(t.Config) == 0 && t.Codec != stream.VP9 {
		return nil, fmt.Errorf("%v without a decoder configuration: %w", t.Codec, stream.ErrUnsupported)
	}
	info, err := t.Video()
	if err != nil && (t.Codec == stream.H264 || t.Codec == stream.H265) {
		return nil, fmt.Errorf("%v: %w (%w)", t.Codec, stream.ErrUnsupported, err)
	}
	w, h := info.Width, info.Height
	if err != nil || w <= 0 || h <= 0 {
		w, h = unknownWidth, unknownHeight
	}
	if w > math.MaxUint16 || h > math.MaxUint16 {
		return nil, fmt.Errorf("%v of %dx%d: %w", t.Codec, w, h, stream.ErrUnsupported)
	}
	entry := mp4.CreateVisualSampleEntryBox(name, uint16(w), uint16(h), config)
	entry.CompressorName = ""
	return entry, nil
}

// vpcRecord returns the payload of a vpcC box (VP Codec ISO Media File Format
// Binding 1.0): a full box of version 1. Publishers send the record with or
// without the four bytes of version and flags in front.
func vpcRecord(config []byte) []byte {
	if len(config) < 8 {
		// Profile 0, level 4.1, 8 bits of 4:2:0, colours unspecified, no codec data.
		config = []byte{0, 41, 8<<4 | 1<<1, 2, 2, 2, 0, 0}
	}
	if len(config) >= 12 && config[0] == 1 && config[1] == 0 { // no level is 0
		return config
	}
	return append([]byte{1, 0, 0, 0}, config...)
}

// audioEntry makes the sample description of an audio track: ISO/IEC 14496-14
// 5.6 (AAC, MP3), "Encapsulation of Opus in ISO Base Media File Format" 4.3.
func audioEntry(t *stream.Track) (*mp4.AudioSampleEntryBox, error) {
	channels := uint16(2)
	if t.Channels > 0 && t.Channels <= math.MaxUint8 {
		channels = uint16(t.Channels)
	}
	if t.Rate < 0 || t.Rate > 1<<24 {
		return nil, fmt.Errorf("%v of %d Hz: %w", t.Codec, t.Rate, stream.ErrUnsupported)
	}
	rate := uint16(0) // for a rate that the field can't hold; decoders go by the configuration
	if r := Timescale(t); r <= math.MaxUint16 {
		rate = uint16(r)
	}
	switch t.Codec {
	case stream.AAC:
		// An AudioSpecificConfig has 2 to 7 bytes, some tens with a program config element.
		if len(t.Config) < 2 || len(t.Config) > 64 {
			return nil, fmt.Errorf("aac with a configuration of %d bytes: %w", len(t.Config), stream.ErrUnsupported)
		}
		return mp4.CreateAudioSampleEntryBox("mp4a", channels, 16, rate, mp4.CreateEsdsBox(t.Config)), nil
	case stream.MP3:
		esds := mp4.CreateEsdsBox(nil)
		// MPEG-1 audio, for the lower rates of MPEG-2 too (which have 0x69):
		// decoders tell them apart by the frames, and it is the object type of
		// the codec string, with which browsers compare it.
		esds.DecConfigDescriptor.ObjectType = 0x6b
		esds.DecConfigDescriptor.DecSpecificInfo = nil
		return mp4.CreateAudioSampleEntryBox("mp4a", channels, 16, rate, esds), nil
	case stream.Opus:
		dops, err := dopsBox(t, byte(channels))
		if err != nil {
			return nil, err
		}
		return mp4.CreateAudioSampleEntryBox("Opus", uint16(dops.OutputChannelCount), 16, rate, dops), nil
	}
	return nil, fmt.Errorf("%v: %w", t.Codec, stream.ErrUnsupported)
}

// dopsBox turns an OpusHead (RFC 7845 section 5.1, little endian) into the
// dOps box. Without one, as from RTP, mono or stereo is stated.
func dopsBox(t *stream.Track, channels byte) (*mp4.DopsBox, error) {
	const magic = "OpusHead"
	if len(t.Config) == 0 {
		if channels > 2 {
			return nil, fmt.Errorf("opus of %d channels without a header: %w", channels, stream.ErrUnsupported)
		}
		return &mp4.DopsBox{OutputChannelCount: channels, PreSkip: 312, InputSampleRate: 48000}, nil
	}
	head := t.Config
	bad := fmt.Errorf("opus with a malformed header: %w", stream.ErrUnsupported)
	if len(head) < 19 || string(head[:8]) != magic || head[8]&0xf0 != 0 || head[9] == 0 {
		return nil, bad
	}
	d := &mp4.DopsBox{
		OutputChannelCount:   head[9],
		PreSkip:              binary.LittleEndian.Uint16(head[10:]),
		InputSampleRate:      binary.LittleEndian.Uint32(head[12:]),
		OutputGain:           int16(binary.LittleEndian.Uint16(head[16:])),
		ChannelMappingFamily: head[18],
	}
	if d.ChannelMappingFamily != 0 {
		n := int(d.OutputChannelCount)
		if len(head) < 21+n {
			return nil, bad
		}
		d.StreamCount, d.CoupledCount, d.ChannelMapping = head[19], head[20], head[21:21+n]
	}
	return d, nil
}
