package rtp

// Audio packs and unpacks codecs whose frame is one payload: Opus (RFC 7587)
// and G.711 (RFC 3551).
type Audio struct{ frame []byte }

// Pack appends the frame, if it is not too long.
func (a *Audio) Pack(dst [][]byte, frame []byte, _ bool, limit int) [][]byte {
	if len(frame) == 0 || len(frame) > limit {
		return dst
	}
	return append(dst, append([]byte(nil), frame...))
}

// Push takes a frame.
func (a *Audio) Push(p []byte) bool {
	if len(p) == 0 || a.frame != nil {
		return false
	}
	a.frame = append([]byte(nil), p...)
	return true
}

// Pull returns the frame.
func (a *Audio) Pull() (frame []byte, key, ok bool) {
	frame, a.frame = a.frame, nil
	return frame, true, frame != nil
}

// Begins reports true.
func (a *Audio) Begins([]byte) bool { return true }
