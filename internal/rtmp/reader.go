package rtmp

import (
	"encoding/binary"
	"io"
)

const (
	maxChunkStreams = 64       // per connection; encoders use two to six
	maxHeld         = 32 << 20 // bytes of unfinished messages per connection
)

// A message is one RTMP message put together from its chunks. The body
// belongs to whoever received the message.
type message struct {
	typ    byte
	stream uint32 // message stream id
	ts     uint32 // milliseconds, modulo 2^32
	body   []byte
}

// A chunkStream keeps what later chunk headers leave out.
type chunkStream struct {
	id       uint32
	stream   uint32
	length   uint32
	ts       uint32
	field    uint32 // timestamp or delta as the last header had it
	typ      byte
	extended bool // field came as an extended timestamp
	begun    bool // a message is under way; body is what there is of it
	body     []byte
}

// A reader reads messages from the chunks of one connection. Set src and call
// init before use.
//
// A declared length costs nothing: bodies grow with the bytes that arrive.
type reader struct {
	src      io.Reader
	buf      []byte // buf[pos:end] was read and not used yet
	pos, end int

	chunkSize  uint32
	maxMessage uint32 // largest length that is accepted
	firstAlloc uint32 // largest allocation for a body before bytes of it came

	streams []*chunkStream
	last    *chunkStream // of the chunk before: most often the next one's too
	begun   int          // messages under way
	held    int          // capacity of their bodies

	total  uint64 // bytes read so far
	acked  uint64 // of those, told to the peer
	window uint64 // the peer wants to be told after so many
}

// init readies r for a peer that has not been let in yet.
func (r *reader) init(src io.Reader, bufSize int) {
	*r = reader{
		src: src, buf: make([]byte, bufSize),
		chunkSize: defaultChunkSize, maxMessage: maxCommandSize, firstAlloc: 4 << 10, window: windowAckSize,
	}
}

// expectMedia raises the bounds for a peer that may publish.
func (r *reader) expectMedia() {
	r.maxMessage, r.firstAlloc = maxMessageSize, 64<<10
}

// resize exchanges the buffer for one of n bytes, or as many as are unused.
func (r *reader) resize(n int) {
	buf := make([]byte, max(n, r.end-r.pos))
	r.end = copy(buf, r.buf[r.pos:r.end])
	r.pos, r.buf = 0, buf
}

