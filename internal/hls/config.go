package hls

import (
	"cmp"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// Config is what a Packager may be told. The zero value is CMAF in segments of
// 2 s and parts of 200 ms with a window of 30 s.
type Config struct {
	Segment time.Duration // shortest segment; 0: 2 s
	Part    time.Duration // of a part, about; 0: 200 ms, negative: no parts
	Window  time.Duration // what a playlist covers, at least; 0: 30 s. Three target durations are always kept

	// MaxSegment is the longest segment: it is cut without a key frame. 0: 30
	// s. A quarter of MaxBytes is a bound too.
	MaxSegment time.Duration

	// MaxBytes bounds the media that is held. Beyond it the oldest segments
	// go, however short the window becomes. 0: 128 MiB.
	MaxBytes int64

	// MaxWaiters bounds the requests that are held back at once, and
	// MaxWaitersPerAddr those of one address. 0: 10,000 and 1,000; negative:
	// no bound.
	MaxWaiters        int
	MaxWaitersPerAddr int

	// MediaPrefix is put before the names of media in playlists, such as
	// "../" where media is one directory above them.
	MediaPrefix string

	// TS makes the muxer of the MPEG-TS rendition. nil: there is none. It is
	// made, from the next segment on, when somebody first asks for the
	// rendition; with TSAlways from the start.
	TS       func() TSMuxer
	TSAlways bool

	Encrypt     bool // media segments with AES-128
	KeySegments int  // how many segments share a key; 0: 10

	// FirstSequence is the Media Sequence Number of the first segment. A
	// stream that follows another under the same URL goes on counting, or
	// players that did not see the other's end wait for its numbers. It begins
	// with EXT-X-DISCONTINUITY then, and FirstDiscontinuity is the number of
	// discontinuities in the other.
	FirstSequence      uint64
	FirstDiscontinuity uint64

	// FollowCuts has segments begin where the frames of a stream say so
	// (stream.Frame.Cut), with the numbers that those have, so that all who package
	// the stream make the same. Segment counts only for streams whose frames say
	// nothing.
	FollowCuts bool

	// OnSegment is told of every segment when it is complete, those with Gap
	// included, in order within a rendition. It is called from Add and End and
	// may keep the segment and its bytes. nil: nobody asks.
	OnSegment func(*Segment)

	// OnData takes the bytes of segments as they are made, before OnSegment is
	// told that the segment is complete, and may keep but not modify them: some are
	// those of the frames. The Packager keeps none then, and nobody can Open any.
	OnData func(s *Segment, data []byte)
}

// A TSMuxer turns frames into an MPEG transport stream; *mpegts.Muxer is one.
type TSMuxer interface {
	// Configure states the tracks from the next frame on. Its error wraps
	// stream.ErrUnsupported if one of them cannot be carried; then nothing has
	// changed.
	Configure(tracks []*stream.Track) error
	// AppendTables appends what a segment begins with.
	AppendTables(dst []byte) []byte
	// AppendFrames appends the packets of frames of one of the tracks, which
	// may share packets if they are audio.
	AppendFrames(dst []byte, frames []*stream.Frame) []byte
}

func (c Config) withDefaults() Config {
	c.Segment = cmp.Or(max(c.Segment, 0), 2*time.Second)
	c.Part = min(cmp.Or(c.Part, 200*time.Millisecond), c.Segment)
	c.Window = cmp.Or(max(c.Window, 0), 30*time.Second)
	c.MaxSegment = max(cmp.Or(max(c.MaxSegment, 0), 30*time.Second), c.Segment)
	c.MaxBytes = cmp.Or(max(c.MaxBytes, 0), 128<<20)
	c.MaxWaiters = cmp.Or(c.MaxWaiters, 10_000)
	c.MaxWaitersPerAddr = cmp.Or(c.MaxWaitersPerAddr, 1_000)
	c.FirstSequence = min(c.FirstSequence, 1e14) // names have at most 15 digits
	c.KeySegments = cmp.Or(max(c.KeySegments, 0), 10)
	return c
}
