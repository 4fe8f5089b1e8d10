package turn

import (
	"io"
	"time"
)

// queue adds one message for the client, made of head and data and padded as
// ChannelData over streams is (RFC 8656 Section 12.5). It reports false, and
// adds nothing, if too much waits already.
func (c *streamConn) queue(head, data []byte) bool {
	n := len(head) + len(data)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed || len(c.out)+n+3 > maxQueue {
		return false
	}
	c.out = append(append(c.out, head...), data...)
	for ; n&3 != 0; n++ {
		c.out = append(c.out, 0)
	}
	return true
}

// send queues a message and sends what is queued.
func (c *streamConn) send(b []byte) error {
	if !c.queue(b, nil) {
		_ = c.nc.Close() // a client that loses answers is lost
		return errSlowClient
	}
	c.flush()
	return nil
}

// flush has what is queued sent. It does not block: what the TCP socket takes
// at once is written here, the rest by a goroutine that lives until nothing is
// left, and collects meanwhile.
func (c *streamConn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing || len(c.out) == 0 || c.failed {
		return
	}
	if c.raw != nil && !c.writeNow() {
		return
	}
	c.writing = true
	go c.drain()
}

// writeNow writes what the socket takes, for which TLS has to know before that
// it is all, and reports whether something is left; mu is held.
func (c *streamConn) writeNow() (left bool) {
	var n int
	var err error
	switch {
	case c.path.kind == overTCP:
		n, err = c.raw.TryWrite(c.out)
	case c.raw.Takes(len(c.out) + recordOverhead*(1+len(c.out)/minRecord)):
		n, err = c.nc.Write(c.out)
	}
	if err != nil {
		c.fail()
		return false
	}
	c.out = c.out[:copy(c.out, c.out[n:])]
	if len(c.out) == 0 {
		c.shrink()
	}
	return len(c.out) > 0
}

const (
	recordOverhead = 64   // bytes that TLS adds to a record, at most
	minRecord      = 1024 // bytes of a record that is not the last, at least
)

// drain writes until nothing is queued.
func (c *streamConn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 && !c.failed {
		b := c.out
		c.out, c.spare = c.spare[:0], nil
		c.mu.Unlock()
		// It fails with the write, if at all.
		_ = c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := c.nc.Write(b)
		c.mu.Lock()
		c.spare = b[:0]
		if err != nil {
			c.fail()
		}
		select {
		case c.room <- struct{}{}:
		default:
		}
	}
	c.writing = false
	c.shrink()
}

// fail ends a connection that can't be written to; mu is held.
func (c *streamConn) fail() {
	c.failed = true
	c.out = nil
	_ = c.nc.Close() // the reader ends it
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// shrink gives buffers up that a burst has left; mu is held.
func (c *streamConn) shrink() {
	if cap(c.out) > keepBuffer && len(c.out) == 0 {
		c.out = nil
	}
	if cap(c.spare) > keepBuffer {
		c.spare = nil
	}
}

// lingerTime is how long a client has to take the last that it is told.
const lingerTime = time.Second

// linger ends the writing side and waits until the client has ended the other.
// To close a connection at which something unread has come resets it, and what
// was written last may be lost with it. Nobody else reads meanwhile.
func (c *streamConn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.nc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.nc, maxQueue) // its end, however it comes, is what counts
}
