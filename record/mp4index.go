package record

import (
	"encoding/binary"
	"iter"
)

// An mp4Index is where the samples of an MP4 file lie and when they are due: what
// moof boxes, and the tables of a moov box, say. It is packed, since it is held for
// as long as a recording goes on: about 5 bytes a picture and 4 a packet of sound.
type mp4Index struct {
	tracks []*mp4Track
	chunks []byte // packed chunks, in the order of the file
	end    int64  // offset behind the last chunk
	bytes  int64  // of all chunks
}

// An mp4Track is the samples of a track, in decoding order.
type mp4Track struct {
	desc  mp4Trak
	rate  int64 // ticks a second
	video bool

	packed []byte
	n      int // samples
	keys   int
	chunks int
	bytes  int64

	first, firstPTS int64 // times of the first sample, ticks
	ends            int64 // when the last sample ends; 0: it is as long as the one before
	prev            mp4Sample
	step            int64 // between the last two samples
}

// An mp4Sample is a frame in a file. Times are in ticks.
type mp4Sample struct {
	size     int64
	dts, pts int64
	key      bool
}

// An mp4Chunk is samples of one track that lie one behind the other.
type mp4Chunk struct {
	track   int   // in mp4Index.tracks
	offset  int64 // in the file
	size    int64
	samples int
}

// add appends a sample. dts must not go back.
func (t *mp4Track) add(s mp4Sample) {
	if t.n == 0 {
		t.first, t.firstPTS = s.dts, s.pts
		t.prev = mp4Sample{dts: s.dts, pts: s.dts}
	}
	s.dts = max(s.dts, t.prev.dts)
	head := uint64(s.size) << 1
	if s.key {
		head |= 1
		t.keys++
	}
	step := s.dts - t.prev.dts
	t.packed = binary.AppendUvarint(t.packed, head)
	t.packed = binary.AppendVarint(t.packed, step-t.step)
	if t.video {
		t.packed = binary.AppendVarint(t.packed, (s.pts-s.dts)-(t.prev.pts-t.prev.dts))
	}
	t.step, t.prev = step, s
	t.n++
	t.bytes += s.size
}

// samples yields the samples again.
func (t *mp4Track) samples() iter.Seq[mp4Sample] {
	return func(yield func(mp4Sample) bool) {
		r := t.reader()
		for s, ok := r.next(); ok; s, ok = r.next() {
			if !yield(s) {
				return
			}
		}
	}
}

// An mp4Reader unpacks samples one by one.
type mp4Reader struct {
	t    *mp4Track
	at   int // in t.packed
	step int64
	prev mp4Sample
}

func (t *mp4Track) reader() mp4Reader {
	return mp4Reader{t: t, prev: mp4Sample{dts: t.first, pts: t.first}}
}

// next returns the next sample; ok is false if there is none.
func (r *mp4Reader) next() (s mp4Sample, ok bool) {
	b := r.t.packed[r.at:]
	if len(b) == 0 {
		return s, false
	}
	head, n := binary.Uvarint(b)
	d, m := binary.Varint(b[n:])
	n += m
	offset := r.prev.pts - r.prev.dts
	if r.t.video {
		c, m := binary.Varint(b[n:])
		n += m
		offset += c
	}
	r.at += n
	r.step += d
	s = mp4Sample{size: int64(head >> 1), key: head&1 != 0, dts: r.prev.dts + r.step}
	s.pts = s.dts + offset
	r.prev = s
	return s, true
}

// end is when the last sample ends.
func (t *mp4Track) end() int64 {
	if t.n == 0 {
		return 0
	}
	if t.ends > t.prev.dts {
		return t.ends
	}
	if t.n > 1 && t.step > 0 {
		return t.prev.dts + t.step
	}
	return t.prev.dts + t.rate/25
}

// addChunk appends a chunk, whose samples have been added to its track.
func (x *mp4Index) addChunk(c mp4Chunk) {
	x.chunks = binary.AppendUvarint(x.chunks, uint64(c.track))
	x.chunks = binary.AppendVarint(x.chunks, c.offset-x.end)
	x.chunks = binary.AppendUvarint(x.chunks, uint64(c.size))
	x.chunks = binary.AppendUvarint(x.chunks, uint64(c.samples))
	x.end = c.offset + c.size
	x.bytes += c.size
	x.tracks[c.track].chunks++
}

// all yields the chunks again.
func (x *mp4Index) all() iter.Seq[mp4Chunk] {
	return func(yield func(mp4Chunk) bool) {
		end := int64(0)
		for b := x.chunks; len(b) > 0; {
			track, n := binary.Uvarint(b)
			gap, m := binary.Varint(b[n:])
			size, k := binary.Uvarint(b[n+m:])
			samples, l := binary.Uvarint(b[n+m+k:])
			b = b[n+m+k+l:]
			c := mp4Chunk{int(track), end + gap, int64(size), int(samples)}
			end = c.offset + c.size
			if !yield(c) {
				return
			}
		}
	}
}
