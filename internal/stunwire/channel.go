package stunwire

import "encoding/binary"

// ChannelHeader is how many bytes stand before the data of a ChannelData
// message.
const ChannelHeader = 4

// ChannelData takes apart a datagram that is a ChannelData message (RFC 8656
// Section 12.4). The data aliases b. What follows it, padding as a rule, is
// left out. Numbers of 0x4000 to 0x7FFF are taken, as RFC 5766 has them;
// RFC 8656 ends at 0x4FFF, which is the caller's to hold.
func ChannelData(b []byte) (number uint16, data []byte, ok bool) {
	if len(b) < ChannelHeader || b[0]&0xC0 != 0x40 {
		return 0, nil, false
	}
	n := ChannelHeader + int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b) {
		return 0, nil, false
	}
	return binary.BigEndian.Uint16(b), b[ChannelHeader:n:n], true
}

// AppendChannelHeader appends the header of a ChannelData message with n
// bytes of data, 65535 at most. Over a stream, zeros up to the next multiple
// of 4 follow the data.
func AppendChannelHeader(dst []byte, number uint16, n int) []byte {
	return append(dst, byte(number>>8), byte(number), byte(n>>8), byte(n))
}

// FrameSize says how long the message is with which the bytes of a stream go
// on (TCP or TLS, RFC 8656 Section 12.5): total bytes of it, and padded with
// the padding that follows ChannelData there. h is its beginning, 4 bytes or
// more; of fewer it says 0, 0 and no error. ErrFrame means that the stream
// has lost its framing, or never was STUN, and can only be closed. A message
// is 65551 bytes long at most; bound it further before reading it.
func FrameSize(h []byte) (total, size int, err error) {
	if len(h) < 4 {
		return 0, 0, nil
	}
	n := int(binary.BigEndian.Uint16(h[2:]))
	switch h[0] >> 6 {
	case 0:
		if n&3 != 0 || len(h) >= 8 && binary.BigEndian.Uint32(h[4:]) != Cookie {
			return 0, 0, ErrFrame
		}
		return HeaderSize + n, HeaderSize + n, nil
	case 1:
		return ChannelHeader + n, ChannelHeader + padded(n), nil
	}
	return 0, 0, ErrFrame
}
