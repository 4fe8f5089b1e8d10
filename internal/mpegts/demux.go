package mpegts

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/stream"
)

// IDs that a Demuxer gives to tracks.
const (
	VideoID = 1
	AudioID = 2
)

const (
	// maxGarbage is how many bytes may pass in a row that are no packets.
	maxGarbage = 256 << 10
	// proof is how many bytes after its own a sync byte is believed: those up
	// to the next two.
	proof = 2*PacketSize + 1
	// readSize is how much ReadFrom asks for.
	readSize = 256 * PacketSize
)

// A Demuxer turns the transport stream of one publisher into tracks and
// frames. Its zero value with a Sink is ready. It is not safe for concurrent
// use.
//
// One programme is followed, and of it the first video and the first audio
// stream that Runnel can carry, through changes of its tables; beside them, what
// there is of SCTE 35 and private data is passed on as it is. NAL units come
// out behind 4-byte lengths, without delimiters, filler, and those parameter
// sets that the track's configuration has; audio frames without the headers
// that only transport needs. Timestamps are the stream's own, unwrapped
// together, so that tracks stay in step: they begin anywhere.
//
// Packets are taken as they come, in the caller's goroutine: there is no other,
// and nothing to close but for the last access unit. What a hostile peer can
// make it hold is bounded: one PES packet for each of the two streams and a
// section of each table.
type Demuxer struct {
	Sink      Sink
	Programme uint16           // number of the programme to follow; 0: the first that the PAT names
	Now       func() time.Time // of arrival; time.Now if nil

	stats Stats
	err   error // what ended it

	hold    []byte // bytes of a packet that is not complete, or not yet believed
	synced  bool
	garbage int // bytes skipped since the last packet

	at     time.Time // when the bytes at hand arrived
	tables tables
	video  *elementary // nil: the programme has none
	audio  *elementary
	data   []*dataStream
	clock  clock
	broken bool // the programme's clock was restarted; the next PES packet begins after that

	tracks [2]*stream.Track // by ID-1; nil while unknown
	avc    *h264.Config     // what is known of the video track's decoder
	hevc   *h265.Config
	fields bool // H.264 may be interlaced
}

// Stats are counts from the start.
type Stats struct {
	Packets uint64 // transport packets, of all PIDs
	Skipped uint64 // bytes between packets
	Lost    uint64 // gaps in the counters of the streams that are followed
	Errors  uint64 // packets, sections and PES packets that were malformed, damaged or scrambled
	Dropped uint64 // access units left out: damaged, malformed, before their configuration
}

// Stats returns the counts.
func (d *Demuxer) Stats() Stats { return d.stats }

// Write takes bytes as they arrive: datagrams of whole packets as well as any
// piece of a byte stream. It does not keep p. An error ends the Demuxer: one that
// wraps ErrMalformed if the bytes are no transport stream, or the Sink's.
func (d *Demuxer) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	now := time.Now
	if d.Now != nil {
		now = d.Now
	}
	d.at = now()
	rest, err := d.write(p)
	d.err = err
	return len(p) - len(rest), err
}

// write returns what is left of p at an error.
func (d *Demuxer) write(p []byte) ([]byte, error) {
	for len(p) > 0 {
		for d.synced && len(d.hold) == 0 && len(p) >= PacketSize && p[0] == syncByte {
			if err := d.packet(p[:PacketSize]); err != nil {
				return p, err
			}
			p = p[PacketSize:]
		}
		n := proof
		if d.synced {
			n = PacketSize // there is less of it than that
		}
		n = min(len(p), n-len(d.hold))
		d.hold = append(d.hold, p[:n]...)
		p = p[n:]
		if err := d.drain(); err != nil {
			return p, err
		}
	}
	return p, nil
}

// drain takes the packets that hold begins with.
func (d *Demuxer) drain() error {
	b := d.hold
	defer func() { d.hold = append(d.hold[:0], b...) }()
	for len(b) > 0 {
		if d.synced && b[0] == syncByte {
			if len(b) < PacketSize {
				return nil
			}
			packet := b[:PacketSize]
			b = b[PacketSize:]
			d.garbage = 0
			if err := d.packet(packet); err != nil {
				return err
			}
			continue
		}
		n, found := align(b)
		d.synced = found
		d.stats.Skipped += uint64(n)
		d.garbage += n
		b = b[n:]
		if d.garbage > maxGarbage {
			return fmt.Errorf("%w: no packets in %d bytes", ErrMalformed, d.garbage)
		}
		if !found {
			return nil
		}
	}
	return nil
}

