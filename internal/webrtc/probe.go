package webrtc

import "time"

// A probe is more sent than there is to send, to see if a path carries it: an
// estimate knows only what has been tried.
type probe struct {
	rate  int64 // bits a second in all; 0: none
	until time.Time
	at    time.Time // of the last frame
}

// Probe has the session fill what it sends of the video up to a rate, for some
// time, with packets that are sent again. Without retransmissions it does nothing.
func (s *Session) Probe(bitsPerSecond int64, bound time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outgoing.probe = probe{rate: bitsPerSecond, until: time.Now().Add(bound)}
}

// maxProbe bounds how many packets follow one frame.
const maxProbe = 64

// fill sends packets of the newest frames again, after a frame of size bytes.
// Called with the feed's lock and s.mu held.
func (s *Session) fill(o *outgoing, ft *feedTrack, size int, now time.Time) {
	p := &s.outgoing.probe
	passed := now.Sub(p.at)
	if now.After(p.until) || o.line.rtx == 0 {
		*p = probe{}
		return
	}
	if p.at = now; passed > 500*time.Millisecond {
		return // the first
	}
	left := int(p.rate/8*passed.Milliseconds()/1000) - size
	for n, seq := 0, ft.next-1; left > 0 && n < maxProbe; n, seq = n+1, seq-1 {
		if seq < o.now.first || ft.at(seq) == nil {
			if seq = ft.next - 1; seq < o.now.first {
				return
			}
		}
		again := ft.at(seq)
		s.repeat(o, &o.now, again, o.now.base+uint64(seq-o.now.first), now)
		s.outgoing.stats.Probed++
		left -= len(again.payload) + lenHeader + maxExtension
	}
}
