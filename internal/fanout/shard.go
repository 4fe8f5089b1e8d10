package fanout

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A shard writes to its part of a log's players, one after the other. Its
// goroutine lives as long as it has players.
type shard struct {
	log   *Log
	wake  chan struct{} // capacity 1
	count atomic.Int32  // len(players), for those who do not hold mu

	mu      sync.Mutex
	players []*Player
	blocked int   // players whose socket was full
	hearing int   // players with Options.Heard that have not been told
	sent    int64 // offset up to which players have everything that do not lag
	running bool
	out     rawWriter
	pushing [3][]byte // what a Pusher is given
	peers   peers
}

const (
	// shardSize is how many players a shard has before another is opened, as
	// long as there are processors for it.
	shardSize = 256
	// retry is how soon a full socket is tried again.
	retry = 20 * time.Millisecond
	// hear is how often it is looked at what peers say, at most. It is done when
	// something is sent anyway: to wake up for it costs more than to do it.
	hear = 250 * time.Millisecond
	// silence is how often it is done where nothing is sent.
	silence = time.Second
)

// shardLocked returns the shard that a new player goes to.
func (l *Log) shardLocked() *shard {
	var best *shard
	least := 0
	for _, s := range l.shards {
		if n := int(s.count.Load()); best == nil || n < least {
			best, least = s, n
		}
	}
	if best == nil || least >= shardSize && len(l.shards) < runtime.GOMAXPROCS(0) {
		best = &shard{log: l, wake: make(chan struct{}, 1)}
		l.shards = append(l.shards, best)
	}
	return best
}

func (s *shard) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *shard) add(p *Player) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.index = len(s.players)
	s.players = append(s.players, p)
	s.count.Store(int32(len(s.players)))
	if !s.running {
		s.running = true
		go s.run()
	}
	s.listen(p)
}

// listen has the player told when its peer says something. Called with s.mu
// held.
func (s *shard) listen(p *Player) {
	if p.opts.Heard == nil || p.index < 0 {
		return
	}
	p.told = false
	if s.hearing++; s.hearing == 1 {
		s.signal() // it may wait for a flush
	}
}

func (s *shard) remove(p *Player) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(p)
}

func (s *shard) removeLocked(p *Player) {
	if p.index < 0 {
		return
	}
	last := len(s.players) - 1
	s.players[p.index] = s.players[last]
	s.players[p.index].index = p.index
	s.players[last] = nil
	s.players = s.players[:last]
	s.count.Store(int32(last))
	p.index = -1
	p.unblock()
	if p.opts.Heard != nil && !p.told {
		s.hearing--
	}
	if last == 0 {
		s.signal() // the goroutine has nothing left to do
	}
}

func (s *shard) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var retried, heard time.Time
	for {
		s.mu.Lock()
		if len(s.players) == 0 {
			s.players, s.peers, s.running = nil, peers{}, false
			s.mu.Unlock()
			return
		}
		blocked, hearing := s.blocked > 0, s.hearing > 0
		s.mu.Unlock()
		if !blocked && !hearing {
			<-s.wake
			s.flush()
			continue
		}
		now, wait := time.Now(), silence
		if blocked {
			if now.Sub(retried) >= retry {
				retried = now
				s.retry()
			}
			wait = retry - now.Sub(retried)
		}
		if hearing && now.Sub(heard) >= hear {
			heard = now
			s.hear()
		}
		timer.Reset(wait)
		select {
		case <-s.wake:
			s.flush()
		case <-timer.C:
		}
	}
}

// hear tells those players whose peers have said something, of those that want
// to be told.
func (s *shard) hear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers.begin()
	for _, p := range s.players {
		if p.opts.Heard != nil && !p.told {
			s.peers.add(p)
		}
	}
	for p := range s.peers.speaking() {
		p.told = true
		s.hearing--
		p.opts.Heard()
	}
}

// flush gives every player what is due.
func (s *shard) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		r := s.log.round(s.sent)
		s.write(&r)
		s.sent = r.to
		if r.last {
			return
		}
	}
}

// retry tries the sockets again that were full.
func (s *shard) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for i := len(s.players) - 1; i >= 0; i-- {
		if p := s.players[i]; p.blocked {
			p.push(now, s.sent)
		}
	}
}

// A round is what most players of a shard are due at once.
type round struct {
	from, to int64
	bufs     [3][]byte // the first is for what only one player is due
	last     bool      // nothing follows
	ended    bool      // and nothing ever will
}

func (l *Log) round(from int64) (r round) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var part [2][]byte
	to, ok := l.windowLocked(from, &part)
	if !ok {
		from, to = -1, l.head // nobody can be where the shard was
	}
	return round{from, to, [3][]byte{1: part[0], 2: part[1]}, to == l.head, l.ended}
}

// observeEvery is how many players are written to between two looks at the
// clock.
const observeEvery = 32

func (s *shard) write(r *round) {
	now := time.Now()
	size := len(r.bufs[1]) + len(r.bufs[2])
	sent := 0
	for i := len(s.players) - 1; i >= 0; i-- { // backwards: a player that ends is replaced by one that was seen
		p := s.players[i]
		switch {
		case p.raw == nil:
			if r.from != r.to || r.ended {
				p.signal()
			}
		case p.pos != r.from || !p.ready() || r.ended:
			p.push(now, r.to)
		case size > 0:
			n, err := s.put(p.raw, &r.bufs)
			if n < size {
				p.after(n, err, &r.bufs, r.to, now)
				continue
			}
			p.unblock()
			p.pos = r.to
			if p.opts.Meter != nil {
				p.opts.Meter.AddOut(n)
			}
			sent++
		}
		if sent == observeEvery {
			now = time.Now()
			s.log.observe(r.from, r.to, now, sent)
			sent = 0
		}
	}
	if sent > 0 {
		s.log.observe(r.from, r.to, time.Now(), sent)
	}
}

// ready reports whether the player takes frames and nothing else is due to it.
func (p *Player) ready() bool {
	return p.joined && !p.paused && !p.resumed && len(p.pend) == 0 && len(p.control) == 0
}

// push writes what is due to one player, up to the offset limit, until it has
// all or its socket is full. Called with the shard's lock held.
func (p *Player) push(now time.Time, limit int64) {
	for !p.ended {
		var bufs [3][]byte
		to, done, err := p.plan(now, &bufs, limit)
		if done || err != nil {
			p.end(orErr(err, p.log.endErr))
			return
		}
		size := len(bufs[0]) + len(bufs[1]) + len(bufs[2])
		if size == 0 {
			p.unblock()
			return
		}
		n, err := p.shard.put(p.raw, &bufs)
		if p.after(n, err, &bufs, to, now); n < size {
			return
		}
	}
}

// after takes in the result of a write that may have been short.
func (p *Player) after(n int, err error, bufs *[3][]byte, to int64, now time.Time) {
	full := n < len(bufs[0])+len(bufs[1])+len(bufs[2])
	if err == nil {
		err = p.wrote(n, bufs, to, now)
	}
	switch {
	case err != nil:
	case !full:
		p.unblock()
	case !p.blocked:
		p.blocked, p.moved, p.framed = true, now, now
		if p.shard.blocked++; p.shard.blocked == 1 {
			p.shard.signal() // it may wait for a flush that does not come
		}
	case now.Sub(p.moved) > p.log.stall() || now.Sub(p.framed) > 4*p.log.stall():
		err = ErrSlow
	}
	if err != nil {
		p.end(err)
	}
}

func (p *Player) unblock() {
	if p.blocked {
		p.blocked = false
		p.shard.blocked--
	}
}