// align returns how many bytes of b are before its first packet, and whether
// that is certain: without, more bytes are needed.
func align(b []byte) (skip int, found bool) {
	for ; skip < len(b); skip++ {
		at := skip
		for at < len(b) && at < skip+proof && b[at] == syncByte {
			at += PacketSize
		}
		switch {
		case at >= skip+proof:
			return skip, true
		case at >= len(b):
			return skip, false
		}
	}
	return skip, false
}

// Close hands over what waits for its end, the last access units of a stream
// whose PES packets do not tell their length. It does not close the Sink.
// The error is that of Write, or one that wraps ErrMalformed if nothing was
// found in the stream that could be a programme. Write must not be called after
// it.
func (d *Demuxer) Close() error {
	if d.err != nil {
		return d.err
	}
	d.err = io.ErrClosedPipe
	all := []*elementary{d.video, d.audio}
	for _, s := range d.data {
		all = append(all, &s.elementary)
	}
	for _, es := range all {
		if es != nil {
			if err := d.flush(es); err != nil {
				return err
			}
		}
	}
	if !d.tables.found {
		return fmt.Errorf("%w: no programme", ErrMalformed)
	}
	return nil
}

// ReadFrom reads r to its end into Write and calls Close. The error is theirs
// or r's.
func (d *Demuxer) ReadFrom(r io.Reader) (int64, error) {
	buf := make([]byte, readSize)
	for total := int64(0); ; {
		n, err := r.Read(buf)
		total += int64(n)
		if _, err := d.Write(buf[:n]); err != nil {
			return total, err
		}
		if errors.Is(err, io.EOF) {
			return total, d.Close()
		} else if err != nil {
			return total, err
		}
	}
}

// Unsupported returns an error that names the streams of the programme which
// can't be carried and wraps stream.ErrUnsupported, or nil. Streams beyond the
// first of a kind are none of them.
func (d *Demuxer) Unsupported() error {
	refused := d.tables.refused
	if es := d.audio; es != nil && es.sound.layerII && es.sound.track == nil {
		refused = append(slices.Clip(refused), "MPEG audio layer II")
	}
	if len(refused) == 0 {
		return nil
	}
	return fmt.Errorf("mpegts: %s: %w", strings.Join(refused, ", "), stream.ErrUnsupported)
}

// packet takes one transport packet (2.4.3.2).
func (d *Demuxer) packet(p []byte) error {
	d.stats.Packets++
	pid := uint16(p[1]&0x1f)<<8 | uint16(p[2])
	var es *elementary
	var data *dataStream
	section := false
	switch {
	case pid == pidPAT || pid == d.tables.pmtPID:
		section = true
	case d.video != nil && pid == d.video.pid:
		es = d.video
	case d.audio != nil && pid == d.audio.pid:
		es = d.audio
	default:
		data = d.dataOf(pid)
		if data == nil && pid != d.tables.pcrPID {
			return nil
		}
	}
	const damaged = 0x80
	if p[1]&damaged != 0 {
		d.stats.Errors++
		return nil
	}
	body := p[headerSize:]
	flags := byte(0)
	if p[3]&0x20 != 0 { // an adaptation field
		n := int(body[0])
		if n >= len(body) {
			d.stats.Errors++
			return nil
		}
		if n > 0 {
			flags = body[1]
		}
		body = body[1+n:]
	}
	const restart = flagDiscontinuity | flagPCR
	if pid == d.tables.pcrPID && flags&restart == restart {
		d.broken = true
	}
	if p[3]&0x10 == 0 {
		return nil // no payload
	}
	if p[3]&0xc0 != 0 { // scrambled
		d.stats.Errors++
		return nil
	}
	start := p[1]&0x40 != 0
	switch {
	case section:
		return d.section(p, body, pid, start)
	case es != nil:
		return d.payload(es, body, p[3]&15, start, flags)
	case data != nil && data.codec == stream.SCTE35:
		return d.message(data, body, p[3]&15, start)
	case data != nil:
		return d.payload(&data.elementary, body, p[3]&15, start, flags)
	}
	return nil
}

// setTrack puts a track into force, unless the one that is does as well.
func (d *Demuxer) setTrack(t *stream.Track) error {
	if d.tracks[t.ID-1].Same(t) {
		return nil
	}
	d.tracks[t.ID-1] = t
	return d.setTracks()
}

// setTracks tells the Sink which tracks there are, if any.
func (d *Demuxer) setTracks() error {
	known := make([]*stream.Track, 0, len(d.tracks))
	for _, t := range d.tracks {
		if t != nil {
			known = append(known, t)
		}
	}
	for _, s := range d.data {
		if s.track != nil {
			known = append(known, s.track)
		}
	}
	if len(known) == 0 {
		return nil
	}
	return d.Sink.SetTracks(known...)
}

// drop counts an access unit that is left out.
func (d *Demuxer) drop() error {
	d.stats.Dropped++
	return nil
}
