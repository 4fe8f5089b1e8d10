package fmp4

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Run is frames of one track, in decoding order, that follow one another in
// a part.
type Run struct {
	Track  *stream.Track
	Frames []*stream.Frame

	// Next is the DTS of the frame after the last, which gives the last its
	// duration. If it is not later than the last frame's DTS, as with 0, the
	// last frame lasts as long as the one before it, or, being alone, 1/25 s
	// (video) or the usual packet of the codec (audio).
	//
	// State it where players use Media Source Extensions: when the next part
	// begins later than twice the stated duration, they skip to a key frame.
	Next time.Duration
}

// Sizes of boxes, in bytes.
const (
	boxHeader   = 8
	moofFixed   = boxHeader + 16           // moof, mfhd
	trafFixed   = boxHeader + 20 + 20 + 20 // traf, tfhd with default flags, tfdt of version 1, trun with a data offset
	audioSample = 8                        // duration, size
	videoSample = 16                       // duration, size, flags, composition time offset
)

// Flags of tfhd and trun (ISO/IEC 14496-12 8.8.7, 8.8.8).
const (
	tfhdDefaultFlags    = 0x000020
	tfhdBaseIsMoof      = 0x020000
	trunDataOffset      = 0x000001
	trunDuration        = 0x000100
	trunSize            = 0x000200
	trunFlags           = 0x000400
	trunCompositionTime = 0x000800
)

// Flags of a sample (ISO/IEC 14496-12 8.8.3.1).
const (
	sampleSync       = 2 << 24       // depends on no other
	sampleNonSync    = 1<<24 | 1<<16 // depends on others, is not a sync sample
	sampleDisposable = 2 << 22       // no other depends on it
)

// AppendPart appends one part to dst: a moof box with the sequence number seq
// and an mdat box with the frames of runs, a run after the other. Runs without
// frames are left out; without any frame, nothing is appended. The frames'
// data is copied once, and nothing is allocated if dst has room. A part must
// stay below 2 GiB.
//
// Decode times are the frames' DTS, so that nothing accumulates from part to
// part; those before 0 become 0, and within a run time does not go back.
func AppendPart(dst []byte, seq uint32, runs ...Run) []byte {
	moof, payload := measure(runs)
	if moof == moofFixed {
		return dst
	}
	dst = slices.Grow(dst, moof+boxHeader+payload)
	dst = AppendPartHeader(dst, seq, runs...)
	for i := range runs {
		for _, f := range runs[i].Frames {
			dst = append(dst, f.Data...)
		}
	}
	return dst
}

// AppendPartHeader appends what AppendPart does up to the frames' data, for
// who writes that by itself: every Frame.Data of every run must follow, in
// order.
func AppendPartHeader(dst []byte, seq uint32, runs ...Run) []byte {
	moof, payload := measure(runs)
	if moof == moofFixed {
		return dst
	}
	dst = appendBox(dst, moof, "moof")
	dst = appendBox(dst, 16, "mfhd")
	dst = be32(dst, 0)
	dst = be32(dst, seq)
	offset := moof + boxHeader
	for i := range runs {
		if len(runs[i].Frames) > 0 {
			dst = appendTraf(dst, &runs[i], offset)
			offset += runs[i].size()
		}
	}
	return appendBox(dst, boxHeader+payload, "mdat")
}

// measure returns the sizes of the moof box and of the payload of mdat.
func measure(runs []Run) (moof, payload int) {
	moof = moofFixed
	for i := range runs {
		if r := &runs[i]; len(r.Frames) > 0 {
			moof += trafFixed + r.entrySize()*len(r.Frames)
			payload += r.size()
		}
	}
	return moof, payload
}

func (r *Run) size() int {
	n := 0
	for _, f := range r.Frames {
		n += len(f.Data)
	}
	return n
}

func (r *Run) entrySize() int {
	if r.Track.Kind() == stream.Audio {
		return audioSample
	}
	return videoSample
}

func appendTraf(dst []byte, r *Run, dataOffset int) []byte {
	n := len(r.Frames)
	rate := int(Timescale(r.Track))
	at := max(0, stream.Ticks(r.Frames[0].DTS, rate))
	video := r.Track.Kind() != stream.Audio

	trun := 20 + r.entrySize()*n
	dst = appendBox(dst, boxHeader+20+20+trun, "traf")

	dst = appendBox(dst, 20, "tfhd")
	dst = be32(dst, tfhdBaseIsMoof|tfhdDefaultFlags)
	dst = be32(dst, uint32(r.Track.ID))
	dst = be32(dst, sampleSync)

	dst = appendBox(dst, 20, "tfdt")
	dst = be32(dst, 1<<24)
	dst = binary.BigEndian.AppendUint64(dst, uint64(at))

	dst = appendBox(dst, trun, "trun")
	fields := uint32(trunDataOffset | trunDuration | trunSize)
	if video {
		fields |= trunFlags | trunCompositionTime
	}
	dst = be32(dst, 1<<24|fields) // version 1: composition offsets are signed
	dst = be32(dst, uint32(n))
	dst = be32(dst, uint32(dataOffset))

	last := int64(0) // duration of the frame before
	for i, f := range r.Frames {
		var d int64
		if i+1 < n {
			d = max(0, stream.Ticks(r.Frames[i+1].DTS, rate)-at)
			last = d
		} else if d = stream.Ticks(r.Next, rate) - at; r.Next <= f.DTS || d <= 0 {
			if d = last; d <= 0 {
				d = defaultDuration(r.Track)
			}
		}
		d = min(d, math.MaxUint32)
		dst = be32(dst, uint32(d))
		dst = be32(dst, uint32(len(f.Data)))
		if video {
			dst = be32(dst, sampleFlags(f))
			offset := stream.Ticks(f.PTS, rate) - at
			dst = be32(dst, uint32(int32(min(max(offset, math.MinInt32), math.MaxInt32))))
		}
		at += d
	}
	return dst
}

func sampleFlags(f *stream.Frame) uint32 {
	flags := uint32(sampleNonSync)
	if f.Key {
		flags = sampleSync
	}
	if f.Discardable {
		flags |= sampleDisposable
	}
	return flags
}

// defaultDuration is the duration in ticks of a frame of t that nothing else
// is known of.
func defaultDuration(t *stream.Track) int64 {
	switch t.Codec {
	case stream.Opus:
		return 960 // 20 ms
	case stream.MP3:
		return 1152
	}
	if t.Kind() == stream.Audio {
		return 1024
	}
	return videoTimescale / 25
}

func appendBox(dst []byte, size int, name string) []byte {
	return append(be32(dst, uint32(size)), name...)
}

func be32(dst []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(dst, v) }
