package record

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/stream"
)

// An mp4Writer writes fragments, and keeps where their samples lie.
type mp4Writer struct {
	out       *bufio.Writer
	fragment  time.Duration
	created   time.Time
	announced func() []*stream.Track // by the publisher, now

	index *mp4Index // nil before the first fragment
	lanes []*mp4Lane
	base  time.Duration // DTS that becomes 0
	from  time.Duration // DTS of the first frame of the next fragment
	held  bool          // there is a next fragment
	seq   uint32
	size  int64 // bytes written
	safe  int64 // of them, up to the end of the last whole fragment

	header []byte // scratch
	runs   []fmp4.Run
}

// An mp4Lane is the frames of one track on their way to the file.
type mp4Lane struct {
	track   *stream.Track
	refused bool // MP4 can't carry it
	frames  []stream.Frame
	refs    []*stream.Frame
}

func (m *mp4Writer) lane(t *stream.Track) *mp4Lane {
	for _, l := range m.lanes {
		if l.track.ID == t.ID {
			return l
		}
	}
	return nil
}

func (m *mp4Writer) takes(f *stream.Frame) verdict {
	l := m.lane(f.Track)
	switch {
	case l == nil && m.index == nil:
		l = &mp4Lane{track: f.Track}
		if _, err := fmp4.Init(f.Track); err != nil {
			l.refused = true
		}
		m.lanes = append(m.lanes, l)
	case l == nil:
		if _, err := fmp4.Init(f.Track); err != nil {
			m.lanes = append(m.lanes, &mp4Lane{track: f.Track, refused: true})
			return skip
		}
		return cut
	case l.track == f.Track:
	case l.track.Same(f.Track):
		l.track = f.Track
	case l.refused:
		if _, err := fmp4.Init(f.Track); err == nil {
			return cut
		}
		l.track = f.Track
	default:
		return cut
	}
	if l.refused {
		return skip
	}
	return take
}

// write holds a frame until its fragment is long enough.
func (m *mp4Writer) write(f *stream.Frame) error {
	if m.held {
		long := f.DTS - m.from
		if long >= m.fragment || f.Key && f.Track.Kind() == stream.Video && long >= m.fragment/4 {
			if err := m.cutFragment(); err != nil {
				return err
			}
		}
	}
	l := m.lane(f.Track)
	if !m.held {
		m.held, m.from = true, f.DTS
	}
	l.frames = append(l.frames, *f)
	return nil
}

// cutFragment writes what is held, but for the newest frame of each track: how long
// it lasts is not known before the next.
func (m *mp4Writer) cutFragment() error {
	if err := m.begin(); err != nil {
		return err
	}
	m.held = false
	newest := m.newest()
	m.runs = m.runs[:0]
	for _, l := range m.lanes {
		n := len(l.frames) - 1
		if n < 0 {
			continue
		}
		run := fmp4.Run{Track: l.track, Next: l.frames[n].DTS - m.base}
		if newest-l.frames[n].DTS > m.fragment { // nothing has come for long, and it is not to be lost
			n, run.Next = n+1, 0
		} else {
			if !m.held || l.frames[n].DTS < m.from {
				m.held, m.from = true, l.frames[n].DTS
			}
		}
		run.Frames = l.take(n, m.base)
		m.runs = append(m.runs, run)
	}
	err := m.writeRuns()
	for _, l := range m.lanes {
		l.drop(len(l.refs))
	}
	return err
}

func (m *mp4Writer) newest() (dts time.Duration) {
	for _, l := range m.lanes {
		if n := len(l.frames); n > 0 {
			dts = max(dts, l.frames[n-1].DTS)
		}
	}
	return dts
}

// take returns the first n frames with times from base on. They stay until drop.
func (l *mp4Lane) take(n int, base time.Duration) []*stream.Frame {
	l.refs = l.refs[:0]
	for i := range l.frames[:n] {
		f := &l.frames[i]
		f.DTS, f.PTS = f.DTS-base, f.PTS-base
		l.refs = append(l.refs, f)
	}
	return l.refs
}

func (l *mp4Lane) drop(n int) {
	left := copy(l.frames, l.frames[n:])
	clear(l.frames[left:])
	l.frames, l.refs = l.frames[:left], l.refs[:0]
}

