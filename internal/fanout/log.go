package fanout

import (
	"sync"
	"sync/atomic"
	"time"
)

// Log is an append-only run of bytes with a bounded window that players read
// from. Set the exported fields before the first Attach. Append, Mark, Flush
// and End are for one goroutine, the muxer's; the rest is for any.
type Log struct {
	MaxLag   time.Duration // a player further behind skips to the newest point; default 5 s
	MaxBytes int           // as MaxLag, in bytes, and a bound of the window; default 16 MiB
	Stall    time.Duration // a player that takes no byte for this long is dropped; default 10 s
	MaxSkips int           // a player that skips more often, each time within 5*MaxLag of the last, is dropped; default 5
	Live     bool          // players start at the next point, not at the newest there is

	// Latency is told how long frames took from arrival to socket write, n of
	// them at a time. It must not call the log. nil: nobody asks.
	Latency func(d time.Duration, n int)

	players atomic.Int64

	// Locks are taken in this order: a player's own, its shard's mu, this.
	mu     sync.Mutex
	chunks []*chunk // contiguous, oldest first
	head   int64    // offset after the last byte
	point  Point    // newest
	marked bool     // there is a point
	ended  bool
	err    error
	shards []*shard
}

// A Point is an offset where a player can start.
type Point struct {
	Prefix []byte // what a new player is sent first: file header, metadata, codec configuration
	Config []byte // what a player is sent that skips to here and was last sent another Version
	// Version tells configurations apart.
	Version int

	offset int64
}

// chunk is a part of the log. Bytes once committed do not change, so that
// readers need the lock only to learn how many there are.
type chunk struct {
	base   int64
	buf    []byte
	frames []mark // at least one, but while the first is being appended
}

// mark is the end of a frame and when it arrived.
type mark struct {
	end int64
	at  time.Time
}

const (
	firstChunk = 32 << 10 // a stream with one viewer stays small
	fullChunk  = 256 << 10
)

func (c *chunk) end() int64 { return c.base + int64(len(c.buf)) }

// frame returns the index in c.frames of the frame that holds the byte at
// offset, which is in the chunk.
func (c *chunk) frame(offset int64) int {
	lo, hi := 0, len(c.frames)
	for lo < hi {
		if mid := (lo + hi) / 2; c.frames[mid].end <= offset {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// Mark makes the next appended frame a point where players can start. The
// log keeps p's slices.
func (l *Log) Mark(p Point) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.offset = l.head
	l.point, l.marked = p, true
}

// Append adds one frame that arrived at the given time. mux appends its bytes,
// about size of them, to what it is given and returns the result. Players see
// them at the next Flush, if not before.
func (l *Log) Append(at time.Time, size int, mux func([]byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.room(size)
	was := len(c.buf)
	buf := mux(c.buf)
	switch {
	case len(buf) == was:
		if was == 0 {
			l.chunks = l.chunks[:len(l.chunks)-1]
		}
		return
	case cap(buf) == cap(c.buf) || was == 0:
		c.buf = buf
	default:
		// The guess was short and append moved the bytes: what it moved
		// becomes a chunk of its own.
		c = &chunk{base: l.head, buf: buf[was:]}
		l.chunks = append(l.chunks, c)
	}
	l.head = c.end()
	c.frames = append(c.frames, mark{l.head, at})
}

// room returns the newest chunk, with space for size bytes.
func (l *Log) room(size int) *chunk {
	next := firstChunk
	if n := len(l.chunks); n > 0 {
		c := l.chunks[n-1]
		if cap(c.buf)-len(c.buf) >= size {
			return c
		}
		next = min(fullChunk, 2*cap(c.buf))
	}
	l.trim()
	c := &chunk{base: l.head, buf: make([]byte, 0, max(next, size))}
	l.chunks = append(l.chunks, c)
	return c
}

// trim drops chunks that no player needs who is not too far behind, and that a
// new player does not start in.
func (l *Log) trim() {
	oldest := time.Now().Add(-l.maxLag())
	drop := 0
	for drop < len(l.chunks)-1 {
		c := l.chunks[drop]
		last := c.frames[len(c.frames)-1].at
		unneeded := last.Before(oldest) && (!l.marked || c.end() <= l.point.offset)
		if !unneeded && l.head-c.base <= int64(l.maxBytes()) {
			break
		}
		drop++
	}
	if drop > 0 {
		n := copy(l.chunks, l.chunks[drop:])
		clear(l.chunks[n:])
		l.chunks = l.chunks[:n]
	}
	if l.marked && len(l.chunks) > 0 && l.point.offset < l.chunks[0].base {
		l.marked = false // the group of pictures outgrew the window
	}
}

// Flush lets players have what was appended since the last time. It does not
// wait for them. To have them take much at once, which is what costs least,
// collect frames before they are appended: then nothing at all happens
// meanwhile.
func (l *Log) Flush() {
	l.mu.Lock()
	shards := l.shards
	l.mu.Unlock()
	for _, s := range shards {
		s.signal()
	}
}

// End says that no more bytes come. Players that have taken all end with err.
func (l *Log) End(err error) {
	l.mu.Lock()
	l.ended, l.err = true, err
	l.mu.Unlock()
	l.Flush()
}

// Players returns how many players are attached.
func (l *Log) Players() int { return int(l.players.Load()) }

// windowLocked returns up to two slices of consecutive bytes from an offset on,
// and the offset after them. ok is false if the bytes there are gone.
func (l *Log) windowLocked(from int64, bufs *[2][]byte) (to int64, ok bool) {
	if from == l.head {
		bufs[0], bufs[1] = nil, nil
		return from, true
	}
	i := l.find(from)
	if i < 0 {
		return from, false
	}
	c := l.chunks[i]
	bufs[0], bufs[1] = c.buf[from-c.base:], nil
	to = c.end()
	if i+1 < len(l.chunks) {
		bufs[1] = l.chunks[i+1].buf
		to = l.chunks[i+1].end()
	}
	return to, true
}

// find returns the index of the chunk that holds the byte at offset, -1 if it
// is not in the window.
func (l *Log) find(offset int64) int {
	for i := len(l.chunks) - 1; i >= 0; i-- {
		if c := l.chunks[i]; offset >= c.base {
			if offset < c.end() {
				return i
			}
			return -1
		}
	}
	return -1
}

// frameAt returns the bounds of the frame that holds the byte at offset. ok is
// false if the byte is not in the window.
func (l *Log) frameAt(offset int64) (start, end int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.find(offset)
	if i < 0 {
		return 0, 0, false
	}
	c := l.chunks[i]
	k := c.frame(offset)
	start = c.base
	if k > 0 {
		start = c.frames[k-1].end
	}
	return start, c.frames[k].end, true
}

// observe reports the latency of the frames that end in (from, to], for n
// players that were sent them now.
func (l *Log) observe(from, to int64, now time.Time, n int) {
	if l.Latency == nil || from >= to {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := max(0, l.find(from)); i < len(l.chunks) && l.chunks[i].base < to; i++ {
		c := l.chunks[i]
		for _, m := range c.frames[c.frame(from):] {
			if m.end > to {
				return
			}
			l.Latency(now.Sub(m.at), n)
		}
	}
}

func (l *Log) maxLag() time.Duration { return or(l.MaxLag, 5*time.Second) }
func (l *Log) maxBytes() int         { return or(l.MaxBytes, 16<<20) }
func (l *Log) stall() time.Duration  { return or(l.Stall, 10*time.Second) }
func (l *Log) maxSkips() int         { return or(l.MaxSkips, 5) }

func or[T time.Duration | int](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}
