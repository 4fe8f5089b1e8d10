package stream

import "bytes"

// A Track describes one elementary stream. It is immutable once it has been
// given to a Publisher: a change of configuration (a new SPS, another sample
// rate) is a new *Track with the same ID, so a reader compares pointers to
// notice one.
type Track struct {
	ID       uint8  // unique within a stream; by convention 1 is the video and 2 the audio
	Codec    Codec  // its Kind is the track's kind
	Rate     int    // audio: samples a second; video and data: 0
	Channels int    // audio: number of channels, 0 if unknown
	Config   []byte // decoder configuration in the form that Codec's constants state; never modified
	Language string // RFC 5646 tag, "" if unknown
}

// Kind returns the kind of the track's codec.
func (t *Track) Kind() Kind { return t.Codec.Kind() }

// Same reports whether a decoder set up for t can decode o's frames.
func (t *Track) Same(o *Track) bool {
	if t == o {
		return true
	}
	return t != nil && o != nil && t.ID == o.ID && t.Codec == o.Codec && t.Rate == o.Rate &&
		t.Channels == o.Channels && bytes.Equal(t.Config, o.Config)
}
