package stream

// wakers is how many readers a publisher wakes itself; a longer list is left to
// a goroutine, for the publisher never waits for anybody.
const wakers = 16

// sleepers are the readers that have read all there is. Each is on the list at
// most once, and leaves it by remove when it is closed: a stream to which
// nothing is written collects none. It is guarded by stream.mu.
type sleepers struct {
	list  []*Subscriber
	spare []*Subscriber // the array that list had before it was last taken
	busy  bool          // a goroutine will wake them
}

func (w *sleepers) add(r *Subscriber) {
	if r.bed == 0 {
		w.list = append(w.list, r)
		r.bed = len(w.list)
	}
}

func (w *sleepers) remove(r *Subscriber) {
	if r.bed == 0 {
		return
	}
	last := len(w.list) - 1
	w.list[r.bed-1] = w.list[last]
	w.list[r.bed-1].bed = r.bed
	w.list[last] = nil
	w.list = w.list[:last]
	r.bed = 0
}

// take empties the list. Give what it returns back to giveBack when done.
func (w *sleepers) take() []*Subscriber {
	all := w.list
	for _, r := range all {
		r.bed = 0
	}
	w.list, w.spare = w.spare, nil
	return all
}

func (w *sleepers) giveBack(all []*Subscriber) {
	clear(all)
	w.spare = all[:0]
}

// unlockAndWake unlocks s.mu and wakes the readers that wait for what was
// written.
func (s *Stream) unlockAndWake() {
	if len(s.sleepers.list) > wakers {
		if !s.sleepers.busy {
			s.sleepers.busy = true
			go s.wakeAll()
		}
		s.mu.Unlock()
		return
	}
	var now [wakers]*Subscriber
	n := copy(now[:], s.sleepers.list)
	for _, r := range now[:n] {
		r.bed = 0
	}
	clear(s.sleepers.list)
	s.sleepers.list = s.sleepers.list[:0]
	s.mu.Unlock()
	for _, r := range now[:n] {
		r.signal()
	}
}

// wakeAll wakes all sleepers.
func (s *Stream) wakeAll() {
	s.mu.Lock()
	s.sleepers.busy = false
	all := s.sleepers.take()
	s.mu.Unlock()
	for _, r := range all {
		r.signal()
	}
	s.mu.Lock()
	s.sleepers.giveBack(all)
	s.mu.Unlock()
}