func (m *mp4Writer) flush(next time.Duration) error {
	if !m.held {
		return nil
	}
	if err := m.begin(); err != nil {
		return err
	}
	m.held = false
	m.runs = m.runs[:0]
	for _, l := range m.lanes {
		if len(l.frames) == 0 {
			continue
		}
		run := fmp4.Run{Track: l.track, Frames: l.take(len(l.frames), m.base)}
		if next > 0 && l.track.Kind() == stream.Video {
			run.Next = next - m.base
		}
		m.runs = append(m.runs, run)
	}
	err := m.writeRuns()
	for _, l := range m.lanes {
		l.drop(len(l.refs))
	}
	return err
}

// begin writes the file's headers, when it is known which tracks there are.
func (m *mp4Writer) begin() error {
	if m.index != nil {
		return nil
	}
	for _, t := range m.announced() {
		if _, err := fmp4.Init(t); err == nil && m.lane(t) == nil {
			m.lanes = append(m.lanes, &mp4Lane{track: t})
		}
	}
	var tracks []*stream.Track
	begun := false
	for _, l := range m.lanes {
		if !l.refused {
			tracks = append(tracks, l.track)
		}
		if len(l.frames) > 0 && (!begun || l.frames[0].DTS < m.base) {
			begun, m.base = true, l.frames[0].DTS
		}
	}
	if len(tracks) == 0 {
		return fmt.Errorf("record: nothing for an MP4 file: %w", stream.ErrUnsupported)
	}
	b, err := fmp4.Init(tracks...)
	if err != nil {
		return err
	}
	file, err := mp4.DecodeFile(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	moov := file.Init.Moov
	moov.Mvhd.SetCreationTimeS(m.created.Unix())
	moov.Mvhd.SetModificationTimeS(m.created.Unix())
	if m.index, err = newIndex(moov); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := file.Init.Encode(&out); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if err := m.put(out.Bytes()); err != nil {
		return err
	}
	return m.sync()
}

func (m *mp4Writer) put(b []byte) error {
	n, err := m.out.Write(b)
	m.size += int64(n)
	return err
}

// sync hands what has been written to the storage.
func (m *mp4Writer) sync() error {
	if err := m.out.Flush(); err != nil {
		return err
	}
	m.safe = m.size
	return nil
}

// writeRuns writes a fragment of m.runs.
func (m *mp4Writer) writeRuns() error {
	m.seq++
	m.header = fmp4.AppendPartHeader(m.header[:0], m.seq, m.runs...)
	if len(m.header) == 0 {
		return nil
	}
	if err := m.put(m.header); err != nil {
		return err
	}
	at := m.size
	for i := range m.runs {
		for _, f := range m.runs[i].Frames {
			if err := m.put(f.Data); err != nil {
				return err
			}
		}
	}
	if err := m.sync(); err != nil {
		return err
	}
	for i := range m.runs { // now they are there
		at = m.note(&m.runs[i], at)
	}
	return nil
}

// note keeps where the frames of a run lie, from offset at on, and returns where
// they end. The times are those that the fragment states.
func (m *mp4Writer) note(run *fmp4.Run, at int64) int64 {
	if len(run.Frames) == 0 {
		return at
	}
	c := mp4Chunk{offset: at, samples: len(run.Frames)}
	for i, t := range m.index.tracks {
		if t.desc.tkhd.TrackID != uint32(run.Track.ID) {
			continue
		}
		c.track = i
		for _, f := range run.Frames {
			c.size += int64(len(f.Data))
			t.add(mp4Sample{
				size: int64(len(f.Data)), key: f.Key || !t.video,
				dts: max(0, stream.Ticks(f.DTS, int(t.rate))), pts: stream.Ticks(f.PTS, int(t.rate)),
			})
		}
		t.ends = 0
		if run.Next > 0 {
			t.ends = stream.Ticks(run.Next, int(t.rate))
		}
	}
	m.index.addChunk(c)
	return c.offset + c.size
}

func (m *mp4Writer) whole() int64 { return m.safe }

func (m *mp4Writer) rewrite(w io.Writer, src io.ReadSeeker) error {
	if m.index == nil {
		return fmt.Errorf("%w: no samples", errNoMP4)
	}
	return m.index.writePlain(w, src, m.created)
}
