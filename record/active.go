package record

import (
	"cmp"
	"slices"
	"time"
)

// Active describes a recording that is under way.
type Active struct {
	Stream  string `json:"stream"`
	Demand  bool   `json:"demand,omitempty"` // Start asked for it, rather than Match
	Name    string `json:"name,omitempty"`   // of the file that is being written; "" while a key frame is waited for, or a storage that failed
	Format  Format `json:"format"`
	Session string `json:"session,omitempty"` // as in Info
	Segment int    `json:"segment,omitempty"`

	Start    time.Time     `json:"start,omitzero"` // wall clock of the file's first frame
	Duration time.Duration `json:"duration"`       // nanoseconds of media in the file so far
	Size     int64         `json:"size"`           // bytes of the file so far
}

// Active returns the recordings that are under way, by name of the stream, each of
// which is recorded once at most: Stop ends it.
func (r *Recorder) Active() []Active {
	r.mu.Lock()
	sessions := make([]*session, 0, len(r.sessions))
	demanded := make(map[string]bool, len(r.wanted))
	for name, s := range r.sessions {
		sessions = append(sessions, s)
		demanded[name] = r.wanted[name]
	}
	r.mu.Unlock()
	var list []Active
	for _, s := range sessions {
		if !s.wanted() {
			continue
		}
		s.mu.Lock()
		a := s.progress
		s.mu.Unlock()
		a.Stream, a.Format, a.Demand = s.name, r.Format, demanded[s.name]
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b Active) int { return cmp.Compare(a.Stream, b.Stream) })
	return list
}
