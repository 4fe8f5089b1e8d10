package record

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/runnel-media/runnel/stream"
)

// An mp4Trak is what a file says of a track beside its samples.
type mp4Trak struct {
	tkhd    mp4.TkhdBox
	mdhd    mp4.MdhdBox
	mdia    []byte // the boxes of mdia beside mdhd and minf
	minf    []byte // the boxes of minf beside stbl
	stsd    []byte
	kind    stream.Kind
	handler string
}

var errNoMP4 = errors.New("record: not an MP4 file that can be read")

// newIndex makes an empty index of the tracks that a moov box describes.
func newIndex(moov *mp4.MoovBox) (*mp4Index, error) {
	x := &mp4Index{}
	for _, trak := range moov.Traks {
		t, err := newTrack(trak)
		if err != nil {
			return nil, err
		}
		x.tracks = append(x.tracks, t)
	}
	if len(x.tracks) == 0 {
		return nil, fmt.Errorf("%w: it has no tracks", errNoMP4)
	}
	return x, nil
}

func newTrack(trak *mp4.TrakBox) (*mp4Track, error) {
	m := trak.Mdia
	if trak.Tkhd == nil || m == nil || m.Mdhd == nil || m.Hdlr == nil || m.Minf == nil || m.Minf.Stbl == nil || m.Minf.Stbl.Stsd == nil || m.Mdhd.Timescale == 0 {
		return nil, fmt.Errorf("%w: incomplete track", errNoMP4)
	}
	t := &mp4Track{rate: int64(m.Mdhd.Timescale)}
	t.desc = mp4Trak{tkhd: *trak.Tkhd, mdhd: *m.Mdhd, handler: m.Hdlr.HandlerType, kind: stream.Data}
	switch m.Hdlr.HandlerType {
	case "vide":
		t.desc.kind, t.video = stream.Video, true
	case "soun":
		t.desc.kind = stream.Audio
	}
	var err error
	if t.desc.mdia, err = encode(m.Children, "mdhd", "minf"); err != nil {
		return nil, err
	}
	if t.desc.minf, err = encode(m.Minf.Children, "stbl"); err != nil {
		return nil, err
	}
	t.desc.stsd, err = encode([]mp4.Box{m.Minf.Stbl.Stsd})
	return t, err
}

// encode returns the bytes of boxes, but for some.
func encode(boxes []mp4.Box, but ...string) ([]byte, error) {
	var b bytes.Buffer
next:
	for _, box := range boxes {
		for _, name := range but {
			if box.Type() == name {
				continue next
			}
		}
		if err := box.Encode(&b); err != nil {
			return nil, fmt.Errorf("record: %w", err)
		}
	}
	return b.Bytes(), nil
}

const (
	// movieRate is the clock of what concerns all tracks.
	movieRate = 90000
	boxHeader = 8
)

// A layout is the sizes of a file to be written, and of the boxes in it.
type layout struct {
	tracks []trackLayout // those of the index that have samples
	moov   int64
	wide   bool  // mdat needs 64 bits for its size
	data   int64 // offset of the first chunk
	ftyp   []byte
	mvhd   []byte
}

// A trackLayout is the sizes of the boxes of a trak.
type trackLayout struct {
	*mp4Track
	index                                   int // in mp4Index.tracks
	tkhd, edts, mdhd                        []byte
	sttsRuns, cttsRuns, stscRuns            int
	shifted, negative                       bool // presentation differs from decoding; is before it
	stts, ctts, stss, stsz, stsc, stco, wid int64
	stbl, minf, mdia, trak                  int64
}

// lay works out the sizes of the plain file of an index.
func (x *mp4Index) lay(created time.Time) (*layout, error) {
	l := &layout{}
	start := int64(math.MaxInt64) // when the first frame is shown
	for i, t := range x.tracks {
		if t.n == 0 {
			continue
		}
		l.tracks = append(l.tracks, trackLayout{mp4Track: t, index: i})
		start = min(start, rescale(t.firstPTS, t.rate, movieRate))
	}
	if len(l.tracks) == 0 {
		return nil, fmt.Errorf("%w: no samples", errNoMP4)
	}
	unix := max(created.Unix(), -mp4.EpochDiffS)
	length := int64(0)
	l.moov = boxHeader
	for i := range l.tracks {
		t := &l.tracks[i]
		shown, err := t.lay(start, unix)
		if err != nil {
			return nil, err
		}
		length = max(length, shown)
		x.laySamples(t)
	}
	mvhd := mp4.CreateMvhd()
	mvhd.Timescale, mvhd.Duration = movieRate, uint64(length)
	mvhd.SetCreationTimeS(unix)
	mvhd.SetModificationTimeS(unix)
	mvhd.Version = version(mvhd.Duration)
	mvhd.NextTrackID = 1
	for _, t := range l.tracks {
		mvhd.NextTrackID = max(mvhd.NextTrackID, t.desc.tkhd.TrackID+1)
	}
	var err error
	if l.mvhd, err = encode([]mp4.Box{mvhd}); err != nil {
		return nil, err
	}
	if l.ftyp, err = encode([]mp4.Box{mp4.NewFtyp("isom", 512, []string{"isom", "iso2", "iso6", "mp41"})}); err != nil {
		return nil, err
	}
	// Offsets of 32 bits where they do.
	for _, wid := range []int64{4, 8} {
		l.wide = wid == 8
		l.moov = boxHeader + int64(len(l.mvhd))
		for i := range l.tracks {
			l.moov += l.tracks[i].sum(wid)
		}
		l.data = int64(len(l.ftyp)) + l.moov + boxHeader
		if l.wide {
			l.data += 8
		}
		if l.data+x.bytes <= math.MaxUint32 {
			break
		}
	}
	if l.moov > math.MaxUint32 {
		return nil, fmt.Errorf("record: %d bytes of sample tables: %w", l.moov, errors.ErrUnsupported)
	}
	return l, nil
}

