package rtmp

import (
	"encoding/binary"
	"slices"
)

// AppendMessage appends an RTMP message for players to dst and returns the
// longer slice. Its body is header followed by payload, its first chunk has
// an absolute timestamp of ts milliseconds, its message stream id is 1 and
// its chunks are PlayChunkSize long, so what is appended depends on nothing
// that was sent before and is the same for every player. A body of 16 MiB or
// more cannot be sent over RTMP; dst is returned as it was.
func AppendMessage(dst []byte, typ byte, ts uint32, header, payload []byte) []byte {
	return appendMedia(dst, typ, ts, streamID, header, payload)
}

// appendMedia is AppendMessage for any message stream.
func appendMedia(dst []byte, typ byte, ts, stream uint32, header, payload []byte) []byte {
	csid := byte(csidData)
	switch typ {
	case typeAudio:
		csid = csidAudio
	case typeVideo:
		csid = csidVideo
	}
	return appendChunks(dst, PlayChunkSize, csid, typ, ts, stream, header, payload)
}

// appendChunks appends the message header ++ payload in chunks of chunkSize.
func appendChunks(dst []byte, chunkSize int, csid, typ byte, ts, stream uint32, header, payload []byte) []byte {
	size := len(header) + len(payload)
	if size > maxMessageSize {
		return dst
	}
	dst = slices.Grow(dst, 16+size+size/chunkSize*5)
	extended := ts >= 1<<24-1
	field := ts
	if extended {
		field = 1<<24 - 1
	}
	dst = append(dst, csid,
		byte(field>>16), byte(field>>8), byte(field),
		byte(size>>16), byte(size>>8), byte(size), typ)
	dst = binary.LittleEndian.AppendUint32(dst, stream)
	if extended {
		dst = binary.BigEndian.AppendUint32(dst, ts)
	}
	for {
		room := chunkSize
		n := min(room, len(header))
		dst = append(dst, header[:n]...)
		header, room = header[n:], room-n
		n = min(room, len(payload))
		dst = append(dst, payload[:n]...)
		payload = payload[n:]
		if len(header)+len(payload) == 0 {
			return dst
		}
		dst = append(dst, 3<<6|csid)
		if extended {
			dst = binary.BigEndian.AppendUint32(dst, ts)
		}
	}
}

// appendControl appends a protocol control message with a number for a body.
func appendControl(dst []byte, typ byte, v uint32) []byte {
	var body [4]byte
	binary.BigEndian.PutUint32(body[:], v)
	return appendChunks(dst, defaultChunkSize, csidControl, typ, 0, 0, body[:], nil)
}

// appendPeerBandwidth appends Set Peer Bandwidth with the limit type dynamic.
func appendPeerBandwidth(dst []byte, v uint32) []byte {
	var body [5]byte
	binary.BigEndian.PutUint32(body[:], v)
	body[4] = 2
	return appendChunks(dst, defaultChunkSize, csidControl, typeSetPeerBandwidth, 0, 0, body[:], nil)
}

// appendEvent appends a user control message.
func appendEvent(dst []byte, event uint16, v uint32) []byte {
	var body [6]byte
	binary.BigEndian.PutUint16(body[:], event)
	binary.BigEndian.PutUint32(body[2:], v)
	return appendChunks(dst, defaultChunkSize, csidControl, typeUserControl, 0, 0, body[:], nil)
}

// pong returns what answers a user control message: the response if it is a
// ping request, nil otherwise.
func pong(m message) []byte {
	if len(m.body) < 6 || binary.BigEndian.Uint16(m.body) != eventPingRequest {
		return nil
	}
	return appendEvent(nil, eventPingResponse, binary.BigEndian.Uint32(m.body[2:]))
}
