package whip

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/av1"
	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/internal/opus"
	"github.com/runnel-media/runnel/internal/vpx"
	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// A publication turns what one peer sends into frames of a stream.
type publication struct {
	pub    *stream.Publisher
	cancel context.CancelFunc

	mu      sync.Mutex
	session *webrtc.Session
	over    bool
	reason  error // why it was evicted
	epoch   time.Time
	tracks  []*track
}

// A track is one of the peer's, and how its clock goes with the stream's.
type track struct {
	in     *webrtc.Incoming
	track  *stream.Track // nil before its configuration is known
	offset time.Duration // stream time minus its own
	begun  bool
	synced bool      // offset is by the sender's reports
	wall   time.Time // the sender's, at the stream's beginning; valid then
	broken bool      // pictures are left out until the next key frame
}

// attach is told the session. What the peer sends may come before.
func (p *publication) attach(s *webrtc.Session) {
	p.mu.Lock()
	over := p.over
	p.session = s
	p.mu.Unlock()
	if over {
		s.Close()
	}
}

func (p *publication) requestKey() {
	p.mu.Lock()
	s := p.session
	p.mu.Unlock()
	if s != nil {
		s.RequestKey()
	}
}

// evict ends the peer's session, by somebody else's will.
func (p *publication) evict(err error) {
	p.mu.Lock()
	s := p.session
	p.over, p.reason = true, err
	p.mu.Unlock()
	if s != nil {
		s.Close()
	}
}

// ended closes the publisher, when the peer's session has ended.
func (p *publication) ended(err error) {
	p.mu.Lock()
	if p.reason != nil {
		err = p.reason
	}
	p.over = true
	p.mu.Unlock()
	if err == webrtc.ErrHungUp {
		err = nil
	}
	session := p.pub.Session()
	_ = p.pub.Close()
	session.Close(err)
	p.cancel()
}

// frame takes a frame of the peer's.
func (p *publication) frame(in *webrtc.Incoming, f webrtc.Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	t := p.find(in)
	p.pub.Session().AddIn(len(f.Data))
	if in.Codec.Kind() == stream.Video {
		// A picture may refer to one that is lost: rather none than a broken one.
		t.broken = (t.broken || f.Lost) && !f.Key
		if t.broken {
			return
		}
	}
	data, ok := p.configure(t, &f)
	if !ok {
		return
	}
	at := p.time(t, &f)
	_ = p.pub.Write(&stream.Frame{
		Track: t.track, DTS: at, PTS: at, Time: f.Arrived, Key: f.Key, Data: data,
	}) // an error is told to evict too
}

func (p *publication) find(in *webrtc.Incoming) *track {
	for _, t := range p.tracks {
		if t.in == in {
			return t
		}
	}
	t := &track{in: in}
	p.tracks = append(p.tracks, t)
	return t
}

// time returns a frame's time in the stream. Until the sender's reports say how
// its clocks go together, it is what the arrivals say.
func (p *publication) time(t *track, f *webrtc.Frame) time.Duration {
	rate := time.Duration(t.in.Format.Clock)
	own := time.Duration(f.Timestamp) / rate * time.Second
	own += time.Duration(f.Timestamp) % rate * time.Second / rate
	if p.epoch.IsZero() {
		p.epoch = f.Arrived
	}
	if !t.begun {
		t.begun = true
		t.offset = f.Arrived.Sub(p.epoch) - own
	}
	if !t.synced && !f.Wall.IsZero() {
		// The first track that has a report stays as it is, the others move
		// to where their reports say that they are beside it.
		t.synced = true
		for _, o := range p.tracks {
			if o != t && o.synced {
				t.offset = f.Wall.Sub(o.wall) - own
				break
			}
		}
		t.wall = f.Wall.Add(-(own + t.offset))
	}
	return own + t.offset
}

// configure makes the frame one of the stream, and states the track when its
// configuration is known or has changed. ok is false if the frame is of no use
// yet.
func (p *publication) configure(t *track, f *webrtc.Frame) (data []byte, ok bool) {
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
		var all []*stream.Track
		for _, o := range p.tracks {
			if o.track != nil {
				all = append(all, o.track)
			}
		}
		if p.pub.SetTracks(all...) != nil {
			return nil, false
		}
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
