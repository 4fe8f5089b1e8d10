package rtp

import "github.com/runnel-media/runnel/internal/vpx"

// VP8 packs and unpacks VP8 (RFC 7741).
type VP8 struct {
	whole
	picture uint16
}

// VP9 packs and unpacks VP9 (RFC 9628): packs in flexible mode one layer, each
// frame of which depends on the one before, and takes all modes and layers.
type VP9 struct {
	whole
	picture uint16
}

// whole is a frame that is put together of pieces.
type whole struct {
	out    []byte
	pieces int
	key    bool
}

func (w *whole) push(part []byte) bool {
	if len(w.out)+len(part) > maxFrame {
		return false
	}
	w.out = append(w.out, part...)
	w.pieces++
	return true
}

// Pull returns the frame.
func (w *whole) Pull() (frame []byte, key, ok bool) {
	frame, key, ok = w.out, w.key, len(w.out) > 0
	*w = whole{out: make([]byte, 0, min(len(frame), 64<<10))}
	return frame, key, ok
}

// pictureID is the lower 15 bits, in the form of two bytes.
func pictureID(id uint16) (high, low byte) { return 0x80 | byte(id>>8), byte(id) }

// Follow has the pictures counted on from those of another packer of the codec.
func (v *VP8) Follow(p Packer) {
	if before, ok := p.(*VP8); ok {
		v.picture = before.picture
	}
}

// Follow is VP8's.
func (v *VP9) Follow(p Packer) {
	if before, ok := p.(*VP9); ok {
		v.picture = before.picture
	}
}

// PictureAt returns where in a payload that Pack has made of a codec the picture
// ID of 15 bits begins, behind a bit that says so; 0: there is none.
func PictureAt(p Packer) int {
	switch p.(type) {
	case *VP8:
		return 2
	case *VP9:
		return 1
	}
	return 0
}

const lenVP8 = 4 // descriptor with a picture ID of 15 bits

// Pack appends the payloads of a frame.
func (v *VP8) Pack(dst [][]byte, frame []byte, _ bool, limit int) [][]byte {
	if len(frame) == 0 {
		return dst
	}
	size := parts(len(frame), limit-lenVP8)
	buf := make([]byte, 0, len(frame)+(len(frame)/size+1)*lenVP8)
	high, low := pictureID(v.picture)
	v.picture++
	for start := byte(0x10); len(frame) > 0; start = 0 { // S: the partition begins
		n, from := min(size, len(frame)), len(buf)
		buf = append(buf, 0x80|start, 0x80, high, low) // X; I
		buf = append(buf, frame[:n]...)
		dst = append(dst, buf[from:len(buf):len(buf)])
		frame = frame[n:]
	}
	return dst
}

// vp8Descriptor returns what the descriptor says (RFC 7741 Section 4.2).
func vp8Descriptor(p []byte) (begins bool, media []byte, ok bool) {
	if len(p) == 0 {
		return false, nil, false
	}
	head, n := p[0], 1
	if head&0x80 != 0 { // X
		if len(p) < 2 {
			return false, nil, false
		}
		ext := p[1]
		n = 2
		if ext&0x80 != 0 { // I
			if len(p) > n && p[n]&0x80 != 0 {
				n++
			}
			n++
		}
		if ext&0x40 != 0 { // L
			n++
		}
		if ext&0x30 != 0 { // T, K
			n++
		}
	}
	if len(p) <= n {
		return false, nil, false
	}
	return head&0x10 != 0 && head&7 == 0, p[n:], true
}

// Push takes the next payload of a frame.
func (v *VP8) Push(p []byte) bool {
	begins, media, ok := vp8Descriptor(p)
	if !ok || begins != (v.pieces == 0) {
		return false
	}
	if begins {
		v.key = media[0]&1 == 0
	}
	return v.push(media)
}

// Begins reports whether a frame begins here.
func (v *VP8) Begins(p []byte) bool {
	begins, _, ok := vp8Descriptor(p)
	return begins && ok
}

