// Package ac3 reads the header of AC-3 syncframes (ATSC A/52, section 5.3),
// which mediacommon parses.
package ac3

import (
	"errors"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/ac3"
)

// HeaderSize is how much of a frame Parse needs.
const HeaderSize = 7

// A Header is what the start of a syncframe says.
type Header struct {
	Rate     int // samples a second; a frame has 1536
	Channels int // with the low-frequency one
	Size     int // of the frame in bytes
}

// Parse parses the header at the start of b. E-AC-3 is an error.
func Parse(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, errors.New("ac3: frame too short")
	}
	var sync ac3.SyncInfo
	if err := sync.Unmarshal(b); err != nil {
		return Header{}, err
	}
	var bsi ac3.BSI
	if err := bsi.Unmarshal(b[5:]); err != nil {
		return Header{}, err
	}
	return Header{Rate: sync.SampleRate(), Channels: bsi.ChannelCount(), Size: sync.FrameSize()}, nil
}
