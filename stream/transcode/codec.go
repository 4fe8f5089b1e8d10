package transcode

import (
	"errors"
	"fmt"

	"github.com/runnel-media/runnel/stream"
)

// A Codec makes decoders and encoders for one audio codec. Opus is one, goaac.Codec
// another; a host may bring its own. Its methods may be called from many goroutines
// at once.
type Codec interface {
	// NewDecoder returns a decoder for a track. The error wraps
	// stream.ErrUnsupported, and says why, if the codec has no decoder for it.
	NewDecoder(t *stream.Track) (Decoder, error)
	// NewEncoder returns an encoder for sound of that form. It may take another
	// rate, which its Format tells, but not another number of channels. The error
	// wraps stream.ErrUnsupported if there is none.
	NewEncoder(pcm Format) (Encoder, error)
}

// Format is the form of samples: float32 from -1 to 1, the channels of a moment side
// by side.
type Format struct {
	Rate     int // samples a second of each channel
	Channels int // 1 or 2
}

// A Decoder makes samples of packets. It is used by one goroutine. What it returns for
// a packet is heard at the packet's PTS: a decoder that delays must leave as much out
// at the start.
type Decoder interface {
	Format() Format
	// Decode appends the samples of a packet to dst. After an error it goes on
	// with the next packet.
	Decode(dst []float32, packet []byte) ([]float32, error)
	// Conceal appends samples, so many of each channel, in the place of packets
	// that are missing.
	Conceal(dst []float32, samples int) []float32
	// Reset forgets what was before, for a packet that does not follow it.
	Reset()
	// Close frees what the decoder holds. It is not used afterwards.
	Close()
}

// An Encoder makes packets of samples. It is used by one goroutine.
type Encoder interface {
	// Format is what Encode takes.
	Format() Format
	// Track describes the packets. Its ID is not set.
	Track() *stream.Track
	// FrameSize is how many samples of each channel a packet stands for.
	FrameSize() int
	// Delay is how many samples later a sample comes out of a decoder than it
	// went in here: the look-ahead of Opus, the priming of AAC.
	Delay() int
	// Encode takes FrameSize samples of each channel and appends a packet to dst,
	// or nothing as long as it looks ahead.
	Encode(dst []byte, pcm []float32) ([]byte, error)
	// Reset forgets what was before, and begins with the look-ahead again.
	Reset()
	// Close frees what the encoder holds. It is not used afterwards.
	Close()
}

// unsupported returns an error that wraps stream.ErrUnsupported.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("transcode: "+format+": %w", append(args, stream.ErrUnsupported)...)
}

var errMalformed = errors.New("transcode: malformed packet")
