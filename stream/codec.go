package stream

import "fmt"

// Kind says what a track carries.
type Kind uint8

// The kinds of track.
const (
	Video Kind = iota + 1
	Audio
	Data
)

// String returns "video", "audio" or "data".
func (k Kind) String() string {
	switch k {
	case Video:
		return "video"
	case Audio:
		return "audio"
	case Data:
		return "data"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Codec names how the frames of a track are coded. It is a value: outputs
// compare it with what their container can carry.
type Codec uint8

// The codecs that Runnel carries. The comment says what Track.Config and
// Frame.Data hold for each.
const (
	H264      Codec = iota + 1 // Config: AVCDecoderConfigurationRecord; Data: NAL units, each behind its 4-byte length
	H265                       // Config: HEVCDecoderConfigurationRecord; Data as H264
	AV1                        // Config: AV1CodecConfigurationRecord; Data: temporal unit, OBUs with sizes, no temporal delimiter
	VP8                        // Config: none; Data: one frame
	VP9                        // Config: VPCodecConfigurationRecord or none; Data: one (super)frame
	AAC                        // Config: AudioSpecificConfig; Data: one raw_data_block, no ADTS header
	MP3                        // Config: none; Data: one frame with its header
	Opus                       // Config: the OpusHead identification header; Data: one packet
	PCMA                       // G.711 A-law. Config: none; Data: samples
	PCMU                       // G.711 µ-law. Config: none; Data: samples
	AC3                        // Config: none; Data: one syncframe
	AMF0                       // Data: an AMF0 data message with its name, as RTMP and FLV carry it
	SCTE35                     // Config: none; Data: one splice_info_section, up to its CRC
	PrivateTS                  // Config: stream_type and stream_id of MPEG-TS, then the registration's format_identifier if any; Data: what one PES packet holds
	codecEnd
)

var codecNames = [codecEnd]string{
	H264: "h264", H265: "h265", AV1: "av1", VP8: "vp8", VP9: "vp9",
	AAC: "aac", MP3: "mp3", Opus: "opus", PCMA: "pcma", PCMU: "pcmu", AC3: "ac3",
	AMF0: "amf0", SCTE35: "scte35", PrivateTS: "privatets",
}

// String returns the codec's short lower-case name, such as "h264".
func (c Codec) String() string {
	if c > 0 && c < codecEnd {
		return codecNames[c]
	}
	return fmt.Sprintf("Codec(%d)", uint8(c))
}

// MarshalText returns what String returns, so that JSON shows names.
func (c Codec) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText accepts what MarshalText returns.
func (c *Codec) UnmarshalText(text []byte) error {
	for i, name := range codecNames {
		if name != "" && name == string(text) {
			*c = Codec(i)
			return nil
		}
	}
	return fmt.Errorf("stream: unknown codec %q", text)
}

// Kind returns the kind of track that the codec makes.
func (c Codec) Kind() Kind {
	switch c {
	case H264, H265, AV1, VP8, VP9:
		return Video
	case AAC, MP3, Opus, PCMA, PCMU, AC3:
		return Audio
	}
	return Data
}