// Bits of VP9's descriptor (RFC 9628 Section 4.2).
const (
	vp9I = 0x80 // picture ID
	vp9P = 0x40 // depends on other pictures
	vp9L = 0x20 // layer indices
	vp9F = 0x10 // flexible mode
	vp9B = 0x08 // begin of a frame
	vp9E = 0x04 // end of a frame
	vp9V = 0x02 // scalability structure

	lenVP9       = 4  // descriptor with a picture ID and one reference
	lenVP9Layout = 12 // the longest here
)

// Pack appends the payloads of a frame.
func (v *VP9) Pack(dst [][]byte, frame []byte, key bool, limit int) [][]byte {
	if len(frame) == 0 {
		return dst
	}
	size := parts(len(frame), limit-lenVP9Layout)
	buf := make([]byte, 0, len(frame)+(len(frame)/size+1)*lenVP9Layout)
	high, low := pictureID(v.picture)
	v.picture++
	width, height, sized := vpx.VP9Size(frame)
	for flags := byte(vp9I | vp9F | vp9B); len(frame) > 0; flags = vp9I | vp9F {
		n, from := min(size, len(frame)), len(buf)
		if n == len(frame) {
			flags |= vp9E
		}
		switch {
		case !key:
			buf = append(buf, flags|vp9P, high, low, 1<<1) // one reference: the picture before
		case sized && flags&vp9B != 0:
			buf = append(buf, flags|vp9V, high, low, 0x10) // one layer, with its size
			buf = append(buf, byte(width>>8), byte(width), byte(height>>8), byte(height))
		default:
			buf = append(buf, flags, high, low)
		}
		buf = append(buf, frame[:n]...)
		dst = append(dst, buf[from:len(buf):len(buf)])
		frame = frame[n:]
	}
	return dst
}

// vp9Descriptor returns the flags, the spatial layer and what follows.
func vp9Descriptor(p []byte) (flags byte, spatial byte, media []byte, ok bool) {
	if len(p) == 0 {
		return 0, 0, nil, false
	}
	flags, p = p[0], p[1:]
	skip := func(n int) bool {
		if len(p) < n {
			return false
		}
		p = p[n:]
		return true
	}
	if flags&vp9I != 0 {
		if len(p) == 0 || p[0]&0x80 != 0 && !skip(1) || !skip(1) {
			return 0, 0, nil, false
		}
	}
	if flags&vp9L != 0 {
		if len(p) == 0 {
			return 0, 0, nil, false
		}
		spatial = p[0] >> 1 & 7
		if skip(1); flags&vp9F == 0 && !skip(1) { // TL0PICIDX
			return 0, 0, nil, false
		}
	}
	if flags&(vp9F|vp9P) == vp9F|vp9P {
		for range 3 {
			if len(p) == 0 {
				return 0, 0, nil, false
			}
			more := p[0]&1 != 0
			if skip(1); !more {
				break
			}
		}
	}
	if flags&vp9V != 0 && !skipLayout(&p) {
		return 0, 0, nil, false
	}
	return flags, spatial, p, len(p) > 0
}

// skipLayout skips the scalability structure.
func skipLayout(p *[]byte) bool {
	b := *p
	if len(b) == 0 {
		return false
	}
	head, n := b[0], 1
	if head&0x10 != 0 { // Y
		n += 4 * (int(head>>5) + 1)
	}
	if head&0x08 != 0 { // G
		if len(b) <= n {
			return false
		}
		pictures := int(b[n])
		n++
		for range pictures {
			if len(b) <= n {
				return false
			}
			n += 1 + int(b[n]>>2&3)
		}
	}
	if len(b) < n {
		return false
	}
	*p = b[n:]
	return true
}

// Push takes the next payload of a picture: of all its layers.
func (v *VP9) Push(p []byte) bool {
	flags, spatial, media, ok := vp9Descriptor(p)
	if !ok || v.pieces == 0 && flags&vp9B == 0 {
		return false
	}
	if v.pieces == 0 {
		v.key = flags&vp9P == 0 && spatial == 0
	}
	return v.push(media)
}

// Begins reports whether a picture begins here.
func (v *VP9) Begins(p []byte) bool {
	flags, spatial, _, ok := vp9Descriptor(p)
	return ok && flags&vp9B != 0 && spatial == 0
}
