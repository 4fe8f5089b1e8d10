package stream

import (
	"slices"
	"time"
)

// mixer puts the frames of several tracks into one order by DTS (SRS:
// mix_correct): it holds a frame back until another track has come as far,
// within bounds.
type mixer struct {
	held []*Frame // by DTS
}

const (
	mixFrames = 64
	mixSpan   = 500 * time.Millisecond
)

func (m *mixer) push(f *Frame) {
	i := len(m.held)
	for i > 0 && m.held[i-1].DTS > f.DTS {
		i--
	}
	m.held = slices.Insert(m.held, i, f)
}

// due reports whether the first of held, which is not empty, need not wait:
// another track is already past it, or the bounds are reached.
func (m *mixer) due() bool {
	first, last := m.held[0], m.held[len(m.held)-1]
	return len(m.held) > mixFrames || last.DTS-first.DTS > mixSpan ||
		slices.ContainsFunc(m.held[1:], func(f *Frame) bool { return f.Track.ID != first.Track.ID })
}

// pop takes the first of held.
func (m *mixer) pop() *Frame {
	f := m.held[0]
	m.held = slices.Delete(m.held, 0, 1)
	return f
}
