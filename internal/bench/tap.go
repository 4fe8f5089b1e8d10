package main

import (
	"bufio"
	"context"
	"hash/maphash"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// A tap stands between an RTMP publisher and the server, and notes when each
// picture goes to the server. Players that read whole messages tell it when
// they have one; the pictures are told apart by their bytes, so that a server
// may rewrite what is around them.
type tap struct {
	listener net.Listener
	server   string // address
	seed     maphash.Seed

	mu     sync.Mutex
	sent   map[uint64]time.Time
	on     bool // between begin and end
	delays []time.Duration
	misses int
}

func newTap(server string) (*tap, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &tap{listener: l, server: server, seed: maphash.MakeSeed(), sent: make(map[uint64]time.Time)}, nil
}

// serve lets one publisher at a time through, until the tap's listener closes.
func (t *tap) serve() error {
	for {
		pub, err := t.listener.Accept()
		if err != nil {
			return err
		}
		server, err := net.Dial("tcp", t.server)
		if err != nil {
			pub.Close()
			return err
		}
		go func() {
			_, _ = io.Copy(pub, server) // its end shows in the other direction too
			pub.Close()
		}()
		_ = t.pass(server, pub) // as a publisher ends
		pub.Close()
		server.Close()
	}
}

// pass copies the publisher's bytes and notes the pictures in them.
func (t *tap) pass(server io.Writer, pub io.Reader) error {
	br := bufio.NewReaderSize(&forward{from: pub, to: server}, 64<<10)
	if _, err := br.Discard(1 + 2*1536); err != nil { // the handshake
		return err
	}
	for cr := newChunkReader(br); ; {
		m, err := cr.next()
		if err != nil {
			return err
		}
		if b, ok := m.frame(); ok {
			t.note(b)
		}
	}
}

// A forward passes on what was read when more is asked for, so that all of it
// has been looked at before the server gets it.
type forward struct {
	from io.Reader
	to   io.Writer
	held []byte
	err  error // of from, told when held is gone
}

func (f *forward) Read(b []byte) (int, error) {
	if len(f.held) > 0 {
		if _, err := f.to.Write(f.held); err != nil {
			return 0, err
		}
	}
	if f.err != nil {
		return 0, f.err
	}
	var n int
	n, f.err = f.from.Read(b)
	f.held = append(f.held[:0], b[:n]...)
	if n == 0 {
		return 0, f.err
	}
	return n, nil
}

// keepNotes is how long a picture may take to its last player.
const keepNotes = 10 * time.Second

func (t *tap) note(picture []byte) {
	key, now := maphash.Bytes(t.seed, picture), time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent[key] = now
	if len(t.sent) > 1000 {
		for k, at := range t.sent {
			if now.Sub(at) > keepNotes {
				delete(t.sent, k)
			}
		}
	}
}

func (t *tap) arrived(picture []byte) {
	now, key := time.Now(), maphash.Bytes(t.seed, picture)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.on {
		return
	}
	if at, ok := t.sent[key]; ok {
		t.delays = append(t.delays, now.Sub(at))
	} else {
		t.misses++
	}
}

func (t *tap) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.on, t.delays, t.misses = true, nil, 0
}

// end returns what arrived since begin, shortest delay first.
func (t *tap) end() (delays []time.Duration, misses int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.on = false
	slices.Sort(t.delays)
	return t.delays, t.misses
}
