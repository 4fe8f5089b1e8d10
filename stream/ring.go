package stream

import "time"

// A Cache bounds the frames that a stream keeps: the newest group of pictures,
// so that a late joiner starts at once, and what attached readers have not
// read yet. Zero fields take the defaults.
type Cache struct {
	Frames int           // default 2500
	Bytes  int64         // default 32 MiB
	Time   time.Duration // default 30 s, of media
	Off    bool          // late joiners wait for the next key frame
}

func (c Cache) withDefaults() Cache {
	if c.Frames <= 0 {
		c.Frames = 2500
	}
	if c.Bytes <= 0 {
		c.Bytes = 32 << 20
	}
	if c.Time <= 0 {
		c.Time = 30 * time.Second
	}
	return c
}

// ring holds the newest frames of a stream by sequence number. Readers hold
// numbers, not pointers: one that stalls pins nothing, it is overrun.
type ring struct {
	limits     Cache
	buf        []slot // length is a power of two, or zero
	tail, head uint64 // frames [tail, head) are held
	bytes      int64  // of all frames ever appended
	key        uint64 // newest access point; meaningful if hasKey
	hasKey     bool
	accessDTS  time.Duration
}

type slot struct {
	f   *Frame
	end int64 // r.bytes after this frame
}

func (r *ring) at(seq uint64) *slot { return &r.buf[seq&uint64(len(r.buf)-1)] }

func (r *ring) append(f *Frame, access bool) {
	if int(r.head-r.tail) == len(r.buf) {
		r.grow()
	}
	if access {
		r.key, r.hasKey, r.accessDTS = r.head, true, f.DTS
	}
	r.bytes += int64(len(f.Data))
	*r.at(r.head) = slot{f, r.bytes}
	r.head++
	for r.head-r.tail > 1 && r.over() {
		r.drop()
	}
}

func (r *ring) over() bool {
	oldest := r.at(r.tail)
	return r.head-r.tail > uint64(r.limits.Frames) ||
		r.bytes-oldest.end+int64(len(oldest.f.Data)) > r.limits.Bytes ||
		r.at(r.head-1).f.DTS-oldest.f.DTS > r.limits.Time
}

func (r *ring) drop() {
	*r.at(r.tail) = slot{}
	if r.hasKey && r.key == r.tail {
		r.hasKey = false
	}
	r.tail++
}

// trim forgets the frames before seq.
func (r *ring) trim(seq uint64) {
	for r.tail < seq && r.tail < r.head {
		r.drop()
	}
}

func (r *ring) grow() {
	buf := make([]slot, max(64, 2*len(r.buf)))
	for seq := r.tail; seq < r.head; seq++ {
		buf[seq&uint64(len(buf)-1)] = *r.at(seq)
	}
	r.buf = buf
}

// lag is how much a reader that will read seq next is behind the newest frame.
func (r *ring) lag(seq uint64) (bytes int64, media time.Duration) {
	if seq >= r.head {
		return 0, 0
	}
	s := r.at(seq)
	return r.bytes - s.end, r.at(r.head-1).f.DTS - s.f.DTS
}
