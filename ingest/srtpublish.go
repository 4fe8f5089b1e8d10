package ingest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/internal/srt"
	"github.com/runnel-media/runnel/stream"
)

// An srtPublisher is a publisher over SRT. It has no goroutine: its payloads are
// demuxed as the engine hands them out.
type srtPublisher struct {
	pub   *stream.Publisher
	demux mpegts.Demuxer // the engine's, until the connection has ended
	heard atomic.Int64   // UnixNano of the last media

	mu   sync.Mutex
	conn *srt.Conn // nil before it is accepted
	err  error     // why it is to end, if not by the peer's will
}

func (p *srtPort) publish(c *srt.Call, req *auth.Request) {
	q := &srtPublisher{}
	o := p.options()
	o.OnEvict = q.end
	ctx, cancel := context.WithCancel(c.Context())
	pub, err := p.Publish(ctx, req, &o)
	if err != nil {
		cancel()
		p.log().Info("ingest: refused over SRT", "stream", req.Stream, "remote", req.Remote, "err", err)
		c.Reject(srtReason(c, req, err))
		return
	}
	q.pub = pub
	q.demux.Sink = pub
	q.heard.Store(time.Now().UnixNano())
	conn, err := c.Accept(q.take)
	if err != nil {
		cancel() // closes pub, and its session
		p.log().Info("ingest: refused over SRT", "stream", req.Stream, "remote", req.Remote, "err", err)
		return
	}
	log := p.log().With("stream", req.Stream, "remote", req.Remote)
	log.Info("ingest: publishing over SRT")
	q.begin(conn)
	p.enter(&srtPeer{req, true, conn})
	watch := q.watch(or(p.FirstPacketTimeout, defaultFirstPacketTimeout), or(p.IdleTimeout, defaultIdleTimeout))
	conn.OnEnd(func(err error) {
		watch.Stop()
		_ = q.demux.Close()
		if reason := q.reason(); reason != nil {
			err = reason
		} else if errors.Is(err, srt.ErrPeerClosed) {
			err = nil
		}
		_ = pub.Close()
		pub.Session().Close(err)
		cancel()
		log.Info("ingest: publisher left", "err", err)
	})
}

// take is called by the engine with what has come.
func (q *srtPublisher) take(due [][]byte) {
	n := 0
	for _, b := range due {
		n += len(b)
		if _, err := q.demux.Write(b); err != nil {
			q.end(err)
			return
		}
	}
	q.pub.Session().AddIn(n)
	q.heard.Store(time.Now().UnixNano())
}

// end ends the connection soon.
func (q *srtPublisher) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return
	}
	q.err = err
	if q.conn != nil {
		go q.conn.Abort() // the engine may be calling
	}
}

func (q *srtPublisher) begin(conn *srt.Conn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.conn = conn
	if q.err != nil {
		conn.Abort()
	}
}

func (q *srtPublisher) reason() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

var errIdle = errors.New("ingest: nothing came for too long")

// watch ends a publisher that sends no media.
func (q *srtPublisher) watch(first, idle time.Duration) *srtWatch {
	w := &srtWatch{}
	began := q.heard.Load()
	w.timer = time.AfterFunc(min(first, idle), func() {
		heard := q.heard.Load()
		limit := idle
		if heard == began {
			limit = first
		}
		left := limit - time.Since(time.Unix(0, heard))
		if left <= 0 {
			q.end(errIdle)
			return
		}
		w.again(left)
	})
	return w
}

// srtWatch is a timer that sets itself again until it is stopped.
type srtWatch struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

func (w *srtWatch) again(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(d)
	}
}

// Stop stops it for good.
func (w *srtWatch) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
