package fmp4

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Demuxer reads fragmented MP4 that strangers made, as HLS and DASH have it: an
// initialization segment, and media segments that lie in memory. Of the tracks it
// takes the first video and the first audio that Runnel carries. It is not safe
// for concurrent use.
type Demuxer struct {
	tracks  []*readTrack
	samples int // of the segment so far, also those without data
}

// Init reads an initialization segment, in place of what was before. The error
// wraps ErrMalformed, or stream.ErrUnsupported if no track can be carried.
func (d *Demuxer) Init(b []byte) error {
	moov := find(b, "moov")
	if moov == nil {
		return fmt.Errorf("%w: no moov box", ErrMalformed)
	}
	head := &reader{b: find(moov, "mvhd")}
	if head.version() == 1 {
		head.skip(16)
	} else {
		head.skip(8)
	}
	scale := head.u32()
	var tracks []*readTrack
	var refused error
	err := boxes(moov, func(kind string, payload []byte, _ int) error {
		if kind != "trak" {
			return nil
		}
		if len(tracks) == maxReadTracks {
			return fmt.Errorf("%w: more than %d tracks", ErrMalformed, maxReadTracks)
		}
		t, err := readTrak(payload, scale)
		if t == nil {
			return err
		}
		if refused = cmp.Or(refused, err); err == nil && slices.ContainsFunc(tracks, func(o *readTrack) bool { return o.track != nil && o.track.ID == t.track.ID }) {
			t.track = nil // a second one of the kind
		}
		tracks = append(tracks, t)
		return nil
	})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(tracks, func(t *readTrack) bool { return t.track != nil }) {
		return cmp.Or(refused, fmt.Errorf("%w: no tracks", ErrMalformed))
	}
	_ = boxes(find(moov, "mvex"), func(kind string, payload []byte, _ int) error {
		r := &reader{b: payload}
		r.full()
		if id := r.u32(); kind == "trex" {
			for _, t := range tracks {
				if t.id == id {
					r.u32() // sample description
					t.duration, t.size, t.flags = r.u32(), r.u32(), r.u32()
				}
			}
		}
		return nil
	})
	d.tracks = tracks
	return nil
}

// Tracks returns the tracks that are taken.
func (d *Demuxer) Tracks() (tracks []*stream.Track) {
	for _, t := range d.tracks {
		if t.track != nil {
			tracks = append(tracks, t.track)
		}
	}
	return tracks
}

// Segment returns the frames of a media segment by their DTS. Their data are
// pieces of b.
func (d *Demuxer) Segment(b []byte) (frames []*stream.Frame, err error) {
	d.samples = 0
	err = boxes(b, func(kind string, payload []byte, at int) error {
		if kind != "moof" {
			return nil
		}
		return boxes(payload, func(kind string, traf []byte, _ int) error {
			if kind != "traf" {
				return nil
			}
			frames, err = d.traf(frames, traf, b, at)
			return err
		})
	})
	slices.SortStableFunc(frames, func(a, b *stream.Frame) int { return cmp.Compare(a.DTS, b.DTS) })
	return frames, err
}

// Optional fields of tfhd (ISO/IEC 14496-12 8.8.7).
const (
	tfhdBaseOffset   = 0x000001
	tfhdDescription  = 0x000002
	tfhdDuration     = 0x000008
	tfhdSize         = 0x000010
	trunFirstFlags   = 0x000004
	maxTicksTime     = 1 << 33 // seconds
	maxSegmentFrames = 1 << 17
)

// traf appends the frames of a track fragment of the moof box that begins at
// moof in segment.
func (d *Demuxer) traf(frames []*stream.Frame, b, segment []byte, moof int) ([]*stream.Frame, error) {
	head := &reader{b: find(b, "tfhd")}
	flags := head.full()
	id := head.u32()
	i := slices.IndexFunc(d.tracks, func(t *readTrack) bool { return t.id == id })
	if i < 0 || d.tracks[i].track == nil {
		return frames, nil
	}
	t := *d.tracks[i]
	if flags&tfhdBaseOffset != 0 {
		head.u64() // of the file, which a segment is not; its offsets are from the moof box all the same
	}
	if flags&tfhdDescription != 0 {
		head.u32()
	}
	if flags&tfhdDuration != 0 {
		t.duration = head.u32()
	}
	if flags&tfhdSize != 0 {
		t.size = head.u32()
	}
	if flags&tfhdDefaultFlags != 0 {
		t.flags = head.u32()
	}
	at := &reader{b: find(b, "tfdt")}
	ticks := at.sized(at.version())
	if head.short || at.short || ticks > math.MaxInt64/2 || ticks/uint64(t.scale) > maxTicksTime {
		return nil, fmt.Errorf("%w: track fragment header", ErrMalformed)
	}
	now, offset := int64(ticks), moof
	err := boxes(b, func(kind string, payload []byte, _ int) (err error) {
		if kind == "trun" {
			frames, now, offset, err = t.run(frames, payload, segment, moof, now, offset, &d.samples)
		}
		return err
	})
	return frames, err
}

// run appends the frames of a trun box, from the time now on and, if it does not
// say where, from offset on. It returns where the next goes on.
func (t *readTrack) run(frames []*stream.Frame, b, segment []byte, moof int, now int64, offset int, samples *int) ([]*stream.Frame, int64, int, error) {
	malformed := func(what string) ([]*stream.Frame, int64, int, error) {
		return nil, 0, 0, fmt.Errorf("%w: track run: %s", ErrMalformed, what)
	}
	r := &reader{b: b}
	full := r.full()
	version, has := full>>24, func(flag uint32) bool { return full&flag != 0 }
	n := r.u32()
	if has(trunDataOffset) {
		offset = moof + int(int32(r.u32()))
	}
	first := uint32(0)
	if has(trunFirstFlags) {
		first = r.u32()
	}
	if r.short || int64(*samples)+int64(n) > maxSegmentFrames || offset < 0 || offset > len(segment) {
		return malformed("header")
	}
	*samples += int(n)
	for i := range n {
		duration, size, flags, shown := t.duration, t.size, t.flags, int64(0)
		if i == 0 && has(trunFirstFlags) {
			flags = first
		}
		if has(trunDuration) {
			duration = r.u32()
		}
		if has(trunSize) {
			size = r.u32()
		}
		if has(trunFlags) {
			flags = r.u32()
		}
		if has(trunCompositionTime) {
			if shown = int64(r.u32()); version != 0 {
				shown = int64(int32(shown))
			}
		}
		if r.short || uint64(size) > uint64(len(segment)-offset) {
			return malformed("samples")
		}
		data := segment[offset : offset+int(size) : offset+int(size)]
		offset += int(size)
		if size > 0 {
			dts := now + t.shift
			f := &stream.Frame{
				Track: t.track, DTS: stream.FromTicks(dts, int(t.scale)), PTS: stream.FromTicks(dts+shown, int(t.scale)),
				Key: flags&(1<<16) == 0, Discardable: flags>>22&3 == 2, Data: data,
			}
			frames = append(frames, f)
		}
		now += int64(duration)
	}
	if time.Duration(now/int64(t.scale)) > maxTicksTime {
		return malformed("times")
	}
	return frames, now, offset, nil
}
