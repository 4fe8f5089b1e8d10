package srt

import (
	"slices"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
)

// A muxer makes a transport stream of what a Subscriber reads.
type muxer struct {
	mux    mpegts.Muxer
	tracks []*stream.Track // of the stream, as they were chosen from
	chosen []*stream.Track
	buf    []byte // what the last add made
}

// add muxes frames into buf, and returns how many bytes of media they have.
func (m *muxer) add(frames []*stream.Frame, sub *stream.Subscriber) (media int, err error) {
	m.buf = m.buf[:0]
	for _, f := range frames {
		if !slices.Contains(m.tracks, f.Track) {
			if err := m.choose(sub.Tracks(), f.Track); err != nil {
				return media, err
			}
		}
		if slices.Contains(m.chosen, f.Track) {
			m.buf = m.mux.AppendFrame(m.buf, f)
			media += len(f.Data)
		}
	}
	return media, nil
}

// choose takes one track of each kind of those in force, of which now is one: the
// stream may be ahead of the reader.
func (m *muxer) choose(all []*stream.Track, now *stream.Track) error {
	m.tracks = slices.Clone(all)
	if i := slices.IndexFunc(m.tracks, func(t *stream.Track) bool { return t.ID == now.ID }); i >= 0 {
		m.tracks[i] = now
	} else {
		m.tracks = append(m.tracks, now)
	}
	var chosen []*stream.Track
	var refused error
	for _, t := range m.tracks {
		if slices.ContainsFunc(chosen, func(c *stream.Track) bool { return c.Kind() == t.Kind() }) {
			continue
		}
		if err := mpegts.Supports(t); err != nil {
			refused = err
			continue
		}
		chosen = append(chosen, t)
	}
	if len(chosen) == 0 {
		return refused
	}
	if err := m.mux.Configure(chosen); err != nil {
		return err
	}
	m.chosen = chosen
	m.buf = m.mux.AppendTables(m.buf)
	return nil
}