// lay makes the headers of a track, and returns for how long it plays on the
// movie's clock. start is when the movie begins.
func (t *trackLayout) lay(start, unix int64) (int64, error) {
	delay := rescale(t.firstPTS, t.rate, movieRate) - start
	length := rescale(t.end()-t.first, t.rate, movieRate)
	shown := delay + length
	tkhd, mdhd := t.desc.tkhd, t.desc.mdhd
	tkhd.Flags = 3 // enabled, in the movie
	tkhd.Duration, mdhd.Duration = uint64(shown), uint64(t.end()-t.first)
	for _, set := range []func(int64){tkhd.SetCreationTimeS, tkhd.SetModificationTimeS, mdhd.SetCreationTimeS, mdhd.SetModificationTimeS} {
		set(unix)
	}
	tkhd.Version, mdhd.Version = version(tkhd.Duration), version(mdhd.Duration)
	elst := &mp4.ElstBox{Version: 1}
	if delay > 0 {
		elst.Entries = append(elst.Entries, mp4.ElstEntry{SegmentDuration: uint64(delay), MediaTime: -1, MediaRateInteger: 1})
	}
	elst.Entries = append(elst.Entries, mp4.ElstEntry{SegmentDuration: uint64(length), MediaTime: max(t.firstPTS-t.first, 0), MediaRateInteger: 1})
	edts := &mp4.EdtsBox{}
	edts.AddChild(elst)
	var err error
	if t.tkhd, err = encode([]mp4.Box{&tkhd}); err == nil {
		if t.mdhd, err = encode([]mp4.Box{&mdhd}); err == nil {
			t.edts, err = encode([]mp4.Box{edts})
		}
	}
	return shown, err
}

// version is that of a box with the duration.
func version(duration uint64) byte {
	if duration > math.MaxUint32 {
		return 1
	}
	return 0
}

// laySamples counts what the tables of a track have.
func (x *mp4Index) laySamples(t *trackLayout) {
	var step, offset int64 = -1, math.MinInt64
	for d, s := range t.durations() {
		if d != step {
			t.sttsRuns++
			step = d
		}
		if o := s.pts - s.dts; o != offset {
			t.cttsRuns++
			offset = o
			t.shifted = t.shifted || o != 0
			t.negative = t.negative || o < 0
		}
	}
	last := -1
	for c := range x.all() {
		if c.track == t.index && c.samples != last {
			t.stscRuns++
			last = c.samples
		}
	}
}

// durations yields the samples, and how long each lasts.
func (t *mp4Track) durations() func(yield func(int64, mp4Sample) bool) {
	return func(yield func(int64, mp4Sample) bool) {
		var held mp4Sample
		i := 0
		for s := range t.samples() {
			if i > 0 && !yield(s.dts-held.dts, held) {
				return
			}
			held = s
			i++
		}
		if i > 0 {
			yield(t.end()-held.dts, held)
		}
	}
}

// sum works out the sizes of the boxes, with chunk offsets of wid bytes.
func (t *trackLayout) sum(wid int64) int64 {
	const full = boxHeader + 4 + 4 // version and flags, count
	t.wid = wid
	t.stts = full + 8*int64(t.sttsRuns)
	t.ctts, t.stss = 0, 0
	if t.shifted {
		t.ctts = full + 8*int64(t.cttsRuns)
	}
	if t.keys < t.n {
		t.stss = full + 4*int64(t.keys)
	}
	t.stsz = full + 4 + 4*int64(t.n)
	t.stsc = full + 12*int64(t.stscRuns)
	t.stco = full + wid*int64(t.chunks)
	m := &t.desc
	t.stbl = boxHeader + int64(len(m.stsd)) + t.stts + t.ctts + t.stss + t.stsz + t.stsc + t.stco
	t.minf = boxHeader + int64(len(m.minf)) + t.stbl
	t.mdia = boxHeader + int64(len(t.mdhd)+len(m.mdia)) + t.minf
	t.trak = boxHeader + int64(len(t.tkhd)+len(t.edts)) + t.mdia
	return t.trak
}

