package deliver

import (
	"time"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
)

// tsMuxer writes an MPEG transport stream.
type tsMuxer struct {
	mux   mpegts.Muxer
	point bool // players can start at the next frame

	// join is how much sound may share packets, which saves a quarter of its
	// bytes. It waits that long, or for the next picture.
	join   time.Duration
	sounds []*stream.Frame
}

// maxJoint is how much sound may share packets at most: receivers expect a clock
// that often.
const maxJoint = 100 * time.Millisecond

func (m *tsMuxer) supports(t *stream.Track) error { return mpegts.Supports(t) }

func (m *tsMuxer) configure(tracks []*stream.Track, _ stream.Metadata) error {
	return m.mux.Configure(tracks)
}

// prefix is nothing: the tables stand in the stream where players start, so that
// the counters of their packets go on without a gap for those who play already.
func (m *tsMuxer) prefix(dst []byte, _ time.Duration, whole bool) []byte {
	m.point = m.point || whole
	return dst
}

// tables is room for a PAT and a PMT.
const tables = 4 * mpegts.PacketSize

func (m *tsMuxer) size(f *stream.Frame) int {
	n := m.mux.Size(f) + tables
	for _, s := range m.sounds {
		n += m.mux.Size(s)
	}
	return n
}

func (m *tsMuxer) appendFrame(dst []byte, f *stream.Frame) []byte {
	if m.point {
		m.point = false
		dst = m.mux.AppendTables(dst)
	}
	if f.Track.Kind() == stream.Audio {
		m.sounds = append(m.sounds, f)
		first, step := m.sounds[0], time.Duration(0)
		if n := len(m.sounds); n > 1 {
			step = f.DTS - m.sounds[n-2].DTS
		}
		if step < 0 || f.DTS-first.DTS+2*step > m.join || step == 0 && m.join < minJoint { // with one more it would be too long
			dst = m.appendRest(dst)
		}
		return dst
	}
	dst = m.appendRest(dst)
	return m.mux.AppendFrame(dst, f)
}

// minJoint is the least for which it is worth waiting: two short frames.
const minJoint = 20 * time.Millisecond

// appendRest appends what is held back.
func (m *tsMuxer) appendRest(dst []byte) []byte {
	dst = m.mux.AppendFrames(dst, m.sounds)
	clear(m.sounds)
	m.sounds = m.sounds[:0]
	return dst
}
