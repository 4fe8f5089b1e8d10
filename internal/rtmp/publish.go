package rtmp

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/stream"
)

// publish carries out a publish command: it returns when the peer stops
// publishing, or with the error that ends the connection.
func (c *conn) publish(cmd *command) error {
	r, err := c.request(auth.Publish, cmd)
	if err != nil {
		return c.refuse(auth.Publish, err)
	}
	if !c.srv.setState(c, statePublish) {
		return c.refuse(auth.Publish, ErrServerClosed)
	}
	ctx, cancel := context.WithCancel(c.srv.ctx)
	defer cancel()
	c.evicted.Store(nil)
	pub, err := c.srv.Handler.Publish(ctx, r, stream.PublishOptions{OnEvict: c.evict})
	if err != nil {
		return c.refuse(auth.Publish, err)
	}
	log := c.srv.log().With("stream", r.Stream, "remote", c.remote)
	log.Info("rtmp: publishing")
	p := publication{c: c, session: pub.Session()}
	p.in.demuxer.Sink = pub
	p.in.problem = func(err error) { log.Warn("rtmp: publisher sends what is not understood", "err", err) }
	ended := errPanic // unless run returns
	defer func() {
		_ = pub.Close()
		p.session.Close(ended)
		log.Info("rtmp: publisher left", "err", ended, "dropped", p.in.demuxer.Dropped())
		if evicted(ended) {
			c.farewell(appendFarewell(nil, &c.info, ended))
		}
	}()
	ended = p.run(cmd)
	if p.stopped {
		return nil
	}
	if why := c.evicted.Load(); why != nil {
		ended = *why
	}
	return cmp.Or(ended, io.EOF)
}

var errPanic = errors.New("rtmp: panic")

// evicted reports whether a publication ended by somebody else's will.
func evicted(err error) bool {
	var to *auth.Redirect
	return errors.As(err, &to) || errors.Is(err, stream.ErrReplaced) || errors.Is(err, stream.ErrKicked) ||
		errors.Is(err, stream.ErrClosed) || errors.Is(err, auth.ErrDenied)
}

// evict has the publication end. It may be called from any goroutine.
func (c *conn) evict(err error) {
	c.evicted.Store(&err)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// A publication is the time from publish to its end.
type publication struct {
	c       *conn
	session *stream.Session
	in      intake
	counted uint64    // bytes read that the session knows of
	touched time.Time // when the deadline was set last
	stopped bool      // by the peer's command
}

// run reads what the publisher sends. It returns nil if the peer stopped
// publishing or closed the connection.
func (p *publication) run(cmd *command) error {
	c := p.c
	c.rd.resize(publishBuffer)
	c.rd.expectMedia()
	p.counted = c.rd.total
	if err := c.write(appendPublishing(nil, cmd)); err != nil {
		return err
	}
	if err := c.nc.SetReadDeadline(time.Now().Add(c.srv.firstPacketTimeout())); err != nil {
		return err
	}
	for {
		if c.evicted.Load() != nil {
			return os.ErrDeadlineExceeded // after a deadline of ours may have replaced evict's
		}
		m, err := c.rd.next()
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		now := time.Now()
		if err := p.message(m, now); err != nil || p.stopped {
			return err
		}
		if n := c.rd.total - p.counted; n > 0 {
			p.session.AddIn(int(n))
			p.counted = c.rd.total
		}
		if n, due := c.rd.ackDue(); due {
			if err := c.write(appendControl(nil, typeAck, n)); err != nil {
				return err
			}
		}
	}
}

func (p *publication) message(m message, now time.Time) error {
	if isMedia(m.typ) {
		// The deadline is moved by whole messages, so one that drips in slower
		// than anybody can watch counts as idle; not by every one, since it
		// costs as much as the rest.
		if idle := p.c.srv.idleTimeout(); now.Sub(p.touched) > idle/8 {
			p.touched = now
			if err := p.c.nc.SetReadDeadline(now.Add(idle)); err != nil {
				return err
			}
		}
		return p.in.message(m, now)
	}
	cmd, err := p.c.message(m)
	if err != nil || cmd == nil {
		return err
	}
	switch cmd.name {
	case "FCUnpublish", "deleteStream", "closeStream":
		p.stopped = true
		return p.c.write(appendUnpublished(nil, cmd))
	case "publish", "play":
		return errOrder
	}
	reply, err := p.c.command(cmd)
	if err != nil {
		return err
	}
	return p.c.write(reply)
}

// appendPublishing appends what tells a peer that it may send media. Flash's
// encoder waits for onFCPublish, the others for onStatus.
func appendPublishing(dst []byte, cmd *command) []byte {
	dst = appendEvent(dst, eventStreamBegin, streamID)
	dst = appendCommand(dst, 0, "onFCPublish", 0, nil, onFC(publishStart))
	return appendStatus(dst, cmd.onStream(), publishStart)
}

// appendUnpublished appends the answer to FCUnpublish, deleteStream or
// closeStream.
func appendUnpublished(dst []byte, cmd *command) []byte {
	if cmd.name == "FCUnpublish" {
		dst = appendCommand(dst, 0, "onFCUnpublish", 0, nil, onFC(unpublished))
		if cmd.id != 0 {
			dst = appendCommand(dst, 0, "_result", cmd.id, nil, nil)
		}
	}
	return appendStatus(dst, streamID, unpublished)
}

func onFC(s status) amf.Object {
	return amf.Object{{Name: "code", Value: s.code}, {Name: "description", Value: s.description}}
}

// onStream returns the message stream on which the answer goes.
func (c *command) onStream() uint32 {
	if c.stream == 0 {
		return streamID
	}
	return c.stream
}
