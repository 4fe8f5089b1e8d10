// Package flv reads and writes the tags of FLV (Adobe Flash Video File Format
// 10.1, Annex E), whose bodies are also the messages of RTMP: the legacy ones
// (H.264, AAC, MP3, G.711, H.265 under the id 12 that was never assigned) and
// those of Enhanced RTMP, versions 1 and 2 (H.265, AV1, VP8, VP9, Opus, AC-3).
//
// A Demuxer turns tags into tracks and frames for a Sink, which a
// *stream.Publisher is. A Reader feeds it from a byte stream. The Append
// functions write tags into a buffer of the caller.
package flv

import (
	"errors"

	"github.com/runnel-media/runnel/stream"
)

// Types of tags, and of RTMP messages.
const (
	TagAudio = 8
	TagVideo = 9
	TagData  = 18
)

// IDs of the tracks that a Demuxer makes.
const (
	VideoID = 1
	AudioID = 2
	DataID  = 3
)

// MaxTagSize is the largest size of a tag's body, and of an RTMP message.
const MaxTagSize = 1<<24 - 1

// ErrMalformed is wrapped by errors about bytes that are not FLV.
var ErrMalformed = errors.New("flv: malformed")

// A Sink takes what a Demuxer reads. Its methods are called from the
// goroutine that calls the Demuxer; what they return ends the call.
type Sink interface {
	// SetTracks is given all tracks known so far whenever one appears or
	// changes. Unchanged ones keep their pointer.
	SetTracks(tracks ...*stream.Track) error
	SetMetadata(m stream.Metadata)
	Write(f *stream.Frame) error
}

// Codec ids of the legacy headers.
const (
	videoAVC  = 7
	videoHEVC = 12

	audioMP3   = 2
	audioPCMA  = 7
	audioPCMU  = 8
	audioEx    = 9 // the enhanced header follows
	audioAAC   = 10
	audioMP38k = 14
)

// Frame types of video.
const (
	frameKey     = 1
	frameInter   = 2
	frameCommand = 5
)

// exVideo is the bit of the first byte that says that the enhanced header
// follows.
const exVideo = 0x80

// Packet types of the legacy AVC and AAC headers.
const (
	legacyConfig = 0
	legacyFrame  = 1
)

// Packet types of the enhanced headers.
const (
	exConfig          = 0 // SequenceStart
	exFrame           = 1 // CodedFrames
	exFrameX          = 3 // CodedFramesX: no composition time
	exMetadata        = 4 // video only
	exMultitrackAudio = 5
	exMultitrackVideo = 6
	exModEx           = 7
)

// FourCCs of the enhanced headers.
const (
	fourAVC  = "avc1"
	fourHEVC = "hvc1"
	fourAV1  = "av01"
	fourVP8  = "vp08"
	fourVP9  = "vp09"
	fourAAC  = "mp4a"
	fourMP3  = ".mp3"
	fourOpus = "Opus"
	fourAC3  = "ac-3"
)

// TagType returns the type of the tags that carry the track.
func TagType(t *stream.Track) byte {
	switch t.Kind() {
	case stream.Video:
		return TagVideo
	case stream.Audio:
		return TagAudio
	}
	return TagData
}
