package webrtc

import (
	"bytes"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/av1"
	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/internal/opus"
	"github.com/runnel-media/runnel/internal/vpx"
	"github.com/runnel-media/runnel/stream"
)

// An Assembler turns what one peer sends into frames of a stream. Of a simulcast,
// the finest layer that comes is the stream's picture, and the others are
// renditions of it, by their rids.
type Assembler struct {
	Publisher *stream.Publisher
	// RequestKey asks the peer for a key frame of a layer. nil: it can't be.
	RequestKey func(*Incoming)

	mu     sync.Mutex
	epoch  time.Time
	tracks []*assembled
	stated *layer        // whose track is one of those that have been stated
	main   *layer        // whose pictures are published; nil: there are no layers, or none yet
	shift  time.Duration // from the times here to those that the hub has made of them
	closed bool
}

// An assembled is a track of the peer's, and how its clock goes with the stream's.
type assembled struct {
	in     *Incoming
	track  *stream.Track // nil before its configuration is known
	stated *stream.Track // what of it has been stated
	offset time.Duration // stream time minus its own
	begun  bool
	synced bool      // offset is by the sender's reports
	wall   time.Time // the sender's, at the stream's beginning; valid then
	astray time.Time // since when the reports say something else; zero: they do not
	broken bool      // pictures are left out until the next key frame
	layer  *layer    // nil: it is none of a simulcast

	last    time.Duration // of the newest frame
	written bool
}

// Frame takes a frame of the peer's.
func (a *Assembler) Frame(in *Incoming, f Frame) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.find(in)
	if in.Codec.Kind() == stream.Video {
		// A picture may refer to one that is lost: rather none than a broken one.
		t.broken = (t.broken || f.Lost) && !f.Key
		if t.broken {
			return
		}
	}
	data, ok := a.configure(t, &f)
	if !ok || a.closed {
		return
	}
	at := a.time(t, &f)
	// What is put right is squeezed, so that the hub does not take it for a jump and
	// undo it.
	if back := t.last - at; t.written && back >= 0 && back < squeeze {
		at = t.last + time.Microsecond
	}
	t.last, t.written = at, true
	published := true
	if l := t.layer; l != nil {
		l.observe(&f)
		published = a.elect(l, &f)
		if !published && f.Key {
			a.derive(l)
		}
		l.write(&stream.Frame{Track: t.track, DTS: at + a.shift, PTS: at + a.shift, Time: f.Arrived, Key: f.Key, Data: data})
	}
	if published && a.announce(t) {
		made := &stream.Frame{Track: t.track, DTS: at, PTS: at, Time: f.Arrived, Key: f.Key, Data: data}
		if a.Publisher.Write(made) == nil { // an error is told to who evicts it too
			a.shift = made.DTS - at
		}
	}
}

// announce states the tracks, if they are others than those that were stated.
func (a *Assembler) announce(t *assembled) bool {
	if t.stated == t.track && (t.layer == nil || a.stated == t.layer) {
		return true
	}
	t.stated = t.track
	if t.layer != nil {
		a.stated = t.layer
	}
	var all []*stream.Track
	for _, o := range a.tracks {
		if o.track != nil && (o.layer == nil || o.layer == a.main) {
			all = append(all, o.track)
		}
	}
	return a.Publisher.SetTracks(all...) == nil
}

func (a *Assembler) find(in *Incoming) *assembled {
	for _, t := range a.tracks {
		if t.in == in {
			return t
		}
	}
	t := &assembled{in: in}
	if in.Layer != "" {
		t.layer = &layer{of: t}
	}
	a.tracks = append(a.tracks, t)
	return t
}

const (
	// apart is by how much tracks may differ from what the reports say, and
	// settles how long they must say so: until there are new ones of all.
	apart   = 20 * time.Millisecond
	settles = 2 * time.Second
	// early is by how much a frame may come before its time until the reports
	// say when that is; the first may have been late.
	early = 100 * time.Millisecond
	// squeeze is how far a track may be set back without a break.
	squeeze = 3 * time.Second
	// anew is how far a frame's time may be from that of its arrival before
	// the sender must have begun another count.
	anew = 10 * time.Second
)

// time returns a frame's time in the stream. Until the sender's reports say how
// its clocks go together, it is what the arrivals say.
func (a *Assembler) time(t *assembled, f *Frame) time.Duration {
	rate := time.Duration(t.in.Format.Clock)
	own := time.Duration(f.Timestamp) / rate * time.Second
	own += time.Duration(f.Timestamp) % rate * time.Second / rate
	if a.epoch.IsZero() {
		a.epoch = f.Arrived
	}
	arrived := f.Arrived.Sub(a.epoch)
	if off := arrived - own - t.offset; !t.begun || off > anew || off < -anew {
		t.begun, t.synced = true, false
		t.offset = arrived - own
	} else if !t.synced && off < -early {
		t.offset += off
	}
	if !f.Wall.IsZero() {
		a.sync(t, f, own)
	}
	return own + t.offset
}

