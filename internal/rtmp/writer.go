package rtmp

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

// A Writer publishes a stream to a server. It is a flv.Sink. Its methods may
// be called from several goroutines, but frames keep their order only when one
// writes them.
type Writer struct {
	c    *Client
	done chan struct{} // closed when the server is gone

	mu       sync.Mutex
	err      error // set once
	buf      []byte
	ts       uint32
	tracks   []*stream.Track // what goes out: a video, an audio, a data track at most
	metadata stream.Metadata
}

// Publish begins to publish and returns when the server has agreed, or with a
// *StatusError or *auth.Redirect. ctx bounds the call alone.
func (c *Client) Publish(ctx context.Context) (*Writer, error) {
	err := c.within(ctx, func() error {
		if err := c.send(nil, 0, "releaseStream", nil, c.stream); err != nil {
			return err
		}
		if err := c.send(nil, 0, "FCPublish", nil, c.stream); err != nil {
			return err
		}
		if err := c.createStream(); err != nil {
			return err
		}
		if err := c.send(nil, c.sid, "publish", nil, c.stream, "live"); err != nil {
			return err
		}
		return c.status(publishStart.code)
	})
	if err != nil {
		return nil, err
	}
	w := &Writer{c: c, done: make(chan struct{})}
	go w.listen()
	return w, nil
}

func (c *Client) createStream() error {
	cmd, err := c.call(nil, 0, "createStream", nil)
	if err != nil {
		return err
	}
	id, ok := 0.0, false
	if len(cmd.args) > 0 {
		id, ok = cmd.args[0].(float64)
	}
	if !ok || !(id >= 1 && id <= math.MaxUint32) {
		return errCommand
	}
	c.sid = uint32(id)
	return nil
}

// Done is closed when the server has ended the stream or is gone; Err says
// why.
func (w *Writer) Done() <-chan struct{} { return w.done }

// Err returns why Write fails, nil if it does not.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// listen reads what the server says, until it is gone.
func (w *Writer) listen() {
	defer close(w.done)
	for {
		m, err := w.c.rd.next()
		if err == nil && m.typ == typeUserControl {
			err = w.send(pong(m))
		}
		if err == nil && (m.typ == typeCommandAMF0 || m.typ == typeCommandAMF3) {
			var cmd command
			if cmd, err = parseCommand(m); err == nil && cmd.name == "onStatus" {
				info := cmd.info()
				if err = w.c.reconnect(info); err == nil && (info.String("level") == "error" || info.String("code") == unpublished.code) {
					err = cmd.problem()
				}
			}
		}
		if err != nil {
			w.mu.Lock()
			w.fail(err)
			w.mu.Unlock()
			_ = w.c.nc.Close()
			return
		}
	}
}

// fail notes the first error. Called with mu held.
func (w *Writer) fail(err error) {
	if w.err == nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		w.err = err
	}
}

func (w *Writer) send(b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sendLocked(b)
}

func (w *Writer) sendLocked(b []byte) error {
	if w.err != nil || len(b) == 0 {
		return w.err
	}
	err := w.c.nc.SetWriteDeadline(time.Now().Add(w.c.timeout))
	if err == nil {
		_, err = w.c.nc.Write(b)
	}
	if err != nil {
		w.fail(err)
	}
	return w.err
}

// SetTracks sends the configuration of the tracks that are new or changed. Of
// several tracks of a kind the first goes out; those that RTMP can't carry are
// left out. If none is left the error wraps stream.ErrUnsupported.
func (w *Writer) SetTracks(tracks ...*stream.Track) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var chosen []*stream.Track
	var taken [stream.Data + 1]bool
	var refused error
	b := w.buf[:0]
	for _, t := range tracks {
		if taken[t.Kind()] {
			continue
		}
		body, err := flv.AppendConfigBody(nil, t)
		if err != nil {
			refused = err
			continue
		}
		taken[t.Kind()] = true
		chosen = append(chosen, t)
		if body != nil && !w.sent(t) {
			b = appendMedia(b, flv.TagType(t), w.ts, w.c.sid, nil, body)
		}
	}
	if chosen == nil && refused != nil {
		return refused
	}
	w.tracks = chosen
	w.buf = w.appendMetadata(nil)
	w.buf = append(w.buf, b...)
	return w.sendLocked(w.buf)
}

// sent reports whether a decoder that was set up by what was sent can take t.
func (w *Writer) sent(t *stream.Track) bool {
	for _, o := range w.tracks {
		if o.Same(t) {
			return true
		}
	}
	return false
}

func (w *Writer) has(t *stream.Track) bool {
	for _, o := range w.tracks {
		if o == t {
			return true
		}
	}
	return false
}

// SetMetadata sends metadata, together with what the tracks tell. It takes
// ownership of m.
func (w *Writer) SetMetadata(m stream.Metadata) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.metadata = m
	if w.tracks != nil { // otherwise SetTracks sends it
		_ = w.sendLocked(w.appendMetadata(nil)) // the next Write returns the error
	}
}

func (w *Writer) appendMetadata(b []byte) []byte {
	body, err := amf.Append(nil, "@setDataFrame", "onMetaData", amf.FromMetadata(flv.MetadataFor(w.tracks, w.metadata)))
	if err != nil {
		return b
	}
	return appendMedia(b, typeDataAMF0, w.ts, w.c.sid, nil, body)
}

// Write sends a frame and blocks while the network does. Frames of tracks that
// are left out are dropped. Once the server is gone it returns why.
func (w *Writer) Write(f *stream.Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.has(f.Track) {
		return w.err
	}
	var scratch [flv.MaxFrameHeaderSize]byte
	header, err := flv.AppendFrameHeader(scratch[:0], f)
	if err != nil {
		return err
	}
	w.ts = flv.Timestamp(f)
	w.buf = appendMedia(w.buf[:0], flv.TagType(f.Track), w.ts, w.c.sid, header, f.Data)
	return w.sendLocked(w.buf)
}

// Close ends the stream as encoders do, and the connection.
func (w *Writer) Close() error {
	_ = w.c.nc.SetWriteDeadline(time.Now().Add(time.Second)) // a Write that blocks ends soon
	w.mu.Lock()
	b := appendCommand(nil, 0, "FCUnpublish", 0, nil, w.c.stream)
	b = appendCommand(b, 0, "deleteStream", 0, nil, float64(w.c.sid))
	_ = w.sendLocked(b)
	w.fail(net.ErrClosed)
	w.mu.Unlock()
	err := w.c.Close()
	<-w.done
	if errors.Is(err, net.ErrClosed) {
		err = nil // the server's answer came first, and listen has closed it
	}
	return err
}
