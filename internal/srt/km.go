package srt

// A keyMaterial is the content of a KMREQ, and of a KMRSP that agrees (draft
// 3.2.2). One that does not is a kmState alone.
type keyMaterial struct {
	which   keySlot // whose keys are wrapped; with keyBoth the even one is first
	keyLen  int     // 16, 24 or 32 bytes
	salt    [16]byte
	wrapped []byte // RFC 3394: 8 bytes and the keys
}

// A kmState is what a KMRSP says that does not agree.
type kmState uint32

const (
	kmUnsecured kmState = 0
	kmSecuring  kmState = 1
	kmSecured   kmState = 2
	kmNoSecret  kmState = 3 // the peer has no passphrase
	kmBadSecret kmState = 4
)

const (
	kmHead   = 16 + 16         // up to the wrapped keys
	kmMin    = kmHead + 8 + 16 // one key of 128 bits
	kmMax    = kmHead + 8 + 64 // two of 256
	kmSign   = 0x2029          // "HAI" in the alphabet of PnP vendors
	cipherCT = 2               // AES in counter mode
	forTS    = 2               // stream encapsulation: MPEG-TS over SRT
)

// parseKM reads key material. Its lengths must be exactly those that its head
// says, which in turn are among the few that there are.
func parseKM(b []byte) (k keyMaterial, err error) {
	if len(b) < kmMin || len(b) > kmMax {
		return k, errPacket
	}
	if b[0] != 0x12 || be.Uint16(b[1:]) != kmSign || be.Uint32(b[4:]) != 0 {
		return k, errPacket
	}
	k.which = keySlot(b[3] & 3)
	k.keyLen = 4 * int(b[15])
	n := 1
	switch {
	case k.which == keyNone, b[8] != cipherCT, b[9] != 0, b[10] != forTS, int(b[14])*4 != len(k.salt):
		return k, errPacket
	case k.keyLen != 16 && k.keyLen != 24 && k.keyLen != 32:
		return k, errPacket
	case k.which == keyBoth:
		n = 2
	}
	if len(b) != kmHead+8+n*k.keyLen {
		return k, errPacket
	}
	copy(k.salt[:], b[16:])
	k.wrapped = b[kmHead:]
	return k, nil
}

// append appends the key material to dst.
func (k *keyMaterial) append(dst []byte) []byte {
	dst = append(dst, 0x12, kmSign>>8, kmSign&0xff, byte(k.which), 0, 0, 0, 0,
		cipherCT, 0, forTS, 0, 0, 0, byte(len(k.salt)/4), byte(k.keyLen/4))
	dst = append(dst, k.salt[:]...)
	return append(dst, k.wrapped...)
}

// parseKMState reads a KMRSP that does not agree.
func parseKMState(b []byte) (kmState, bool) {
	if len(b) != 4 {
		return 0, false
	}
	return kmState(be.Uint32(b)), true
}