// sync moves a track to where the sender's reports say that it is beside the
// first track that had one, which stays as it is: at once for the first time,
// later if they go on to say so, for those of different tracks come at different
// times, and the sender's clock may have been set between.
func (a *Assembler) sync(t *assembled, f *Frame, own time.Duration) {
	wall := f.Wall.Add(-(own + t.offset))
	for _, o := range a.tracks {
		if o == t && t.synced {
			break // it is the first itself
		}
		if o == t || !o.synced {
			continue
		}
		off := wall.Sub(o.wall)
		switch {
		case off < apart && off > -apart:
			t.astray = time.Time{}
		case t.synced && t.astray.IsZero():
			t.astray = f.Arrived
		case !t.synced || f.Arrived.Sub(t.astray) >= settles:
			t.offset += off
			wall, t.astray = o.wall, time.Time{}
		}
		break
	}
	t.synced, t.wall = true, wall
}

// configure makes the frame one of the stream, and the track anew when its
// configuration is known or has changed. ok is false if the frame is of no use
// yet.
func (a *Assembler) configure(t *assembled, f *Frame) (data []byte, ok bool) {
	made := stream.Track{ID: 2, Codec: t.in.Codec}
	if t.in.Codec.Kind() == stream.Video {
		made.ID = 1
	}
	data = f.Data
	switch t.in.Codec {
	case stream.H264:
		made.Config, data = configH264(f.Data)
	case stream.H265:
		made.Config, data = configH265(f.Data)
	case stream.AV1:
		info, valid := av1.Inspect(f.Data)
		if !valid {
			return nil, false
		}
		if info.SequenceHeader.Raw != nil {
			f.Key = true
			if c, err := av1.NewConfig(info.SequenceHeader); err == nil {
				made.Config = c.Append(nil)
			}
		}
		data = av1.Normalize(f.Data, info)
	case stream.VP9:
		if f.Key {
			if c, err := vpx.NewConfig(f.Data); err == nil {
				made.Config = c.Append(nil)
			} else if t.track == nil { // it is encrypted end to end, perhaps
				made.Config = []byte{}
			}
		}
	case stream.VP8:
		made.Config = []byte{}
	case stream.Opus:
		made.Rate, made.Channels = 48000, 2
		made.Config = opus.DefaultHead(2).Append(nil)
	default:
		made.Rate, made.Channels, made.Config = 8000, 1, []byte{}
	}
	if len(data) == 0 || t.track == nil && made.Config == nil {
		return nil, false
	}
	if made.Config != nil && (t.track == nil || !bytes.Equal(t.track.Config, made.Config)) {
		t.track = &made
	}
	return data, true
}

// configH264 takes the parameter sets out of an access unit.
func configH264(au []byte) (config, rest []byte) {
	var sps, pps [][]byte
	rest = au[:0:len(au)]
	for u := range nal.Units(au) {
		switch h264.Type(u) {
		case h264.TypeSPS:
			sps = append(sps, bytes.Clone(u))
		case h264.TypePPS:
			pps = append(pps, bytes.Clone(u))
		case h264.TypeAUD:
		default:
			rest = nal.Append(rest, u)
		}
	}
	if len(sps) > 0 && len(pps) > 0 {
		if c, err := h264.NewConfig(sps, pps); err == nil {
			config = c.Append(nil)
		}
	}
	return config, rest
}

// configH265 takes the parameter sets out of an access unit.
func configH265(au []byte) (config, rest []byte) {
	var vps, sps, pps [][]byte
	rest = au[:0:len(au)]
	for u := range nal.Units(au) {
		switch h265.Type(u) {
		case h265.TypeVPS:
			vps = append(vps, bytes.Clone(u))
		case h265.TypeSPS:
			sps = append(sps, bytes.Clone(u))
		case h265.TypePPS:
			pps = append(pps, bytes.Clone(u))
		case h265.TypeAUD:
		default:
			rest = nal.Append(rest, u)
		}
	}
	if len(vps) > 0 && len(sps) > 0 && len(pps) > 0 {
		if c, err := h265.NewConfig(vps, sps, pps); err == nil {
			config = c.Append(nil)
		}
	}
	return config, rest
}
