package transcode

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
)

// offset is added to all times on their way through ffmpeg, so that an encoder's
// DTS, which may lie before the first picture, is not negative.
const offset = mpegts.Offset

// A feed writes frames as ffmpeg reads them: MPEG-TS, which needs no memory however
// long it goes on, or IVF for codecs that MPEG-TS does not carry. Times begin with
// offset at base, so that they do not come round within a run.
type feed struct {
	base         time.Duration
	video, audio *stream.Track // audio may be nil
	stale        bool          // the configuration has changed: another feed is due
	ts           mpegts.Muxer
	ivf          bool
	begun        bool
}

// newFeed returns a feed of video, and of audio if that is not nil, beginning at base.
func newFeed(video, audio *stream.Track, base time.Duration) (*feed, error) {
	f := &feed{base: base, video: video, audio: audio}
	if f.ivf = ivfName(video.Codec) != ""; f.ivf {
		f.audio = nil
		return f, nil
	}
	tracks := []*stream.Track{video}
	if audio != nil && mpegts.Supports(audio) == nil {
		tracks = append(tracks, audio)
	} else {
		f.audio = nil
	}
	if err := f.ts.Configure(tracks); err != nil {
		return nil, fmt.Errorf("transcode: %w", err)
	}
	return f, nil
}

// format is ffmpeg's name of the container.
func (f *feed) format() string {
	if f.ivf {
		return "ivf"
	}
	return "mpegts"
}

// takes says whether a frame is of one of the feed's tracks, configured as it was when
// the feed began.
func (f *feed) takes(frame *stream.Frame) bool {
	for _, t := range [...]*stream.Track{f.video, f.audio} {
		if t == nil || frame.Track.ID != t.ID {
			continue
		}
		if frame.Track == t || frame.Track.Same(t) {
			return true
		}
		f.stale = true
	}
	return false
}

// append appends a frame that the feed takes.
func (f *feed) append(dst []byte, frame *stream.Frame) []byte {
	if !f.ivf {
		shifted := *frame
		shifted.DTS, shifted.PTS = frame.DTS-f.base, frame.PTS-f.base
		if shifted.Track = f.video; frame.Track.ID != f.video.ID {
			shifted.Track = f.audio
		}
		return f.ts.AppendFrame(dst, &shifted)
	}
	if !f.begun {
		f.begun = true
		info, _ := f.video.Video() // of no importance: decoders look into the frames
		dst = appendIVFHeader(dst, ivfName(f.video.Codec), info.Width, info.Height)
	}
	return appendIVFFrame(dst, frame, frame.PTS-f.base+offset)
}

// readOutput reads what ffmpeg has made, in the container that output has chosen,
// to its end.
func readOutput(r io.Reader, codec stream.Codec, s sink) error {
	var err error
	if ivfName(codec) != "" {
		err = readIVF(r, s)
	} else {
		_, err = (&mpegts.Demuxer{Sink: s}).ReadFrom(r)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// times remembers the newest frames that went into ffmpeg, to tell of those that come
// out what the source said of them.
type times struct {
	mu   sync.Mutex
	base time.Duration
	ring [512]moment // more than encoders hold back
	n    int         // how many were added
	lead time.Duration
}

type moment struct {
	ticks         int64 // of 90 kHz, since base
	pts           time.Duration
	lead          time.Duration // of the newest key frame: how long before its PTS its DTS is
	time          time.Time
	discontinuity bool
}

func (t *times) reset(base time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.base, t.n = base, 0
}

func (t *times) add(f *stream.Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.Key {
		t.lead = f.PTS - f.DTS
	}
	t.ring[t.n%len(t.ring)] = moment{stream.Ticks(f.PTS-t.base, 90000), f.PTS, t.lead, f.Time, f.Discontinuity}
	t.n++
}

// restore gives a frame as ffmpeg has made it the times of the stream, exactly those
// of the picture that it was made of. It returns that picture's lead, or 0 if it
// cannot tell.
func (t *times) restore(f *stream.Frame) (lead time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delay := f.PTS - f.DTS
	ticks := stream.Ticks(f.PTS-offset, 90000)
	f.PTS = f.PTS - offset + t.base
	for i := t.n - 1; i >= max(0, t.n-len(t.ring)); i-- {
		m := &t.ring[i%len(t.ring)]
		if d := m.ticks - ticks; d >= -1 && d <= 1 {
			f.PTS, f.Time, f.Discontinuity, lead = m.pts, m.time, m.discontinuity, m.lead
			break
		}
	}
	f.DTS = f.PTS - delay
	return lead
}

// A tap puts what ffmpeg has made of one rendition into the stream.
type tap struct {
	out      *stream.Publisher
	times    *times
	progress func()

	tracks []*stream.Track // in force, by their first pointer
	lead   time.Duration   // that the DTS of pictures gets beside the encoder's own
	last   [256]time.Duration
	begun  [256]bool
}

// SetTracks implements mpegts.Sink. A track that a restarted ffmpeg makes as before is
// the one from before.
func (t *tap) SetTracks(tracks ...*stream.Track) error {
	set := make([]*stream.Track, len(tracks))
	for i, track := range tracks {
		set[i] = t.known(track)
	}
	t.tracks = set
	return t.out.SetTracks(set...)
}

func (t *tap) known(track *stream.Track) *stream.Track {
	for _, k := range t.tracks {
		if k.Same(track) {
			return k
		}
	}
	return track
}

// Write implements mpegts.Sink.
func (t *tap) Write(f *stream.Frame) error {
	t.progress()
	f.Track = t.known(f.Track)
	lead := t.times.restore(f)
	if f.Track.Kind() == stream.Video {
		// An encoder that does not reorder makes DTS and PTS the same. Where the
		// source does, its key frames' DTS are earlier, and those here are to be
		// the same: outputs cut by them.
		if f.Key {
			t.lead = max(0, lead-(f.PTS-f.DTS))
		}
		f.DTS -= t.lead
	}
	id := f.Track.ID
	if t.begun[id] && f.DTS <= t.last[id] { // encoders begin with a DTS before the first PTS
		f.DTS = t.last[id] + time.Microsecond
		f.PTS = max(f.PTS, f.DTS)
	}
	t.last[id], t.begun[id] = f.DTS, true
	return t.out.Write(f)
}
