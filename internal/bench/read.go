package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// What a peer may make us hold. Nothing that is measured comes near.
const (
	maxMessage = 16 << 20
	maxChunks  = 64 // chunk streams of a connection
)

// A message is an RTMP message or an FLV tag; their types and bodies are alike.
type message struct {
	typ  byte
	body []byte // valid until the next one is read
}

const (
	typeSetChunkSize = 1
	typeAck          = 3
	typeVideo        = 9
	typeCommand      = 20
)

// frame returns the coded bytes of a message that is an H.264 picture, without
// the header that a server may write anew.
func (m message) frame() ([]byte, bool) {
	const headerSize = 5 // frame and codec, packet type, composition time
	if m.typ != typeVideo || len(m.body) < headerSize+64 || m.body[0]&0x8f != 7 || m.body[1] != 1 {
		return nil, false
	}
	return m.body[headerSize:], true
}

// A messageReader is a chunkReader or a tagReader.
type messageReader interface{ next() (message, error) }

// A chunkReader reads RTMP messages, after the handshake.
type chunkReader struct {
	r       *bufio.Reader
	size    int
	streams map[uint32]*chunkStream
}

type chunkStream struct {
	typ      byte
	length   int
	extended bool
	body     []byte
}

func newChunkReader(r *bufio.Reader) *chunkReader {
	return &chunkReader{r: r, size: 128, streams: make(map[uint32]*chunkStream)}
}

func (c *chunkReader) next() (message, error) {
	for {
		s, err := c.chunk()
		if err != nil {
			return message{}, err
		}
		if len(s.body) < s.length {
			continue
		}
		m := message{s.typ, s.body}
		s.body = s.body[:0]
		if m.typ == typeSetChunkSize {
			if len(m.body) != 4 || binary.BigEndian.Uint32(m.body)-1 >= maxMessage {
				return message{}, errors.New("bench: bad RTMP chunk size")
			}
			c.size = int(binary.BigEndian.Uint32(m.body))
		}
		return m, nil
	}
}

// chunk reads one chunk and returns the chunk stream that it adds to.
func (c *chunkReader) chunk() (*chunkStream, error) {
	first, err := c.r.ReadByte()
	if err != nil {
		return nil, err
	}
	id := uint32(first & 0x3f)
	if id < 2 { // one or two more bytes
		var b [2]byte
		if _, err := io.ReadFull(c.r, b[:id+1]); err != nil {
			return nil, err
		}
		id = 64 + uint32(b[0]) + uint32(b[1])<<8
	}
	s := c.streams[id]
	if s == nil {
		if len(c.streams) == maxChunks {
			return nil, errors.New("bench: too many RTMP chunk streams")
		}
		s = new(chunkStream)
		c.streams[id] = s
	}
	format := first >> 6
	var h [11]byte
	if _, err := io.ReadFull(c.r, h[:[...]int{11, 7, 3, 0}[format]]); err != nil {
		return nil, err
	}
	if format < 2 {
		s.length = int(h[3])<<16 | int(h[4])<<8 | int(h[5])
		s.typ = h[6]
		s.body = s.body[:0]
	}
	if format < 3 {
		s.extended = h[0]&h[1]&h[2] == 0xff
	}
	if s.extended {
		if _, err := c.r.Discard(4); err != nil {
			return nil, err
		}
	}
	s.body, err = appendN(s.body, c.r, min(c.size, s.length-len(s.body)))
	return s, err
}

// appendN appends n bytes of r to b. Memory grows as bytes arrive.
func appendN(b []byte, r *bufio.Reader, n int) ([]byte, error) {
	for n > 0 {
		if r.Buffered() == 0 {
			if _, err := r.Peek(1); err != nil {
				return b, err
			}
		}
		part, err := r.Peek(min(n, r.Buffered()))
		if err != nil {
			return b, err
		}
		b = append(b, part...)
		n -= len(part)
		if _, err := r.Discard(len(part)); err != nil {
			return b, err
		}
	}
	return b, nil
}

// A tagReader reads the tags of an FLV file.
type tagReader struct {
	r       *bufio.Reader
	started bool
	body    []byte
}

func (t *tagReader) next() (message, error) {
	if !t.started {
		var h [13]byte // header and the first PreviousTagSize
		if _, err := io.ReadFull(t.r, h[:]); err != nil {
			return message{}, err
		}
		if string(h[:3]) != "FLV" {
			return message{}, fmt.Errorf("bench: not FLV: %q", h[:3])
		}
		t.started = true
	}
	var h [11]byte
	if _, err := io.ReadFull(t.r, h[:]); err != nil {
		return message{}, err
	}
	var err error
	if t.body, err = appendN(t.body[:0], t.r, int(h[1])<<16|int(h[2])<<8|int(h[3])); err != nil {
		return message{}, err
	}
	_, err = t.r.Discard(4)
	return message{h[0], t.body}, err
}

// A webSocketReader is the payload of the binary messages that a WebSocket
// server sends.
type webSocketReader struct {
	r    *bufio.Reader
	left uint64 // of the current frame
}

func (w *webSocketReader) Read(b []byte) (int, error) {
	for w.left == 0 {
		var h [8]byte
		if _, err := io.ReadFull(w.r, h[:2]); err != nil {
			return 0, err
		}
		opcode, size := h[0]&0x0f, uint64(h[1])
		more := 0
		switch size {
		case 126:
			more = 2
		case 127:
			more = 8
		}
		if more > 0 {
			if _, err := io.ReadFull(w.r, h[8-more:]); err != nil {
				return 0, err
			}
			clear(h[:8-more])
			size = binary.BigEndian.Uint64(h[:])
		}
		switch {
		case opcode == 8:
			return 0, io.EOF
		case opcode > 8: // ping, pong
			if size > 125 {
				return 0, errors.New("bench: long WebSocket control frame")
			}
			if _, err := w.r.Discard(int(size)); err != nil {
				return 0, err
			}
		case h[1] > 127:
			return 0, errors.New("bench: masked WebSocket frame from the server")
		default:
			w.left = size
		}
	}
	n, err := w.r.Read(b[:min(uint64(len(b)), w.left)])
	w.left -= uint64(n)
	return n, err
}
