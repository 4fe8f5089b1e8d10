package streamtest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"

	"github.com/runnel-media/runnel/stream"
)

// configs holds real decoder configurations, of pictures of 320x180 and of
// stereo at 48 kHz. Read only.
var configs = map[stream.Codec][]byte{
	stream.H264: unhex("014d400cffe10019674d400ceca0a0cfcf80880000030008000003019078a14cb001000568ebe3cb20"),
	stream.H265: unhex("0101600000009000000000003cf000fcfdf8f800000f03" +
		"200001001840010c01ffff01600000030090000003000003003c95940921" +
		"0001002b42010101600000030090000003000003003ca00a080c1f3e595952930bc05a020000030002000003003210" +
		"22000100064401c073c189"),
	stream.AV1:  unhex("81000c000a0b000000043cfeccdaf90040"),
	stream.VP9:  unhex("000b820202020000"),
	stream.AAC:  unhex("1190"),
	stream.Opus: append([]byte("OpusHead"), unhex("01023801"+"80bb0000"+"000000")...), // 2 channels, 312 samples of pre-skip, 48 kHz
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// An audioShape is the timing of an audio codec's frames.
type audioShape struct {
	rate, channels int
	samples        int64 // a frame
	size           int   // of a frame in bytes, 0: any
	head           []byte
}

var audioShapes = map[stream.Codec]audioShape{
	stream.AAC:  {48000, 2, 1024, 0, unhex("2100")},             // a channel pair element
	stream.MP3:  {48000, 2, 1152, 384, unhex("fffb9400")},       // layer III, 128 kbit/s
	stream.Opus: {48000, 2, 960, 0, unhex("fc")},                // one CELT frame of 20 ms, stereo
	stream.AC3:  {48000, 2, 1536, 768, unhex("0b770000144040")}, // 192 kbit/s
	stream.PCMA: {8000, 1, 160, 160, nil},                       // 20 ms
	stream.PCMU: {8000, 1, 160, 160, nil},
}

// filler is the content of all frames: no start code or emulation prevention
// is ever found in it.
const filler = 0x55

func audioData(codec stream.Codec, size int) []byte {
	shape := audioShapes[codec]
	return pad(shape.head, cmp.Or(shape.size, size))
}

// videoData returns the access unit of f, which needs all but its Data.
func videoData(codec stream.Codec, f *stream.Frame, size int) []byte {
	// kind chooses between what begins a key frame, a picture that others
	// refer to, and one that none does.
	kind := func(key, ref, unref string) []byte {
		switch {
		case f.Key:
			return unhex(key)
		case f.Discardable:
			return unhex(unref)
		}
		return unhex(ref)
	}
	switch codec {
	case stream.H264: // NAL header, slice header: first_mb_in_slice 0; slice_type I, P, B
		return nal(kind("6588", "419a", "019e"), size)
	case stream.H265: // NAL headers of IDR_W_RADL, TRAIL_R, TRAIL_N; first_slice_segment_in_pic_flag
		return nal(kind("260180", "020180", "000180"), size)
	case stream.AV1:
		return temporalUnit(kind("10", "30", "30"), f.Key, size)
	case stream.VP8: // frame tag, with a key frame's start code and size
		return pad(kind("100200"+"9d012a"+"4001b400", "110200", "110200"), size)
	case stream.VP9: // frame marker, profile 0, shown; a key frame's sync code, colours and size
		return pad(kind("82498342"+"4013f00b35", "86", "86"), size)
	}
	return pad(nil, size)
}

// nal returns a NAL unit of size bytes with its length, that being counted.
func nal(head []byte, size int) []byte {
	b := pad(append(make([]byte, 4), head...), size)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// temporalUnit returns a frame OBU of about size bytes, behind the sequence
// header if it is a key frame (AV1 5.3).
func temporalUnit(head []byte, key bool, size int) []byte {
	var b []byte
	if key {
		b = append(b, configs[stream.AV1][4:]...)
	}
	const header = 0x32 // OBU_FRAME, has_size
	payload := pad(head, size-len(b)-3)
	b = append(b, header)
	b = binary.AppendUvarint(b, uint64(len(payload))) // is leb128
	return append(b, payload...)
}

// pad returns head followed by filler up to size.
func pad(head []byte, size int) []byte {
	return append(bytes.Clone(head), bytes.Repeat([]byte{filler}, max(0, size-len(head)))...)
}
