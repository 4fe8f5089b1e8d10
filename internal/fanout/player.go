package fanout

import (
	"errors"
	"math"
	"os"
	"sync"
	"syscall"
	"time"
)

// ErrSlow ends a player that takes its bytes too slowly, or not at all.
var ErrSlow = errors.New("fanout: player too slow")

// Conn is what a player writes to: a net.Conn, or less. If it is a
// syscall.Conn too, its socket is written to without blocking; see Pusher also.
type Conn interface {
	Write([]byte) (int, error)
	SetWriteDeadline(time.Time) error
}

// Meter is told of the bytes of one player: *stream.Session.
type Meter interface {
	AddOut(n int)
	AddSkip(n int)
}

// Options of a player.
type Options struct {
	First []byte // sent at once, before the log's point is known
	Meter Meter  // nil: nobody counts

	// Heard is called when there is something to be read from a connection that
	// CanHear, or its end, so that no goroutine need wait in Read for as long as
	// the player plays. The log looks when it sends something, at most
	// four times a second, and every second, and then no more until Hear is
	// called. Heard must not block or call the player. It
	// is never called for other connections.
	Heard func()

	// OnEnd is called once if the player ends before Detach: with the log's
	// error, nil included, when the log has ended and all is sent; with what
	// the connection said, or ErrSlow. It must not block or call the player.
	OnEnd func(error)
}

// A Player is a connection that follows a Log. Its methods may be called from
// any goroutine.
type Player struct {
	log   *Log
	conn  Conn
	raw   syscall.RawConn // to write to without blocking; nil: by a goroutine
	opts  Options
	shard *shard

	lock   *sync.Mutex   // guards what follows: the shard's mu, or the player's own
	wake   chan struct{} // goroutine only; capacity 1
	exited chan struct{} // goroutine only

	index   int    // in shard.players, guarded by the shard's mu; -1: not there
	pend    []byte // goes out before the byte at pos: the rest of a frame, Options.First, prefixes, replies
	control []byte // replies that wait for the end of pend
	pos     int64  // offset of a frame's first byte
	from    int64  // it starts at a point from here on
	fresh   int64  // frames before this arrived before the player: their latency says nothing
	version int    // of the configuration that it was sent
	skips   int    // in a row

	begun   bool // it was sent a point's Prefix
	joined  bool // pos is valid
	paused  bool
	resumed bool // it was paused, and goes on from the newest point if that is ahead
	partly  bool // pend has been sent in part, or its goroutine is writing
	blocked bool // its socket was full
	told    bool // Options.Heard was called, and Hear not yet
	ended   bool
	err     error

	moved   time.Time // when a blocked peer last took a byte
	framed  time.Time // when it last took the end of a frame
	skipped time.Time
}

// CanHear reports whether Options.Heard works with conn.
func CanHear(conn Conn) bool {
	_, pushes := conn.(Pusher)
	return !pushes && rawConn(conn) != nil
}

// Attach makes conn a player of the log. It starts at the newest point, or at
// the next one if there is none yet. Until Detach returns nobody else may write
// to conn or set its write deadline.
func (l *Log) Attach(conn Conn, o Options) *Player {
	p := &Player{log: l, conn: conn, opts: o, pend: o.First, index: -1}
	p.opts.First = nil
	p.raw = direct(conn)
	if !CanHear(conn) {
		p.opts.Heard = nil
	}
	l.players.Add(1)
	s := l.join(p)
	if p.raw == nil {
		p.lock = new(sync.Mutex)
		p.wake = make(chan struct{}, 1)
		p.exited = make(chan struct{})
		s.add(p)
		go p.run()
		return p
	}
	_ = conn.SetWriteDeadline(time.Time{})
	holdLittle(p.raw)
	p.lock = &s.mu
	s.add(p)
	p.hurry()
	return p
}

// join chooses the player's shard.
func (l *Log) join(p *Player) *shard {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Live {
		p.from = l.head
	}
	p.shard = l.shardLocked()
	return p.shard
}

// Reply sends b as soon as no frame is half sent. It takes ownership of b.
func (p *Player) Reply(b []byte) {
	if len(b) == 0 {
		return
	}
	p.lock.Lock()
	if len(p.control)+len(b) <= maxControl {
		p.control = append(p.control, b...)
	}
	p.lock.Unlock()
	p.hurry()
}

// maxControl bounds the replies to a peer that asks much and reads nothing.
const maxControl = 4 << 10

// Hear has Options.Heard called again.
func (p *Player) Hear() {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.told {
		p.shard.listen(p)
	}
}

// Pause stops the media after the frame that is half sent, if any, or lets it
// go on, from the newest point if that is ahead.
func (p *Player) Pause(paused bool) {
	p.lock.Lock()
	p.resumed = p.resumed || p.paused && !paused
	p.paused = paused
	p.lock.Unlock()
	p.hurry()
}

