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
}

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

func (m *tsMuxer) size(f *stream.Frame) int { return m.mux.Size(f) + tables }

func (m *tsMuxer) appendFrame(dst []byte, f *stream.Frame) []byte {
	if m.point {
		m.point = false
		dst = m.mux.AppendTables(dst)
	}
	return m.mux.AppendFrame(dst, f)
}
