package mpegts_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
)

// A report is what inspect found in a transport stream.
type report struct {
	packets int
	tables  int // PATs
	pes     map[uint16][]unit
	pcrs    []int64 // of 27 MHz
	broken  int     // discontinuity indicators
	random  int     // random access indicators
}

// A unit is a PES packet.
type unit struct {
	id       byte
	pts, dts int64
	data     []byte
	at       int // its first packet
}

// inspect checks a transport stream against the rules of ITU-T H.222.0, with
// nothing of the code under test: sync bytes, continuity counters, adaptation
// fields, tables of one section with their CRC in front of everything else, and
// intervals of the clock.
func inspect(t testing.TB, ts []byte) *report {
	t.Helper()
	require.Zero(t, len(ts)%mpegts.PacketSize)
	r := &report{pes: map[uint16][]unit{}}
	counters := map[uint16]byte{}
	pending := map[uint16]*unit{}
	sizes := map[uint16]int{}
	messages := map[uint16]bool{}
	var clock uint16
	finish := func(pid uint16) {
		if u := pending[pid]; u != nil {
			want := int(binary.BigEndian.Uint16(u.data[4:]))
			if want != 0 {
				require.Len(t, u.data, 6+want, "PES_packet_length")
			} else {
				require.Equal(t, byte(0xe0), u.data[3], "only video may leave out its length")
			}
			parsePES(t, u)
			r.pes[pid] = append(r.pes[pid], *u)
			delete(pending, pid)
		}
	}
	for ; len(ts) > 0; ts = ts[mpegts.PacketSize:] {
		p := ts[:mpegts.PacketSize]
		n := r.packets
		r.packets++
		require.Equal(t, byte(0x47), p[0])
		require.Zero(t, p[1]&0xa0, "error or priority")
		require.Zero(t, p[3]&0xc0, "scrambled")
		pid := binary.BigEndian.Uint16(p[1:]) & 0x1fff
		start, field, payload := p[1]&0x40 != 0, p[3]&0x20 != 0, p[3]&0x10 != 0
		require.True(t, field || payload)
		if last, ok := counters[pid]; ok {
			if payload {
				last = (last + 1) & 15
			}
			require.Equal(t, last, p[3]&15, "counter of PID %#x in packet %d", pid, n)
		}
		counters[pid] = p[3] & 15
		body := p[4:]
		if field {
			size := int(body[0])
			require.LessOrEqual(t, size, 183)
			if !payload {
				require.Equal(t, 183, size)
			}
			if size > 0 {
				flags, rest := body[1], body[2:1+size]
				require.Zero(t, flags&^0xd0, "flags")
				if flags&0x40 != 0 {
					r.random++
					require.True(t, start)
				}
				if flags&0x80 != 0 {
					r.broken++
					require.NotZero(t, flags&0x10, "the clock restarts without a PCR")
				}
				if flags&0x10 != 0 {
					require.Equal(t, clock, pid)
					base := int64(binary.BigEndian.Uint32(rest))<<1 | int64(rest[4]>>7)
					require.Equal(t, byte(0x7e), rest[4]&0x7e, "reserved bits")
					pcr := base*300 + int64(rest[4]&1)<<8 + int64(rest[5])
					if len(r.pcrs) > 0 && flags&0x80 == 0 {
						const wrap = 300 << 33
						last := r.pcrs[len(r.pcrs)-1]
						step := ((pcr-last)%wrap + wrap) % wrap
						require.Positive(t, step)
						pcr = last + step
					}
					r.pcrs = append(r.pcrs, pcr)
					rest = rest[6:]
				}
				require.Equal(t, bytes.Repeat([]byte{0xff}, len(rest)), rest, "stuffing")
			}
			body = body[1+size:]
		}
		switch {
		case pid == 0 || pid == 0x1000:
			if pid == 0 {
				r.tables++
			}
			require.True(t, start, "one packet")
			require.Zero(t, body[0])
			body = body[1:]
			size := 3 + int(binary.BigEndian.Uint16(body[1:])&0xfff)
			require.Zero(t, checksum(body[:size]))
			require.Equal(t, bytes.Repeat([]byte{0xff}, len(body)-size), body[size:])
			if pid == 0x1000 {
				clock = binary.BigEndian.Uint16(body[8:]) & 0x1fff
			}
		case !payload, messages[pid]:
		case start && body[0] == 0 && body[1] == 0xfc: // SCTE 35
			messages[pid] = true
		default:
			require.NotZero(t, r.tables, "media before tables")
			if start {
				finish(pid)
				pending[pid] = &unit{at: n}
				require.Greater(t, len(body), 9)
				require.Greater(t, len(body), 9+int(body[8]), "the header is in one packet")
			}
			u := pending[pid]
			require.NotNil(t, u)
			u.data = append(u.data, body...)
			sizes[pid] += len(body)
		}
	}
	for pid := range sizes {
		finish(pid)
	}
	return r
}

