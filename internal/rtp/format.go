package rtp

// A Packer cuts the frames of one track into payloads. It is used by one
// goroutine.
type Packer interface {
	// Pack appends the payloads of a frame to dst, none longer than limit,
	// which is 200 at least. They share one allocation; those of a big frame
	// are of one size but for the last, so that the system can send them with
	// one call. The frame is not kept. A malformed frame has no payloads.
	Pack(dst [][]byte, frame []byte, key bool, limit int) [][]byte
}

// An Unpacker puts the payloads of one frame together. It is used by one
// goroutine.
type Unpacker interface {
	// Push takes the next payload of a frame. It reports false if the payload
	// is malformed or does not follow what came: the frame is lost.
	Push(payload []byte) bool
	// Pull returns the frame and begins another. ok is false if it is not
	// complete. The caller owns frame.
	Pull() (frame []byte, key, ok bool)
	// Begins reports whether a frame may begin with a payload. It is asked of
	// the first after a loss.
	Begins(payload []byte) bool
}

// maxFrame bounds a frame that is put together.
const maxFrame = 8 << 20

// parts returns how a run of n bytes is cut into pieces of at most limit bytes:
// the size of each but the last.
func parts(n, limit int) int {
	if n <= limit {
		return n
	}
	k := (n + limit - 1) / limit
	return (n + k - 1) / k
}
