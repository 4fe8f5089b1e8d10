package fmp4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/runnel-media/runnel/stream"
)

// ErrMalformed is wrapped by errors about bytes that are no fragmented MP4.
var ErrMalformed = errors.New("fmp4: malformed")

// IDs that a Demuxer gives to tracks.
const (
	VideoID = 1
	AudioID = 2
)

// maxReadTracks bounds the tracks that a file may have.
const maxReadTracks = 16

// A reader takes numbers from the front of a box's payload. What is not there is
// zero, and makes short true.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.short, r.b = true, nil
		return make([]byte, min(max(n, 0), 8))
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) skip(n int)     { r.bytes(n) }
func (r *reader) u8() uint8      { return r.bytes(1)[0] }
func (r *reader) u16() uint16    { return binary.BigEndian.Uint16(r.bytes(2)) }
func (r *reader) u32() uint32    { return binary.BigEndian.Uint32(r.bytes(4)) }
func (r *reader) u64() uint64    { return binary.BigEndian.Uint64(r.bytes(8)) }
func (r *reader) version() uint8 { return uint8(r.full() >> 24) }
func (r *reader) full() uint32   { return r.u32() } // version and flags

// sized returns a number of 64 bits in version 1, of 32 else.
func (r *reader) sized(version uint8) uint64 {
	if version == 1 {
		return r.u64()
	}
	return uint64(r.u32())
}

// boxes calls f for each box of b: its type, its payload, and where in b it begins.
func boxes(b []byte, f func(kind string, payload []byte, at int) error) error {
	for at := 0; at < len(b); {
		rest := b[at:]
		if len(rest) < 8 {
			return fmt.Errorf("%w: %d bytes behind the last box", ErrMalformed, len(rest))
		}
		size, head := uint64(binary.BigEndian.Uint32(rest)), 8
		switch {
		case size == 1 && len(rest) >= 16:
			size, head = binary.BigEndian.Uint64(rest[8:]), 16
		case size == 0: // up to the end
			size = uint64(len(rest))
		}
		if size < uint64(head) || size > uint64(len(rest)) {
			return fmt.Errorf("%w: %q box of %d bytes in %d", ErrMalformed, rest[4:8], size, len(rest))
		}
		if err := f(string(rest[4:8]), rest[head:size], at); err != nil {
			return err
		}
		at += int(size)
	}
	return nil
}

// find returns the payload of the first box of a path below b, nil if there is none
// or what is there is malformed.
func find(b []byte, path ...string) (found []byte) {
	for _, kind := range path {
		var next []byte
		_ = boxes(b, func(k string, payload []byte, _ int) error {
			if k == kind && next == nil {
				next = payload
			}
			return nil
		})
		if next == nil {
			return nil
		}
		b = next
	}
	return b
}

// A readTrack is a track of a file that is being read.
type readTrack struct {
	id    uint32
	scale uint32
	shift int64         // ticks of the edit list: from media time to presentation
	track *stream.Track // nil: not one that we carry

	// defaults of trex
	duration, size, flags uint32
}

// readTrak reads a trak box. movieScale is the timescale of edit lists' empty edits.
func readTrak(b []byte, movieScale uint32) (*readTrack, error) {
	t := &readTrack{}
	r := &reader{b: find(b, "tkhd")}
	if r.version() == 1 {
		r.skip(16)
	} else {
		r.skip(8)
	}
	t.id = r.u32()
	m := &reader{b: find(b, "mdia", "mdhd")}
	if m.version() == 1 {
		m.skip(16)
	} else {
		m.skip(8)
	}
	t.scale = m.u32()
	if r.short || m.short || t.id == 0 || t.scale == 0 || t.scale > 1<<30 {
		return nil, fmt.Errorf("%w: track header", ErrMalformed)
	}
	t.readEdits(find(b, "edts", "elst"), movieScale)
	d := &reader{b: find(b, "mdia", "minf", "stbl", "stsd")}
	d.full()
	if n := d.u32(); d.short || n == 0 {
		return nil, fmt.Errorf("%w: sample description", ErrMalformed)
	}
	var err error
	first := true
	fault := boxes(d.b, func(kind string, payload []byte, _ int) error {
		if first {
			first = false
			t.track, err = readEntry(kind, payload)
		}
		return nil
	})
	if fault != nil {
		return nil, fault
	}
	if err != nil {
		return t, err
	}
	return t, nil
}

// readEdits takes up how an edit list moves the whole track; what else such a list
// can say has no place in a stream.
func (t *readTrack) readEdits(b []byte, movieScale uint32) {
	if b == nil || movieScale == 0 {
		return
	}
	r := &reader{b: b}
	version := r.version()
	n := r.u32()
	var empty uint64
	for range min(n, 8) {
		length, at := r.sized(version), int64(0)
		if version == 1 {
			at = int64(r.u64())
		} else {
			at = int64(int32(r.u32()))
		}
		r.u32() // rate
		if r.short || length > math.MaxInt32 {
			return
		}
		if at < 0 {
			empty += length
			continue
		}
		if at <= math.MaxInt32 {
			t.shift = int64(empty)*int64(t.scale)/int64(movieScale) - at
		}
		return
	}
}

