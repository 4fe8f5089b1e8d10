package deliver

import (
	"time"

	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/stream"
)

// mp4Muxer writes fragmented MP4, a part per frame.
type mp4Muxer struct {
	init   []byte
	seq    uint32
	clocks map[uint8]*mp4Clock // by track ID
	frame  [1]*stream.Frame
	run    [1]fmp4.Run
}

// mp4Clock guesses how long a frame lasts, which MP4 wants to be told before
// the next one has come. Browsers bridge a gap of twice the duration and take
// a larger one for a loss, so the guess is the longest of the recent ones.
type mp4Clock struct {
	track    *stream.Track
	last     time.Duration
	duration time.Duration
}

func (m *mp4Muxer) supports(t *stream.Track) error {
	_, err := fmp4.Init(t)
	return err
}

func (m *mp4Muxer) configure(tracks []*stream.Track, _ stream.Metadata) error {
	init, err := fmp4.Init(tracks...)
	if err != nil {
		return err
	}
	m.init = init
	old := m.clocks
	m.clocks = make(map[uint8]*mp4Clock, len(tracks))
	for _, t := range tracks {
		if c := old[t.ID]; c != nil && c.track == t {
			m.clocks[t.ID] = c
			continue
		}
		c := &mp4Clock{track: t, duration: 100 * time.Millisecond}
		if t.Kind() == stream.Audio {
			c.duration = 0 // fmp4 knows the codec's
		} else if v, err := t.Video(); err == nil && v.FPS > 1 {
			c.duration = time.Duration(float64(time.Second) / v.FPS)
		}
		m.clocks[t.ID] = c
	}
	return nil
}

func (m *mp4Muxer) prefix(dst []byte, _ time.Duration, _ bool) []byte {
	return append(dst, m.init...)
}

func (m *mp4Muxer) size(f *stream.Frame) int { return len(f.Data) + 160 }

func (m *mp4Muxer) appendFrame(dst []byte, f *stream.Frame) []byte {
	c := m.clocks[f.Track.ID]
	if delta := f.DTS - c.last; c.last > 0 && delta > 0 && !f.Discontinuity {
		c.duration = max(delta, c.duration-c.duration/8)
	}
	c.last = f.DTS
	m.seq++
	m.frame[0] = f
	m.run[0] = fmp4.Run{Track: f.Track, Frames: m.frame[:]}
	if c.duration > 0 {
		m.run[0].Next = f.DTS + c.duration
	}
	return fmp4.AppendPart(dst, m.seq, m.run[:]...)
}