func parsePES(t testing.TB, u *unit) {
	h := u.data
	require.Equal(t, []byte{0, 0, 1}, h[:3])
	require.Equal(t, byte(0x84), h[6])
	u.id = h[3]
	timestamp := func(b []byte, prefix byte) int64 {
		require.Equal(t, prefix<<4|1, b[0]&0xf1)
		require.Equal(t, byte(1), b[2]&b[4]&1)
		return int64(b[0]&0xe)<<29 | int64(b[1])<<22 | int64(b[2]&0xfe)<<14 | int64(b[3])<<7 | int64(b[4])>>1
	}
	switch h[7] {
	case 0x80:
		require.Equal(t, byte(5), h[8])
		u.pts = timestamp(h[9:], 2)
		u.dts, u.data = u.pts, h[14:]
	case 0xc0:
		require.Equal(t, byte(10), h[8])
		u.pts, u.dts, u.data = timestamp(h[9:], 3), timestamp(h[14:], 1), h[19:]
		require.NotEqual(t, u.pts, u.dts)
	default:
		t.Fatalf("PES flags %#x", h[7])
	}
}

// checksum is the CRC of the tables, by polynomial division: 0 over a section
// with its own.
func checksum(b []byte) uint32 {
	bit := func(i int) uint64 { // of the message after 32 ones were added to its start
		if i >= 8*len(b) {
			return 0
		}
		v := uint64(b[i/8]>>(7-i%8)) & 1
		if i < 32 {
			v ^= 1
		}
		return v
	}
	rest := uint64(0)
	for i := range 8*len(b) + 32 {
		rest = rest<<1 | bit(i)
		if rest&(1<<32) != 0 {
			rest ^= 0x104c11db7
		}
	}
	return uint32(rest)
}

// intervals returns the largest distance between two PCRs.
func (r *report) interval() (most time.Duration) {
	for i := 1; i < len(r.pcrs); i++ {
		most = max(most, stream.FromTicks(r.pcrs[i]-r.pcrs[i-1], 27e6))
	}
	return most
}

// sink collects what a Demuxer makes.
type sink struct {
	tracks [][]*stream.Track // as they were set
	frames []*stream.Frame
	fail   error
}

func (s *sink) SetTracks(tracks ...*stream.Track) error {
	s.tracks = append(s.tracks, slices.Clone(tracks))
	return s.fail
}

func (s *sink) Write(f *stream.Frame) error {
	s.frames = append(s.frames, f)
	return s.fail
}

// of returns the frames of one kind.
func (s *sink) of(k stream.Kind) (frames []*stream.Frame) {
	for _, f := range s.frames {
		if f.Track.Kind() == k {
			frames = append(frames, f)
		}
	}
	return frames
}

// mux muxes all frames.
func mux(t testing.TB, tracks []*stream.Track, frames []*stream.Frame) []byte {
	var m mpegts.Muxer
	require.NoError(t, m.Configure(tracks))
	var ts []byte
	for _, f := range frames {
		size := m.Size(f)
		before := len(ts)
		ts = m.AppendFrame(ts, f)
		require.LessOrEqual(t, len(ts)-before, size)
	}
	return ts
}

// demux reads all of a transport stream.
func demux(t testing.TB, ts []byte) (*sink, *mpegts.Demuxer) {
	s := &sink{}
	d := &mpegts.Demuxer{Sink: s}
	n, err := d.ReadFrom(bytes.NewReader(ts))
	require.NoError(t, err)
	require.EqualValues(t, len(ts), n)
	return s, d
}