// readEntry makes a track of a sample entry (ISO/IEC 14496-12 8.5.2). The error
// wraps stream.ErrUnsupported for one that we do not carry.
func readEntry(kind string, b []byte) (*stream.Track, error) {
	unsupported := fmt.Errorf("fmp4: %q: %w", kind, stream.ErrUnsupported)
	malformed := fmt.Errorf("%w: %q", ErrMalformed, kind)
	video := func(codec stream.Codec, box string) (*stream.Track, error) {
		if len(b) < 78 {
			return nil, malformed
		}
		config := find(b[78:], box)
		if config == nil {
			return nil, malformed
		}
		return &stream.Track{ID: VideoID, Codec: codec, Config: append([]byte(nil), config...)}, nil
	}
	switch kind {
	case "avc1", "avc3":
		t, err := video(stream.H264, "avcC")
		if err == nil && (len(t.Config) < 7 || t.Config[4]&3 != 3) {
			return nil, unsupported // lengths of other than four bytes, which nobody writes
		}
		return t, err
	case "hvc1", "hev1":
		t, err := video(stream.H265, "hvcC")
		if err == nil && (len(t.Config) < 23 || t.Config[21]&3 != 3) {
			return nil, unsupported
		}
		return t, err
	case "av01":
		return video(stream.AV1, "av1C")
	case "vp09":
		t, err := video(stream.VP9, "vpcC")
		if err == nil && len(t.Config) > 4 {
			t.Config = t.Config[4:] // version and flags
		}
		return t, err
	case "mp4a", "Opus":
	default:
		return nil, unsupported
	}
	if len(b) < 28 {
		return nil, malformed
	}
	t := &stream.Track{ID: AudioID, Channels: int(binary.BigEndian.Uint16(b[16:])), Rate: int(binary.BigEndian.Uint16(b[24:]))}
	if kind == "Opus" {
		head := readOpus(find(b[28:], "dOps"))
		if head == nil {
			return nil, malformed
		}
		t.Codec, t.Rate, t.Channels, t.Config = stream.Opus, 48000, int(head[9]), head
		return t, nil
	}
	esds := find(b[28:], "esds")
	if len(esds) < 4 {
		return nil, malformed
	}
	object, config, ok := readESDS(esds[4:])
	switch {
	case !ok:
		return nil, malformed
	case object == 0x40 && len(config) >= 2 && len(config) <= 64:
		t.Codec, t.Config = stream.AAC, append([]byte(nil), config...)
	case object == 0x6b || object == 0x69:
		t.Codec = stream.MP3
	default:
		return nil, unsupported
	}
	return t, nil
}

// readOpus turns a dOps box into the header of RFC 7845, nil if it is malformed.
func readOpus(b []byte) []byte {
	if len(b) < 11 || b[0] != 0 || b[1] == 0 {
		return nil
	}
	head := append([]byte("OpusHead"), 1, b[1])
	head = binary.LittleEndian.AppendUint16(head, binary.BigEndian.Uint16(b[2:]))
	head = binary.LittleEndian.AppendUint32(head, binary.BigEndian.Uint32(b[4:]))
	head = binary.LittleEndian.AppendUint16(head, binary.BigEndian.Uint16(b[8:]))
	head = append(head, b[10])
	if b[10] != 0 {
		n := 2 + int(b[1])
		if len(b) < 11+n {
			return nil
		}
		head = append(head, b[11:11+n]...)
	}
	return head
}

// readESDS returns the object type and the decoder specific info of an elementary
// stream descriptor (ISO/IEC 14496-1 7.2.6).
func readESDS(b []byte) (object byte, config []byte, ok bool) {
	next := func(b []byte) (tag byte, payload, rest []byte) {
		if len(b) < 2 {
			return 0, nil, nil
		}
		tag, b = b[0], b[1:]
		size := 0
		for i := range 4 {
			if i >= len(b) {
				return 0, nil, nil
			}
			size = size<<7 | int(b[i]&0x7f)
			if b[i]&0x80 == 0 {
				b = b[i+1:]
				break
			}
			if i == 3 {
				return 0, nil, nil
			}
		}
		if size > len(b) {
			return 0, nil, nil
		}
		return tag, b[:size], b[size:]
	}
	tag, es, _ := next(b)
	if tag != 3 || len(es) < 3 {
		return 0, nil, false
	}
	flags := es[2]
	es = es[3:]
	skip := 0
	if flags&0x80 != 0 {
		skip += 2
	}
	if flags&0x40 != 0 {
		if len(es) <= skip {
			return 0, nil, false
		}
		skip += 1 + int(es[skip])
	}
	if flags&0x20 != 0 {
		skip += 2
	}
	if skip > len(es) {
		return 0, nil, false
	}
	tag, dec, _ := next(es[skip:])
	if tag != 4 || len(dec) < 13 {
		return 0, nil, false
	}
	object = dec[0]
	if tag, info, _ := next(dec[13:]); tag == 5 {
		config = info
	}
	return object, config, true
}
