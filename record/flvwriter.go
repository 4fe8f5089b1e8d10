package record

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

// An flvWriter writes tags, and keeps where the key frames are.
type flvWriter struct {
	out       *bufio.Writer
	interval  time.Duration // at most so long what is written stays in out
	announced func() []*stream.Track
	metadata  stream.Metadata

	index  flvIndex
	tracks []*stream.Track // whose configuration has been written
	begun  bool
	base   time.Duration // DTS that becomes 0
	from   time.Duration // DTS of the first frame in out
	size   int64
	safe   int64
	buf    []byte
}

// An flvIndex is what the metadata of a complete file says.
type flvIndex struct {
	tracks   []*stream.Track
	metadata stream.Metadata
	body     int64 // offset of what follows the metadata
	size     int64
	last     int64 // newest timestamp, ms
	step     int64 // between the last two pictures
	picture  int64
	audio    bool
	video    bool
	times    []float64 // of key frames, s
	places   []float64 // offsets of their tags
}

func (w *flvWriter) takes(f *stream.Frame) verdict {
	if f.Track.Kind() == stream.Data {
		return take
	}
	for _, t := range w.tracks {
		if t == f.Track {
			return take
		}
	}
	if _, err := flv.AppendConfigBody(nil, f.Track); err != nil || w.other(f.Track) {
		return skip
	}
	return take
}

// other reports whether the file already has another track of the kind: it can have
// one.
func (w *flvWriter) other(t *stream.Track) bool {
	for _, o := range w.tracks {
		if o.Kind() == t.Kind() && o.ID != t.ID {
			return true
		}
	}
	return false
}

func (w *flvWriter) write(f *stream.Frame) error {
	if !w.begun {
		if err := w.begin(f); err != nil {
			return err
		}
	}
	if err := w.config(f.Track); err != nil {
		return err
	}
	g := *f
	g.DTS, g.PTS = max(f.DTS-w.base, 0), max(f.DTS-w.base, 0)+f.PTS-f.DTS
	var err error
	w.buf, err = flv.Options{}.AppendFrameTag(w.buf[:0], &g)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	w.index.note(w.buf, w.size, f.Key && f.Track.Kind() == stream.Video)
	if err := w.put(w.buf); err != nil {
		return err
	}
	if f.DTS-w.from < w.interval && f.DTS >= w.from {
		return nil
	}
	w.from = f.DTS
	return w.sync()
}

func (w *flvWriter) begin(f *stream.Frame) error {
	w.begun, w.base, w.from = true, f.DTS, f.DTS
	audio, video := false, false
	var tracks []*stream.Track
	for _, t := range append(w.announced(), f.Track) {
		if t.Kind() == stream.Data {
			continue
		}
		tracks = append(tracks, t)
		audio = audio || t.Kind() == stream.Audio
		video = video || t.Kind() == stream.Video
	}
	w.index.tracks, w.index.metadata = tracks, w.metadata
	w.buf = flv.AppendFileHeader(w.buf[:0], audio, video)
	body, err := flv.AppendMetadataBody(nil, flv.MetadataFor(tracks, w.metadata))
	if err == nil {
		w.buf, err = flv.AppendTag(w.buf, flv.TagData, 0, nil, body)
	}
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	w.index.body = int64(len(w.buf))
	if err := w.put(w.buf); err != nil {
		return err
	}
	for _, t := range tracks {
		if _, err := flv.AppendConfigBody(nil, t); err != nil || w.other(t) {
			continue
		}
		if err := w.config(t); err != nil {
			return err
		}
	}
	return nil
}

// config writes a track's configuration if it is new.
func (w *flvWriter) config(t *stream.Track) error {
	for i, o := range w.tracks {
		switch {
		case o == t:
			return nil
		case o.ID == t.ID && o.Same(t):
			w.tracks[i] = t
			return nil
		case o.ID == t.ID:
			w.tracks[i] = t
			return w.writeConfig(t)
		}
	}
	if t.Kind() == stream.Data {
		return nil
	}
	w.tracks = append(w.tracks, t)
	return w.writeConfig(t)
}

func (w *flvWriter) writeConfig(t *stream.Track) error {
	body, err := flv.AppendConfigBody(nil, t)
	if err != nil || body == nil {
		return err
	}
	tag, err := flv.AppendTag(nil, flv.TagType(t), uint32(w.index.last), nil, body)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	w.index.note(tag, w.size, false)
	return w.put(tag)
}

func (w *flvWriter) put(b []byte) error {
	n, err := w.out.Write(b)
	w.size += int64(n)
	return err
}

func (w *flvWriter) sync() error {
	if err := w.out.Flush(); err != nil {
		return err
	}
	w.safe = w.size
	return nil
}

func (w *flvWriter) flush(time.Duration) error { return w.sync() }
func (w *flvWriter) whole() int64              { return w.safe }

func (w *flvWriter) rewrite(out io.Writer, src io.ReadSeeker) error {
	w.index.size = w.safe
	return w.index.write(out, src)
}

