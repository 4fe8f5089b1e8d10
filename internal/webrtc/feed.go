package webrtc

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/rtp"
	rsrtp "github.com/runnel-media/runnel/internal/srtp"
	"github.com/runnel-media/runnel/internal/udp"
	"github.com/runnel-media/runnel/stream"
)

// A Feed cuts the frames of a stream into packets, once for all its viewers, and
// keeps the last of them for those who lost some. Write is called from one
// goroutine; the rest from any.
type Feed struct {
	// Limit is how long a payload may be; default 1150: with headers,
	// extensions and tag it stays below 1200 bytes.
	Limit int

	mu      sync.Mutex
	viewers [stream.Data][]*Session // of the video, of the audio
	tracks  [stream.Data]feedTrack
	scratch [][]byte
	box     outbox
}

// An outbox collects what goes to several viewers, so that one system call sends
// it.
type outbox struct {
	batch udp.Batch
	arena []byte // that the batch refers to
	port  *port  // whose socket it is for
}

const boxSize = 256 << 10

// room makes room for n bytes to go out of a port.
func (b *outbox) room(p *port, n int) {
	if b.port != p || cap(b.arena)-len(b.arena) < n {
		b.flush()
		b.port = p
		if cap(b.arena) < n {
			b.arena = make([]byte, 0, max(n, boxSize))
		}
	}
}

// add seals a packet into the box, where room has made room for it.
func (b *outbox) add(to netip.AddrPort, s *rsrtp.Sealer, header, payload []byte, ssrc uint32, index uint64) (n int) {
	from := len(b.arena)
	b.arena = s.Seal(b.arena, header, payload, ssrc, index)
	b.batch.Add(to, udp.Mark{}, nil, b.arena[from:])
	return len(b.arena) - from
}

// flush sends what is in the box.
func (b *outbox) flush() {
	if b.batch.Len() > 0 {
		_, _ = b.batch.Flush(b.port.conn) // lost as on a network
	}
	b.arena = b.arena[:0]
}

// A feedTrack is the video or the audio of a Feed.
type feedTrack struct {
	track     *stream.Track
	packer    rtp.Packer
	ring      []outPacket // by sequence number
	next      int64       // sequence number of the next packet
	clock     int64
	pictureAt int // where in a payload the picture ID is; 0: nowhere
}

// An outPacket is a packet as all viewers have it, without its header.
type outPacket struct {
	sequence int64
	stamp    uint32
	payload  []byte
	marker   bool
}

const history = 1024 // packets of a track that can be had again; a power of two

func (f *feedTrack) at(seq int64) *outPacket {
	if len(f.ring) == 0 || seq < 0 || seq >= f.next || seq < f.next-history {
		return nil
	}
	return &f.ring[seq&(history-1)]
}

// packet returns a packet that can be had again.
func (f *Feed) packet(k stream.Kind, seq int64) (p outPacket, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at := f.tracks[k-1].at(seq); at != nil {
		return *at, true
	}
	return p, false
}

// SetTrack says what is written from now on: one track of video and one of audio.
func (f *Feed) SetTrack(t *stream.Track, p rtp.Packer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ft := &f.tracks[t.Kind()-1]
	if next, ok := p.(interface{ Follow(rtp.Packer) }); ok && ft.packer != nil {
		next.Follow(ft.packer)
	}
	ft.track, ft.packer, ft.clock = t, p, int64(clockRate(t.Codec))
	ft.pictureAt = rtp.PictureAt(p)
	if ft.ring == nil {
		ft.ring = make([]outPacket, history)
	}
}

// Add lets a session see and hear what is written from now on, beginning with a
// key frame of the video.
func (f *Feed) Add(s *Session) {
	f.Show(s, stream.Video)
	f.Show(s, stream.Audio)
}

// Show lets a session have what is written of a kind from now on, beginning with a
// key frame of the video, in place of what another feed writes, which it has until
// then. The packets go on as if they were of one.
func (f *Feed) Show(s *Session, k stream.Kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.mu.Lock()
	s.outgoing.tracks[k-1].want = f
	s.mu.Unlock()
	if !slices.Contains(f.viewers[k-1], s) {
		f.viewers[k-1] = append(f.viewers[k-1], s)
	}
}

// Remove ends that, of both kinds.
func (f *Feed) Remove(s *Session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range f.viewers {
		f.viewers[k] = slices.DeleteFunc(f.viewers[k], func(v *Session) bool { return v == s })
	}
}

// Viewers returns how many sessions get tracks of a kind.
func (f *Feed) Viewers(k stream.Kind) int {
	if k != stream.Audio && k != stream.Video {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.viewers[k-1])
}

// End ends the sessions of all viewers: the stream is over.
func (f *Feed) End() {
	f.mu.Lock()
	viewers := slices.Concat(f.viewers[0], f.viewers[1])
	f.viewers = [stream.Data][]*Session{}
	f.mu.Unlock()
	for _, s := range viewers {
		s.end(ErrHungUp)
	}
}

// Write sends a frame to all viewers. wall is the time that goes with its PTS,
// on the clock that all tracks of the stream share. A frame of a track that
// SetTrack does not know is left out.
func (f *Feed) Write(frame *stream.Frame, wall time.Time) {
	kind := frame.Track.Kind()
	if kind != stream.Video && kind != stream.Audio {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ft := &f.tracks[kind-1]
	if ft.packer == nil || ft.track.ID != frame.Track.ID || len(f.viewers[kind-1]) == 0 {
		return
	}
	f.scratch = ft.packer.Pack(f.scratch[:0], frame.Data, frame.Key, or(f.Limit, 1150))
	if len(f.scratch) == 0 {
		return
	}
	first := ft.next
	stamp := uint32(int64(frame.PTS/time.Microsecond) * ft.clock / 1e6)
	for i, payload := range f.scratch {
		*ft.slot() = outPacket{sequence: ft.next, stamp: stamp, payload: payload, marker: kind == stream.Video && i == len(f.scratch)-1}
		ft.next++
	}
	fr := cutFrame{kind: kind, key: frame.Key, first: first, stamp: stamp, wall: wall}
	for i, payload := range f.scratch {
		fr.size += lenHeader + maxExtension + len(payload) + rsrtp.Overhead
		f.scratch[i] = nil
	}
	stay := f.viewers[kind-1][:0]
	for _, s := range f.viewers[kind-1] {
		if s.send(f, &fr) {
			stay = append(stay, s)
		}
	}
	clear(f.viewers[kind-1][len(stay):])
	f.viewers[kind-1] = stay
	f.box.flush()
}

// cutFrame is a frame in packets, the feed's since first.
type cutFrame struct {
	kind  stream.Kind
	key   bool
	first int64
	stamp uint32
	wall  time.Time
	size  int // that they take at most, sealed
	sent  int // scratch of send
}

// retell has viewers told anew what the clocks say, on all tracks, for they have
// been set.
func (f *Feed) retell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range slices.Concat(f.viewers[0], f.viewers[1]) {
		s.mu.Lock()
		for i := range s.outgoing.tracks {
			s.outgoing.tracks[i].told = time.Time{}
		}
		s.mu.Unlock()
	}
}

func (f *feedTrack) slot() *outPacket { return &f.ring[f.next&(history-1)] }
