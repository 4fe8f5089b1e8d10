package record

import (
	"fmt"
	"io"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Format is the kind of file that a Recorder writes.
type Format uint8

// The formats.
const (
	MP4 Format = iota // fragmented while it is written; plain, with its tables in front, when it is complete
	FLV               // with its duration and an index of key frames when it is complete
	HLS               // CMAF segments and playlists (RFC 8216) in a directory
)

var formatNames = [...]string{MP4: "mp4", FLV: "flv", HLS: "hls"}

// String returns "mp4", "flv" or "hls".
func (f Format) String() string {
	if int(f) < len(formatNames) {
		return formatNames[f]
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// MarshalText returns what String returns.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText accepts what MarshalText returns.
func (f *Format) UnmarshalText(text []byte) error {
	for i, name := range formatNames {
		if name == string(text) {
			*f = Format(i)
			return nil
		}
	}
	return fmt.Errorf("record: unknown format %q", text)
}

// A muxer turns frames into the one file that they are recorded in.
type muxer interface {
	// takes says what to do with a frame: write it, leave it out, or begin
	// another file with it.
	takes(f *stream.Frame) verdict
	// write takes a frame.
	write(f *stream.Frame) error
	// flush writes all that is held back, at the end. next is the DTS of the
	// picture that follows in another file; 0: none does.
	flush(next time.Duration) error
	// whole is how many bytes of what was written can be played if nothing
	// follows.
	whole() int64
	// rewrite writes the final form of the file. src is what was written.
	rewrite(w io.Writer, src io.ReadSeeker) error
}

// A verdict is what a muxer says to a frame.
type verdict uint8

const (
	take verdict = iota
	skip         // this file can't have it
	cut          // only another file can have it
)