// hurry has the player's writer look at it.
func (p *Player) hurry() {
	if p.raw == nil {
		p.signal()
		return
	}
	p.lock.Lock()
	p.push(time.Now(), noLimit)
	p.lock.Unlock()
}

// End ends the player with err, unless it has ended already.
func (p *Player) End(err error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.end(err)
}

// lastWrite is how long Detach waits for a Write that is under way.
const lastWrite = 500 * time.Millisecond

// Detach ends the player without OnEnd, unless it has ended already, and
// returns its error. whole tells that what it was sent ends with a frame.
// Nothing writes to the connection afterwards.
func (p *Player) Detach() (whole bool, err error) {
	p.lock.Lock()
	p.opts.OnEnd = nil
	if p.exited != nil && !p.ended {
		// What is being sent gets the time to end with a frame: what is cut
		// off cannot be followed by a farewell.
		_ = p.conn.SetWriteDeadline(time.Now().Add(lastWrite))
	}
	p.end(nil)
	whole, err = !p.partly, p.err
	p.lock.Unlock()
	if p.exited != nil {
		<-p.exited
		whole = !p.partly
		_ = p.conn.SetWriteDeadline(time.Time{})
	}
	return whole, err
}

// end is called with p.lock held.
func (p *Player) end(err error) {
	if p.ended {
		return
	}
	p.ended, p.err = true, err
	p.log.players.Add(-1)
	p.pend, p.control = nil, nil
	if p.raw == nil {
		p.signal()
		p.shard.remove(p)
	} else {
		p.shard.removeLocked(p)
	}
	if p.opts.OnEnd != nil {
		p.opts.OnEnd(err)
	}
}

func (p *Player) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

const noLimit = math.MaxInt64

// plan fills bufs with what is due: what is pending, then frames up to the
// offset limit, and returns the offset after those. done says that the log has
// ended and all was sent.
func (p *Player) plan(now time.Time, bufs *[3][]byte, limit int64) (to int64, done bool, err error) {
	if len(p.pend) == 0 && len(p.control) > 0 {
		p.pend, p.control = p.control, nil
	}
	l := p.log
	l.mu.Lock()
	defer l.mu.Unlock()
	// What does not begin with the next frame waits for the end of this one,
	// and no other may come before it, lest it wait until the peer has caught up.
	hold := len(p.control) > 0
	switch {
	case p.paused:
	case p.joined:
		better := p.ahead(now)
		if p.partly {
			hold = hold || better > p.pos
			break
		}
		if better > p.pos {
			err = p.skip(better, now)
		}
		p.resumed = false
	case !p.partly:
		p.start()
	}
	if err != nil {
		return 0, false, err
	}
	*bufs = [3][]byte{p.pend}
	to = p.pos
	flows := p.joined && !p.paused
	if flows && !hold && p.pos < limit {
		var part [2][]byte
		var ok bool
		if to, ok = l.windowLocked(p.pos, &part); ok {
			bufs[1], bufs[2] = part[0], part[1]
			if p.raw == nil && to-p.pos > maxWrite {
				limit = min(limit, l.frameEnd(p.pos+maxWrite))
			}
			if over := int(to - limit); over > 0 { // limit is the end of a frame
				to = limit
				k := min(over, len(bufs[2]))
				bufs[2] = bufs[2][:len(bufs[2])-k]
				bufs[1] = bufs[1][:len(bufs[1])-(over-k)]
			}
		}
	}
	return to, l.ended && (!flows || p.pos == l.head) && len(p.pend) == 0, nil
}

// maxWrite is about how much a goroutine writes at once: a bound of what a slow
// peer is sent that would better be skipped, and, with Log.Stall, of how slow
// it may be.
const maxWrite = 64 << 10

// frameEnd returns the end of the frame that holds the byte before offset,
// which is in the window.
func (l *Log) frameEnd(offset int64) int64 {
	c := l.chunks[l.find(offset-1)]
	return c.frames[c.frame(offset-1)].end
}

// start puts the player at the newest point, if there is one for it. Called
// with both locks held, between two frames.
func (p *Player) start() {
	l := p.log
	if !l.marked || l.point.offset < p.from {
		return
	}
	switch {
	case !p.begun:
		p.pend = join(p.pend, l.point.Prefix)
	case p.version != l.point.Version:
		p.pend = join(p.pend, l.point.Config)
	}
	p.pos, p.version, p.fresh = l.point.offset, l.point.Version, l.head
	p.begun, p.joined, p.resumed = true, true, false
}