// header writes the file up to the first chunk.
func (x *mp4Index) header(w *bufio.Writer, l *layout) {
	w.Write(l.ftyp)
	box(w, l.moov, "moov")
	w.Write(l.mvhd)
	for i := range l.tracks {
		x.writeTrak(w, &l.tracks[i], l.data)
	}
	if l.wide {
		box(w, 1, "mdat")
		w.Write(binary.BigEndian.AppendUint64(nil, uint64(16+x.bytes)))
	} else {
		box(w, boxHeader+x.bytes, "mdat")
	}
}

func (x *mp4Index) writeTrak(w *bufio.Writer, t *trackLayout, data int64) {
	m := &t.desc
	box(w, t.trak, "trak")
	w.Write(t.tkhd)
	w.Write(t.edts)
	box(w, t.mdia, "mdia")
	w.Write(t.mdhd)
	w.Write(m.mdia)
	box(w, t.minf, "minf")
	w.Write(m.minf)
	box(w, t.stbl, "stbl")
	w.Write(m.stsd)
	writeStts(w, t)
	if t.shifted {
		writeCtts(w, t)
	}
	if t.keys < t.n {
		box(w, t.stss, "stss", 0, uint32(t.keys))
		n := uint32(0)
		for s := range t.samples() {
			if n++; s.key {
				words(w, n)
			}
		}
	}
	box(w, t.stsz, "stsz", 0, 0, uint32(t.n))
	for s := range t.samples() {
		words(w, uint32(s.size))
	}
	x.writeChunks(w, t, data)
}

func writeStts(w *bufio.Writer, t *trackLayout) {
	box(w, t.stts, "stts", 0, uint32(t.sttsRuns))
	step, n := int64(-1), uint32(0)
	for d := range t.durations() {
		if d != step {
			if n > 0 {
				words(w, n, uint32(step))
			}
			step, n = d, 0
		}
		n++
	}
	words(w, n, uint32(step))
}

func writeCtts(w *bufio.Writer, t *trackLayout) {
	v := uint32(0)
	if t.negative {
		v = 1 << 24 // version 1: offsets are signed
	}
	box(w, t.ctts, "ctts", v, uint32(t.cttsRuns))
	offset, n := int64(math.MinInt64), uint32(0)
	for s := range t.samples() {
		if o := s.pts - s.dts; o != offset {
			if n > 0 {
				words(w, n, uint32(int32(offset)))
			}
			offset, n = o, 0
		}
		n++
	}
	words(w, n, uint32(int32(offset)))
}

// writeChunks writes stsc and stco or co64.
func (x *mp4Index) writeChunks(w *bufio.Writer, t *trackLayout, data int64) {
	box(w, t.stsc, "stsc", 0, uint32(t.stscRuns))
	last, n := -1, uint32(0)
	for c := range x.all() {
		if c.track != t.index {
			continue
		}
		if n++; c.samples != last {
			words(w, n, uint32(c.samples), 1)
			last = c.samples
		}
	}
	name := "stco"
	if t.wid == 8 {
		name = "co64"
	}
	box(w, t.stco, name, 0, uint32(t.chunks))
	for c := range x.all() {
		if c.track == t.index {
			if t.wid == 8 {
				words(w, uint32(data>>32))
			}
			words(w, uint32(data))
		}
		data += c.size
	}
}

// writePlain writes the plain file: what players need first, then what the chunks
// of src hold, in their order.
func (x *mp4Index) writePlain(w io.Writer, src io.ReadSeeker, created time.Time) error {
	l, err := x.lay(created)
	if err != nil {
		return err
	}
	bw := bufio.NewWriterSize(w, 64<<10)
	x.header(bw, l)
	if err := bw.Flush(); err != nil {
		return err
	}
	buf := make([]byte, copyBuffer)
	from, length := int64(0), int64(0) // what is to be copied next
	copyOut := func() error {
		if length == 0 {
			return nil
		}
		if _, err := src.Seek(from, io.SeekStart); err != nil {
			return err
		}
		// Hide ReadFrom and WriteTo: the buffer is what bounds memory.
		n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(src, length)}, buf)
		if err == nil && n < length {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	for c := range x.all() {
		if c.offset == from+length {
			length += c.size
			continue
		}
		if err := copyOut(); err != nil {
			return err
		}
		from, length = c.offset, c.size
	}
	return copyOut()
}

const copyBuffer = 256 << 10

// box writes the header of a box, and numbers that it begins with.
func box(w *bufio.Writer, size int64, name string, numbers ...uint32) {
	words(w, uint32(size))
	w.WriteString(name)
	words(w, numbers...)
}

func words(w *bufio.Writer, numbers ...uint32) {
	var b [4]byte
	for _, n := range numbers {
		binary.BigEndian.PutUint32(b[:], n)
		w.Write(b[:])
	}
}

// rescale converts ticks from one clock to another.
func rescale(n, from, to int64) int64 {
	if from == to {
		return n
	}
	sec, rest := n/from, n%from
	return sec*to + rest*to/from
}
