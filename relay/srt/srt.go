package srt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/internal/srt"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
)

// A Transport calls SRT listeners. Its zero value works; its methods may be called
// from many goroutines at once.
type Transport struct {
	// Latency is how long packets are held, at both ends, so that what is lost can
	// be sent again, where the URL does not say; the larger wish of both ends
	// counts. Default 120 ms.
	Latency  time.Duration
	PeerIdle time.Duration // how long a peer may be silent; default 5 s
	Log      *slog.Logger  // nil: none
}

// call makes the connection for a URL, which ctx's end aborts.
func (t *Transport) call(ctx context.Context, url string, publish bool, o *relay.Options) (*srt.Conn, func(), error) {
	to, err := parse(url, publish, o.Hops)
	if err != nil {
		return nil, nil, err
	}
	e := &srt.Endpoint{Latency: cmp.Or(to.latency, t.Latency), PeerIdle: t.PeerIdle, Log: t.Log}
	conn, err := srt.Dial(ctx, to.addr, e, to.dial)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, nil, said(err)
	}
	stop := context.AfterFunc(ctx, conn.Abort)
	return conn, func() {
		stop()
		conn.Abort()
		<-conn.Done()
	}, nil
}

// said gives refusals their meaning.
func said(err error) error {
	var r *srt.Rejection
	if !errors.As(err, &r) {
		return err
	}
	switch r.Reason {
	case srt.NotFound:
		return fmt.Errorf("%w: %w", stream.ErrNotFound, err)
	case srt.BadSecret, srt.Unsecure, srt.Unauthorized, srt.Forbidden:
		return fmt.Errorf("%w: %w", auth.ErrDenied, err)
	}
	return err
}

// maxPayload is the longest that a packet can carry.
const maxPayload = 1500

// Pull implements relay.Transport. Timestamps are repaired as a publisher's.
func (t *Transport) Pull(ctx context.Context, url string, w *relay.Writer, o *relay.Options) error {
	conn, hangUp, err := t.call(ctx, url, false, o)
	if err != nil {
		return err
	}
	defer hangUp()
	d := &mpegts.Demuxer{Sink: w}
	buf := make([]byte, maxPayload)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			if _, err := d.Write(buf[:n]); err != nil {
				return cmp.Or(context.Cause(ctx), err)
			}
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			if why := conn.Err(); why != nil && !errors.Is(why, srt.ErrPeerClosed) {
				return why
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return cmp.Or(err, d.Close())
		}
	}
}

// Probe implements relay.Prober: a listener says whether it would play when it is
// called.
func (t *Transport) Probe(ctx context.Context, url string, o *relay.Options) error {
	_, hangUp, err := t.call(ctx, url, false, o)
	if err == nil {
		hangUp()
	}
	return err
}

// lastWords is how long a listener may take for the end of a stream.
const lastWords = 3 * time.Second

// Push implements relay.Transport. Of several tracks of a kind the first is sent,
// of those that a transport stream can carry.
func (t *Transport) Push(ctx context.Context, url string, sub *stream.Subscriber, o *relay.Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, hangUp, err := t.call(ctx, url, true, o)
	if err != nil {
		return err
	}
	defer hangUp()
	conn.OnEnd(func(err error) { cancel(err) }) // between two frames, perhaps
	m := &muxer{}
	var batch [64]*stream.Frame
	for {
		n, err := sub.Read(ctx, batch[:])
		if errors.Is(err, io.EOF) {
			_ = conn.Close()
			select {
			case <-conn.Done():
			case <-time.After(lastWords):
			case <-ctx.Done():
			}
			return nil
		}
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		sent, err := m.add(batch[:n], sub)
		clear(batch[:n])
		if err != nil {
			return err
		}
		if len(m.buf) > 0 {
			if _, err := conn.Write(m.buf); err != nil {
				return cmp.Or(context.Cause(ctx), err)
			}
		}
		if o.Sent != nil {
			o.Sent(sent)
		}
	}
}
