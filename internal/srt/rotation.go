package srt

// A rotation changes a sender's key now and then (draft 6.1.6).
type rotation struct {
	ring  *keyring
	slot  keySlot // what is used
	after uint64  // packets; 0: refreshAfter
	used  uint64  // packets since the key came into use

	announced bool
	agreed    bool
	asked     micros // when it was last announced
}

func (r *rotation) period() (after, ahead uint64) {
	after = r.after
	if after == 0 {
		after = refreshAfter
	}
	return after, min(announceAhead, after/2)
}

// count counts a packet that is about to be sent for the first time.
func (r *rotation) count(s *sender, now micros) {
	if r.ring == nil {
		return
	}
	r.used++
	after, ahead := r.period()
	other := keyBoth ^ r.slot
	switch {
	case r.used >= after-ahead && !r.announced:
		if r.ring.renew(other) != nil {
			return
		}
		r.announced, r.agreed = true, false
		r.announce(s, now)
	case r.used >= after && r.agreed:
		// The last key stays for what is sent again, until it is renewed.
		r.slot, r.used, r.announced = other, 0, false
		s.c.stats.KeyRotations++
	}
}

func (r *rotation) announce(s *sender, now micros) {
	b := r.ring.material(keyBoth).append(nil)
	copy(s.c.control(now, typeUser, extKMReq, 0, len(b)), b)
	r.asked = now
}

// tick announces again what was not answered.
func (r *rotation) tick(s *sender, now micros) {
	if r.announced && !r.agreed && now-r.asked > s.c.rtt*3/2+synInterval {
		r.announce(s, now)
	}
}

// answered takes a KMRSP. Only one that repeats what was announced agrees.
func (r *rotation) answered(body []byte) {
	if !r.announced || r.agreed {
		return
	}
	m, err := parseKM(body)
	if err != nil || m.which != keyBoth || m.salt != r.ring.salt {
		return // refused, or nonsense: the key in use stays
	}
	if string(m.wrapped) == string(wrap(r.ring.kek, append(append([]byte(nil), r.ring.keys[keyEven]...), r.ring.keys[keyOdd]...))) {
		r.agreed = true
	}
}