// ahead returns where the player should skip to if it is too far behind, or was
// paused, and pos if it should not. Called with both locks held.
func (p *Player) ahead(now time.Time) int64 {
	l := p.log
	behind := l.head - p.pos
	if behind == 0 {
		return p.pos
	}
	i := l.find(p.pos)
	late := p.resumed || i < 0 || behind > int64(l.maxBytes()) || now.Sub(l.chunks[i].since(p.pos)) > l.maxLag()
	switch {
	case late && l.marked && l.point.offset > p.pos:
		return l.point.offset
	case i < 0: // there is nothing to go on from
		return l.head
	}
	return p.pos // also if it is in the newest group of pictures: reading on is as good
}

// skip moves the player to an offset that ahead has returned. Called with both
// locks held, between two frames.
func (p *Player) skip(to int64, now time.Time) error {
	l := p.log
	left := int(to - p.pos)
	p.pos = to
	if !l.marked || l.point.offset != to {
		p.joined = false
	} else if p.version != l.point.Version {
		p.pend = join(p.pend, l.point.Config)
		p.version = l.point.Version
	}
	if p.resumed {
		p.fresh = l.head
		return nil
	}
	if p.opts.Meter != nil {
		p.opts.Meter.AddSkip(left)
	}
	if now.Sub(p.skipped) > 5*l.maxLag() {
		p.skips = 0
	}
	p.skipped = now
	if p.skips++; p.skips > l.maxSkips() {
		return ErrSlow
	}
	return nil
}

// since returns when the frame arrived that holds the byte at offset.
func (c *chunk) since(offset int64) time.Time { return c.frames[c.frame(offset)].at }

// wrote moves the player on by n bytes of the bufs that plan gave, up to the
// offset to.
func (p *Player) wrote(n int, bufs *[3][]byte, to int64, now time.Time) error {
	if n > 0 {
		p.moved = now
		if p.opts.Meter != nil {
			p.opts.Meter.AddOut(n)
		}
	}
	k := min(n, len(p.pend))
	p.pend, n = p.pend[k:], n-k
	p.partly = len(p.pend) > 0 && (p.partly || k > 0)
	if len(p.pend) > 0 {
		return nil
	}
	p.pend = nil
	if k+n > 0 {
		p.framed = now
	}
	from := p.pos
	p.pos += int64(n)
	if n > 0 && p.pos < to {
		// A frame may be half sent: the rest of it goes before anything
		// else, even if the log has forgotten it by then.
		start, end, ok := p.log.frameAt(p.pos)
		if !ok {
			p.partly = true // as far as anybody knows
			return ErrSlow
		}
		if start < p.pos {
			rest, at := bufs[1], p.pos-from
			if at >= int64(len(rest)) {
				rest, at = bufs[2], at-int64(len(rest))
			}
			p.pend = rest[at : at+end-p.pos]
			p.partly = true
			p.pos = end
		}
	}
	p.log.observe(max(from, p.fresh), p.pos, now, 1)
	return nil
}

// join returns a followed by b. It modifies neither.
func join(a, b []byte) []byte {
	if len(a) == 0 {
		return b
	}
	return append(a[:len(a):len(a)], b...)
}

// run is the writer of a player whose connection can only be written to by
// blocking.
func (p *Player) run() {
	defer close(p.exited)
	var bufs [3][]byte
	p.lock.Lock()
	for !p.ended {
		to, done, err := p.plan(time.Now(), &bufs, noLimit)
		size := len(bufs[0]) + len(bufs[1]) + len(bufs[2])
		switch {
		case done || err != nil:
			p.end(orErr(err, p.log.endErr))
		case size == 0:
			p.lock.Unlock()
			<-p.wake
			p.lock.Lock()
		default:
			p.partly = true
			n, err := p.write(&bufs)
			if p.ended {
				p.partly = n < size
				break
			}
			if err == nil {
				err = p.wrote(n, &bufs, to, time.Now())
			}
			if err != nil {
				p.end(err)
			}
		}
	}
	p.lock.Unlock()
}

// write writes bufs, which end with a frame. It unlocks p.lock meanwhile.
func (p *Player) write(bufs *[3][]byte) (n int, err error) {
	for _, b := range bufs {
		for len(b) > 0 && err == nil {
			began := time.Now()
			if !p.ended { // else it has the deadline that Detach has set
				_ = p.conn.SetWriteDeadline(began.Add(p.log.stall()))
			}
			p.lock.Unlock()
			var k int
			k, err = p.conn.Write(b[:min(len(b), maxWrite)])
			p.lock.Lock()
			n, b = n+k, b[k:]
			if errors.Is(err, os.ErrDeadlineExceeded) || err != nil && time.Since(began) >= p.log.stall() {
				err = ErrSlow // HTTP/2 may have other words for it
			}
		}
	}
	return n, err
}

func orErr(err error, otherwise func() error) error {
	if err != nil {
		return err
	}
	return otherwise()
}

func (l *Log) endErr() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
