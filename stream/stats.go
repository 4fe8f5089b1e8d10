package stream

import "time"

// StreamStats are the figures of a stream at one moment.
type StreamStats struct {
	Frames   uint64        `json:"frames"`
	Bytes    uint64        `json:"bytes"`
	BitRate  BitRates      `json:"bit_rate"`
	Tracks   []TrackStats  `json:"tracks"`
	Readers  int           `json:"readers"` // subscribers in this process, not players
	Dropped  uint64        `json:"dropped"` // frames that subscribers skipped, being slow
	Uptime   time.Duration `json:"uptime"`
	Position time.Duration `json:"position"` // DTS of the newest frame
}

// BitRates are bits a second over sliding windows.
type BitRates struct {
	Last1s  float64 `json:"last_1s"`
	Last10s float64 `json:"last_10s"`
	Last30s float64 `json:"last_30s"`
}

// TrackStats are the figures of one track.
type TrackStats struct {
	Track       *Track        `json:"-"`
	Frames      uint64        `json:"frames"`
	Bytes       uint64        `json:"bytes"`
	FrameRate   float64       `json:"frame_rate"`   // over the last seconds
	KeyInterval time.Duration `json:"key_interval"` // between the last two key frames of a video track
}

// Stats returns the stream's figures now.
func (s *Stream) Stats() StreamStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.statsLocked()
}

// statsLocked is Stats with s.mu held.
func (s *Stream) statsLocked() StreamStats {
	now := time.Now()
	m := &s.stats
	st := StreamStats{
		Frames:   m.frames,
		Bytes:    m.bytes,
		Readers:  len(s.readers),
		Dropped:  m.dropped,
		Uptime:   now.Sub(s.started),
		Position: s.line.newest,
		BitRate:  BitRates{m.bitRate(now, s.started, 1), m.bitRate(now, s.started, 10), m.bitRate(now, s.started, 30)},
	}
	for r := range s.readers {
		st.Dropped += r.dropped
	}
	for _, t := range s.tracks {
		ts := TrackStats{Track: t}
		if tm := m.track(t.ID); tm != nil {
			ts.Frames, ts.Bytes, ts.KeyInterval = tm.frames, tm.bytes, tm.keyInterval
			ts.FrameRate = tm.rate(now)
		}
		st.Tracks = append(st.Tracks, ts)
	}
	return st
}

func (s *Stream) readerCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.readers)
}

// meter counts what a publisher writes. It is guarded by stream.mu.
type meter struct {
	frames, bytes uint64
	dropped       uint64 // by readers that have left
	seconds       [32]struct {
		unix  int64
		bytes uint64
	}
	tracks []trackMeter
}

type trackMeter struct {
	id            uint8
	frames, bytes uint64
	keys          uint64
	lastKey       time.Duration
	keyInterval   time.Duration
	recent        [64]time.Time // when the last frames arrived
}

func (m *meter) add(f *Frame) {
	n := uint64(len(f.Data))
	m.frames++
	m.bytes += n
	unix := f.arrived.Unix()
	sec := &m.seconds[uint64(unix)%uint64(len(m.seconds))]
	if sec.unix != unix {
		sec.unix, sec.bytes = unix, 0
	}
	sec.bytes += n
	t := m.track(f.Track.ID)
	if t == nil {
		m.tracks = append(m.tracks, trackMeter{id: f.Track.ID})
		t = &m.tracks[len(m.tracks)-1]
	}
	t.recent[t.frames%uint64(len(t.recent))] = f.arrived
	t.frames++
	t.bytes += n
	if f.Key && f.Track.Kind() == Video {
		if t.keys > 0 && f.DTS > t.lastKey {
			t.keyInterval = f.DTS - t.lastKey
		}
		t.keys++
		t.lastKey = f.DTS
	}
}

func (m *meter) track(id uint8) *trackMeter {
	for i := range m.tracks {
		if m.tracks[i].id == id {
			return &m.tracks[i]
		}
	}
	return nil
}

// bitRate averages over the last full seconds, or over the stream's whole life
// if that is shorter.
func (m *meter) bitRate(now, started time.Time, seconds int64) float64 {
	unix := now.Unix()
	var sum uint64
	for _, s := range m.seconds {
		if s.unix < unix && s.unix >= unix-seconds {
			sum += s.bytes
		}
	}
	window := min(float64(seconds), max(1, float64(unix-started.Unix())))
	return float64(sum) * 8 / window
}

// rate is the frame rate over the frames that are remembered. It falls while
// none come.
func (t *trackMeter) rate(now time.Time) float64 {
	n := min(t.frames, uint64(len(t.recent)))
	if n < 2 {
		return 0
	}
	last := t.recent[(t.frames-1)%uint64(len(t.recent))]
	first := t.recent[(t.frames-n)%uint64(len(t.recent))]
	if now.Sub(last) > 2*time.Second {
		last = now
	}
	if d := last.Sub(first).Seconds(); d > 0 {
		return float64(n-1) / d
	}
	return 0
}
