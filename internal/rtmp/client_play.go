package rtmp

import (
	"context"
	"encoding/binary"
	"io"
	"time"

	"github.com/runnel-media/runnel/internal/flv"
)

// Play plays the stream into sink until it ends, and returns nil then;
// otherwise a *StatusError, an *auth.Redirect, the sink's error or the
// connection's. The end of ctx ends it with ctx's error.
func (c *Client) Play(ctx context.Context, sink flv.Sink) error {
	err := c.within(ctx, func() error {
		if err := c.createStream(); err != nil {
			return err
		}
		if err := c.send(nil, c.sid, "play", nil, c.stream, -2000.0); err != nil {
			return err
		}
		return c.status(playStart.code)
	})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.nc.Close() })
	defer stop()
	c.rd.expectMedia()
	in := intake{demuxer: flv.Demuxer{Sink: sink}}
	for {
		if err := c.nc.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
			return cause(ctx, err)
		}
		m, err := c.rd.next()
		if err != nil {
			return cause(ctx, err)
		}
		end, err := c.played(m, &in)
		if err != nil || end {
			return cause(ctx, err)
		}
		if n, due := c.rd.ackDue(); due {
			if err := c.write(appendControl(nil, typeAck, n)); err != nil {
				return cause(ctx, err)
			}
		}
	}
}

// cause returns ctx's error in the place of one that came of its end.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *Client) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, err := c.nc.Write(b)
	return err
}

// played acts on a message of a play, and says whether it was the last.
func (c *Client) played(m message, in *intake) (end bool, err error) {
	switch {
	case isMedia(m.typ):
		return false, in.message(m, time.Now())
	case m.typ == typeUserControl:
		if len(m.body) >= 2 && binary.BigEndian.Uint16(m.body) == eventStreamEOF {
			return true, nil
		}
		return false, c.write(pong(m))
	case m.typ == typeCommandAMF0, m.typ == typeCommandAMF3:
		cmd, err := parseCommand(m)
		if err != nil || cmd.name != "onStatus" {
			return false, err
		}
		info := cmd.info()
		if err := c.reconnect(info); err != nil {
			return false, err
		}
		switch code := info.String("code"); {
		case code == playGone.code, code == playStop.code:
			return true, nil
		case info.String("level") == "error":
			return false, cmd.problem()
		}
	}
	return false, nil
}
