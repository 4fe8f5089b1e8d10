package flv

import (
	"fmt"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Demuxer turns the tags of one publisher into tracks, metadata and frames.
// Its zero value with a Sink is ready. It is not safe for concurrent use.
//
// Sequence headers become tracks, as do parameter sets inside frames that
// differ from them (some encoders send no other). Audio is one track and video
// another; of a multitrack stream, track 0. NAL units come out behind 4-byte
// lengths whatever the publisher uses.
type Demuxer struct {
	Sink Sink

	tracks  [3]*stream.Track // by ID-1; nil while unknown
	dropped uint64
	refused [2]string // codecs of video and audio that were refused last

	decoding // of the video track
}

// Dropped returns how many frames were left out: before their decoder
// configuration, malformed, or of a codec that was refused.
func (d *Demuxer) Dropped() uint64 { return d.dropped }

// Tag takes the body of one tag or RTMP message. It takes ownership of body:
// frames alias it. ts is its timestamp in milliseconds, unwrapped to 64 bits
// and of any sign; at is when it arrived.
//
// An error that wraps stream.ErrUnsupported means that the tag's codec is not
// carried. It is returned once; the caller may go on, and further frames of
// the codec are dropped. An error that wraps ErrMalformed means a decoder
// configuration that can't be parsed. Other errors are the Sink's. Malformed
// frames are dropped without an error, and tags of other types, and the end of
// a sequence, are ignored.
func (d *Demuxer) Tag(typ byte, ts int64, body []byte, at time.Time) error {
	if len(body) == 0 { // some encoders send empty audio for silence
		return nil
	}
	dts := stream.FromTicks(ts, 1000)
	switch typ {
	case TagVideo:
		return d.videoTag(body, dts, at)
	case TagAudio:
		return d.audioTag(body, dts, at)
	case TagData:
		return d.dataTag(body, dts, at)
	}
	return nil
}

// setTrack puts a track into force, unless the one that is does as well.
func (d *Demuxer) setTrack(t *stream.Track) error {
	if d.tracks[t.ID-1].Same(t) {
		return nil
	}
	d.tracks[t.ID-1] = t
	known := make([]*stream.Track, 0, len(d.tracks))
	for _, t := range d.tracks {
		if t != nil {
			known = append(known, t)
		}
	}
	return d.Sink.SetTracks(known...)
}

// drop counts a frame that is left out.
func (d *Demuxer) drop() error {
	d.dropped++
	return nil
}

// refuse reports a codec of the track with that ID, once.
func (d *Demuxer) refuse(id int, codec string) error {
	if d.refused[id-1] == codec {
		return d.drop()
	}
	d.refused[id-1] = codec
	d.dropped++
	return fmt.Errorf("flv: %s codec %q: %w", [...]string{"video", "audio"}[id-1], codec, stream.ErrUnsupported)
}

func malformed(err error) error {
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}