// fill reads once from src behind what is buffered.
func (r *reader) fill() error {
	if r.pos > 0 {
		r.end = copy(r.buf, r.buf[r.pos:r.end])
		r.pos = 0
	}
	n, err := r.src.Read(r.buf[r.end:])
	r.end += n
	r.total += uint64(n)
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// need makes n bytes available at buf[pos:]; n is at most a header's length.
func (r *reader) need(n int) error {
	for r.end-r.pos < n {
		if err := r.fill(); err != nil {
			if err == io.EOF && r.end > r.pos {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// next returns the next message. What concerns the chunk layer alone it acts
// on and keeps.
func (r *reader) next() (message, error) {
	for {
		cs, err := r.header()
		if err != nil {
			return message{}, err
		}
		done, err := r.payload(cs)
		if err != nil {
			return message{}, err
		}
		if !done {
			continue
		}
		m := message{cs.typ, cs.stream, cs.ts, cs.body}
		r.drop(cs)
		switch m.typ {
		case typeSetChunkSize, typeAbort, typeWindowAckSize:
			if err := r.control(m); err != nil {
				return message{}, err
			}
			continue
		}
		return m, nil
	}
}

func (r *reader) control(m message) error {
	if len(m.body) < 4 {
		return errControl
	}
	v := binary.BigEndian.Uint32(m.body)
	switch m.typ {
	case typeSetChunkSize:
		v &= 1<<31 - 1
		if v == 0 {
			return errChunkSize
		}
		r.chunkSize = min(v, maxMessageSize) // no chunk is longer than its message
	case typeAbort:
		if cs := r.find(v); cs != nil {
			r.drop(cs)
		}
	case typeWindowAckSize:
		if v != 0 {
			r.window = max(uint64(v), 4<<10) // do not let the peer have an answer to every message
		}
	}
	return nil
}

// ackDue says whether the peer should be told how much was read, and what to
// tell it.
func (r *reader) ackDue() (uint32, bool) {
	if r.total-r.acked < r.window {
		return 0, false
	}
	r.acked = r.total
	return uint32(r.total), true
}

// drop forgets the message under way.
func (r *reader) drop(cs *chunkStream) {
	if cs.begun {
		r.begun--
		r.held -= cap(cs.body)
		cs.begun, cs.body = false, nil
	}
}

func (r *reader) find(id uint32) *chunkStream {
	if r.last != nil && r.last.id == id {
		return r.last
	}
	for _, cs := range r.streams {
		if cs.id == id {
			return cs
		}
	}
	return nil
}

// Length of the message header for each format (RTMP 1.0, section 5.3.1.2).
var headerLen = [4]int{11, 7, 3, 0}

// header reads the headers of one chunk (section 5.3.1) and returns its chunk
// stream, ready for the payload.
func (r *reader) header() (*chunkStream, error) {
	if err := r.need(1); err != nil {
		if err == io.EOF && r.begun > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	b := r.buf[r.pos]
	format, id, n := b>>6, uint32(b&0x3f), 1
	if id < 2 {
		n = 2 + int(id)
		if err := r.need(n); err != nil {
			return nil, err
		}
		if id == 0 {
			id = 64 + uint32(r.buf[r.pos+1])
		} else {
			id = 64 + uint32(r.buf[r.pos+1]) + uint32(r.buf[r.pos+2])<<8
		}
	}
	if err := r.need(n + headerLen[format]); err != nil {
		return nil, err
	}
	h := r.buf[r.pos+n : r.pos+n+headerLen[format]]
	r.pos += n + headerLen[format]

	cs := r.find(id)
	if cs == nil {
		// Some encoders begin the control stream with a delta (format 1).
		if format >= 2 {
			return nil, errChunk
		}
		if len(r.streams) >= maxChunkStreams {
			return nil, errChunkStream
		}
		cs = &chunkStream{id: id}
		r.streams = append(r.streams, cs)
	}
	r.last = cs

	if format == 3 {
		if err := r.continued(cs); err != nil {
			return nil, err
		}
		if cs.begun {
			return cs, nil
		}
		cs.ts += cs.field // a new message that repeats the header before it
	} else {
		r.drop(cs) // a header in the middle of a message: the rest won't come
		field := u24(h)
		if format < 2 {
			cs.length, cs.typ = u24(h[3:]), h[6]
		}
		if format == 0 {
			cs.stream = binary.LittleEndian.Uint32(h[7:])
			cs.ts = 0
		}
		if cs.extended = field == 1<<24-1; cs.extended {
			if err := r.need(4); err != nil {
				return nil, err
			}
			field = binary.BigEndian.Uint32(r.buf[r.pos:])
			r.pos += 4
		}
		cs.field = field
		cs.ts += field
	}
	if cs.length > r.maxMessage {
		return nil, errTooLong
	}
	cs.begun = true
	r.begun++
	return cs, nil
}

// continued skips the extended timestamp of a format 3 chunk. The
// specification wants it there; some encoders leave it out, so it is taken
// only if it says what is known already, and otherwise is payload.
func (r *reader) continued(cs *chunkStream) error {
	if !cs.extended {
		return nil
	}
	if err := r.need(4); err != nil {
		return err
	}
	v := binary.BigEndian.Uint32(r.buf[r.pos:])
	if v == cs.field || v == cs.ts || !cs.begun && v == cs.ts+cs.field {
		r.pos += 4
	}
	return nil
}

// payload reads the payload of one chunk and says whether the message is
// complete.
func (r *reader) payload(cs *chunkStream) (done bool, err error) {
	n := min(int(cs.length)-len(cs.body), int(r.chunkSize)) // left of this chunk
	for n > 0 {
		if len(cs.body) == cap(cs.body) {
			if err := r.grow(cs); err != nil {
				return false, err
			}
		}
		free := cs.body[len(cs.body):min(len(cs.body)+n, cap(cs.body))]
		var k int
		switch {
		case r.end > r.pos:
			k = copy(free, r.buf[r.pos:r.end])
			r.pos += k
		case len(free) >= len(r.buf):
			k, err = r.src.Read(free)
			r.total += uint64(k)
			if k == 0 && err == nil {
				err = io.ErrNoProgress
			}
			if k > 0 {
				err = nil
			}
		default:
			err = r.fill()
		}
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return false, err
		}
		cs.body = cs.body[:len(cs.body)+k]
		n -= k
		if n == 0 && r.nextIsPlain(cs) {
			r.pos++
			n = min(int(cs.length)-len(cs.body), int(r.chunkSize))
		}
	}
	return len(cs.body) == int(cs.length), nil
}

// nextIsPlain reports whether what is buffered goes on with a chunk of the same
// message, with a header of one byte. It saves most of the work for encoders
// that keep to chunks of 128 bytes.
func (r *reader) nextIsPlain(cs *chunkStream) bool {
	return r.end > r.pos && r.buf[r.pos] == 3<<6|byte(cs.id) && cs.id < 64 && !cs.extended && len(cs.body) < int(cs.length)
}

// grow makes room for more of the body: all of it at once for a message of
// usual size, otherwise twice what there is.
func (r *reader) grow(cs *chunkStream) error {
	size := 2 * uint32(cap(cs.body))
	if size == 0 {
		size = r.firstAlloc
		if r.begun > 4 {
			size = 1 << 10
		}
	}
	size = min(size, cs.length)
	r.held += int(size) - cap(cs.body)
	if r.held > maxHeld {
		return errTooMuch
	}
	body := make([]byte, len(cs.body), size)
	copy(body, cs.body)
	cs.body = body
	return nil
}

func u24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
