package record

import (
	"cmp"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// Info describes a recording: a file, or with HLS a directory of files. It is
// stored beside it as NAME.json, when it is complete.
type Info struct {
	Name    string `json:"name"` // of what to play, in the storage
	Format  Format `json:"format"`
	Stream  string `json:"stream"`
	Session string `json:"session"` // the same for all segments of one recording
	Segment int    `json:"segment"` // counts them, from 0

	Start    time.Time     `json:"start"`    // wall clock of the first frame
	Offset   time.Duration `json:"offset"`   // nanoseconds of media between the session's first frame and this one's
	Duration time.Duration `json:"duration"` // nanoseconds

	Tracks []TrackInfo `json:"tracks,omitempty"`
	Frames int64       `json:"frames,omitempty"`
	Size   int64       `json:"size"` // bytes of all files

	Repaired bool   `json:"repaired,omitempty"` // it was left unfinished
	Error    string `json:"error,omitempty"`    // why it ended early

	Files []FileInfo `json:"files"`

	// Signed is who signed the manifest, as the key's owner calls the key, and
	// Signature what; see Signer.
	Signed    string `json:"signed,omitempty"`
	Signature []byte `json:"signature,omitempty"`
}

// FileInfo is a file of a recording.
type FileInfo struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 []byte `json:"sha256"`
}

// TrackInfo describes a track of a recording.
type TrackInfo struct {
	Codec    stream.Codec `json:"codec"`
	Codecs   string       `json:"codecs,omitempty"` // RFC 6381
	Width    int          `json:"width,omitempty"`
	Height   int          `json:"height,omitempty"`
	Rate     int          `json:"rate,omitempty"`
	Channels int          `json:"channels,omitempty"`
	Language string       `json:"language,omitempty"`
}

// End is the wall clock at the end of the recording.
func (i *Info) End() time.Time { return i.Start.Add(i.Duration) }

func trackInfo(t *stream.Track) TrackInfo {
	i := TrackInfo{Codec: t.Codec, Codecs: t.CodecString(), Language: t.Language}
	switch t.Kind() {
	case stream.Video:
		v, _ := t.Video()
		i.Width, i.Height = v.Width, v.Height
	case stream.Audio:
		a, _ := t.Audio()
		i.Rate, i.Channels = cmp.Or(a.Rate, t.Rate), cmp.Or(a.Channels, t.Channels)
	}
	return i
}

// manifestSuffix is what the name of a recording's Info ends with.
const manifestSuffix = ".json"

// info describes a track of a file by its headers.
func (t *mp4Track) info() TrackInfo {
	if s := t.desc.stream(); s != nil {
		return trackInfo(s)
	}
	return TrackInfo{}
}