// note takes account of a tag at an offset.
func (x *flvIndex) note(tag []byte, offset int64, key bool) {
	ts := int64(tag[7])<<24 | int64(tag[4])<<16 | int64(tag[5])<<8 | int64(tag[6])
	switch tag[0] {
	case flv.TagVideo:
		if x.video && ts > x.picture {
			x.step = ts - x.picture
		}
		x.video, x.picture = true, ts
		if key && len(x.times) < maxKeyframes {
			x.times = append(x.times, float64(ts)/1000)
			x.places = append(x.places, float64(offset))
		}
	case flv.TagAudio:
		x.audio = true
	}
	x.last = max(x.last, ts)
}

// maxKeyframes bounds the index of key frames: one a second for two days.
const maxKeyframes = 200_000

// duration is how long the file plays.
func (x *flvIndex) duration() time.Duration {
	return time.Duration(max(x.last, x.picture+x.step)) * time.Millisecond
}

// write writes the complete file: headers with its duration, and what follows them
// in src.
func (x *flvIndex) write(w io.Writer, src io.ReadSeeker) error {
	head, err := x.head(0)
	if err != nil {
		return err
	}
	// Numbers have a fixed size, so the offsets do not change the length.
	if head, err = x.head(int64(len(head)) - x.body); err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	if _, err := src.Seek(x.body, io.SeekStart); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(src, x.size-x.body)}, make([]byte, copyBuffer))
	if err == nil && n < x.size-x.body {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// head returns the headers of the complete file, in which the rest of it has moved.
func (x *flvIndex) head(moved int64) ([]byte, error) {
	m := flv.MetadataFor(x.tracks, x.metadata)
	m["duration"] = x.duration().Seconds()
	m["lasttimestamp"] = float64(x.last) / 1000
	m["filesize"] = float64(x.size + moved)
	if len(x.times) > 1 { // ffmpeg complains of a shorter one
		times, places := make([]any, len(x.times)), make([]any, len(x.times))
		for i := range times {
			times[i], places[i] = x.times[i], x.places[i]+float64(moved)
		}
		m["hasKeyframes"], m["canSeekToEnd"] = true, true
		m["keyframes"] = map[string]any{"times": times, "filepositions": places}
	}
	body, err := flv.AppendMetadataBody(nil, m)
	var b []byte
	if err == nil {
		b, err = flv.AppendTag(flv.AppendFileHeader(nil, x.audio, x.video), flv.TagData, 0, nil, body)
	}
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return b, nil
}

var errNoFLV = errors.New("record: not an FLV file that can be read")

// scanFLV reads the tags of a file of size bytes up to the last whole one.
func scanFLV(r io.ReadSeeker, size int64) (*flvIndex, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(io.LimitReader(r, size), 64<<10)
	var h [flv.FileHeaderSize]byte
	if _, err := io.ReadFull(br, h[:]); err != nil || string(h[:3]) != "FLV" || binary.BigEndian.Uint32(h[5:]) != 9 {
		return nil, fmt.Errorf("%w: no file header", errNoFLV)
	}
	x := &flvIndex{size: flv.FileHeaderSize, body: flv.FileHeaderSize}
	sink := &flvTracks{x: x}
	demux := flv.Demuxer{Sink: sink}
	for {
		head, err := br.Peek(flv.TagHeaderSize)
		if err != nil {
			break
		}
		n := flv.TagHeaderSize + int64(head[1])<<16 + int64(head[2])<<8 + int64(head[3])
		if x.size+n+flv.TagEndSize > size {
			break
		}
		tag := make([]byte, n+flv.TagEndSize)
		if _, err := io.ReadFull(br, tag); err != nil {
			break
		}
		if int64(binary.BigEndian.Uint32(tag[n:])) != n {
			break // not a tag
		}
		sink.key = false
		ts := int64(tag[7])<<24 | int64(tag[4])<<16 | int64(tag[5])<<8 | int64(tag[6])
		_ = demux.Tag(tag[0], ts, tag[flv.TagHeaderSize:n], time.Time{}) // what it can't read is kept all the same
		if tag[0] == flv.TagData && x.size == flv.FileHeaderSize {
			x.body = x.size + int64(len(tag)) // the metadata
		} else {
			x.note(tag, x.size, sink.key)
		}
		x.size += int64(len(tag))
	}
	if sink.frames == 0 {
		return nil, fmt.Errorf("%w: no media", errNoFLV)
	}
	return x, nil
}

// flvTracks takes from a file what its metadata is made of.
type flvTracks struct {
	x      *flvIndex
	key    bool // the tag is a key frame
	frames int
}

func (s *flvTracks) SetTracks(tracks ...*stream.Track) error { s.x.tracks = tracks; return nil }
func (s *flvTracks) SetMetadata(m stream.Metadata)           { s.x.metadata = m }
func (s *flvTracks) Write(f *stream.Frame) error {
	s.frames++
	s.key = f.Key && f.Track.Kind() == stream.Video
	return nil
}
