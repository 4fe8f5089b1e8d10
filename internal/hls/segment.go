package hls

import (
	"io"
	"strconv"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Rendition is one of the forms in which a Packager offers its stream.
type Rendition uint8

// The renditions. Those before TS are CMAF, in the order in which players are told
// of them.
const (
	Video  Rendition = iota // the picture
	Video2                  // further tracks of video
	Video3
	Video4
	Audio // the sound
	TS    // both in MPEG-TS
	renditions

	Renditions = int(renditions) // their number
)

var renditionNames = [renditions]string{Video: "v", Video2: "w", Video3: "x", Video4: "y", Audio: "a", TS: "ts"}

// extra reports whether r is a further track of video.
func (r Rendition) extra() bool { return r > Video && r < Audio }

// String returns the name that the rendition's media and playlist begin with:
// "v", "a", "ts", and "w" to "y" for further video.
func (r Rendition) String() string {
	if r < renditions {
		return renditionNames[r]
	}
	return "Rendition(" + strconv.Itoa(int(r)) + ")"
}

// ParsePlaylistName returns the rendition whose media playlist has the name,
// such as "v.m3u8".
func ParsePlaylistName(name string) (r Rendition, ok bool) {
	for r, prefix := range renditionNames {
		if name == prefix+".m3u8" {
			return Rendition(r), true
		}
	}
	return 0, false
}

// A Segment is a media segment. It is immutable; its bytes are shared.
type Segment struct {
	Rendition Rendition
	Sequence  uint64        // Media Sequence Number
	Start     time.Duration // DTS of the first frame
	PTS       time.Duration // of the first frame
	Duration  time.Duration // up to the next segment
	Time      time.Time     // wall clock of the first frame: EXT-X-PROGRAM-DATE-TIME

	Discontinuity         bool   // the timeline or the configuration was broken before it
	DiscontinuitySequence uint64 // as EXT-X-DISCONTINUITY-SEQUENCE counts
	Independent           bool   // begins with a frame where decoding can start
	Gap                   bool   // there was no media: no bytes

	Init  *Init   // what players need before it; nil for TS
	Key   *Key    // what it is encrypted with, or nil
	Parts []*Part // CMAF, in order

	name string
	data [][]byte
	size int64
	text []byte // its last lines in playlists, once it is complete
	date []byte // Time there

	from  time.Duration // where the previous segment ended
	loose bool          // from is a guess, to be set by the first frame
	clock time.Duration // media time of the rendition up to its end, breaks left out
	held  int64         // bytes of memory, parts included
}

// Name returns the name under which Open finds the segment, without the secret.
func (s *Segment) Name() string { return s.name }

// Content returns the segment's bytes.
func (s *Segment) Content() Content {
	return Content{Data: s.data, Size: s.size, Type: s.Rendition.contentType()}
}

// Bare returns the segment without its bytes and parts, for who is to keep it
// without keeping them.
func (s *Segment) Bare() *Segment {
	b := *s
	b.data, b.Parts = nil, nil
	return &b
}

// A Part is a partial segment.
type Part struct {
	Number      uint64        // counts the parts of a rendition
	Start       time.Duration // DTS of the first frame
	Duration    time.Duration
	Independent bool // holds a frame where decoding can start
	Gap         bool // there was no media: no bytes

	name string
	text []byte // its line in playlists
	data []byte // nil for one that is too old to be asked for
}

// Name returns the name under which Open finds the part, without the secret.
func (p *Part) Name() string { return p.name }

// An Init is an initialization segment.
type Init struct {
	Number uint64 // counts those of a rendition
	Track  *stream.Track
	Data   []byte

	name   string
	tracks [1]*stream.Track // Track
}

// Name returns the name under which Open finds it, without the secret.
func (i *Init) Name() string { return i.name }

// Content is bytes that may be served to any number of viewers at once. They
// never change.
type Content struct {
	Data [][]byte // must not be modified
	Size int64    // bytes in Data
	Type string   // media type
	ETag string   // quoted, as in HTTP
}

// WriteRange writes length bytes from offset on, without copying them: one
// Write for each piece of Data. The range must lie within Size.
func (c Content) WriteRange(w io.Writer, offset, length int64) (written int64, err error) {
	for _, b := range c.Data {
		if length == 0 {
			break
		}
		if offset >= int64(len(b)) {
			offset -= int64(len(b))
			continue
		}
		b = b[offset:min(int64(len(b)), offset+length)]
		n, err := w.Write(b)
		written += int64(n)
		if err != nil {
			return written, err
		}
		length -= int64(len(b))
		offset = 0
	}
	if length > 0 {
		return written, io.ErrUnexpectedEOF
	}
	return written, nil
}

// WriteTo writes everything.
func (c Content) WriteTo(w io.Writer) (int64, error) { return c.WriteRange(w, 0, c.Size) }

func (r Rendition) contentType() string {
	switch r {
	case TS:
		return "video/mp2t"
	case Audio:
		return "audio/mp4"
	}
	return "video/mp4"
}
