package srt

import "net/netip"

// Kinds of handshakes (draft 3.2.1). From rejected on a Reason is added.
const (
	kindInduction  uint32 = 1
	kindWave       uint32 = 0 // rendezvous
	kindConclusion uint32 = 0xffffffff
	kindAgreement  uint32 = 0xfffffffe // rendezvous
	kindRejected   uint32 = 1000
	maxRejected    uint32 = 10000
)

const (
	handshakeSize = 48
	// magic is the extension field of an induction that answers: it tells that
	// version 5 is spoken.
	magic uint16 = 0x4a17

	minMTU = 76 // 28 of IP and UDP, 16 of SRT, and something to send
)

// Types of handshake extensions, and subtypes of typeUser.
const (
	extHSReq      uint16 = 1
	extHSRsp      uint16 = 2
	extKMReq      uint16 = 3
	extKMRsp      uint16 = 4
	extStreamID   uint16 = 5
	extCongestion uint16 = 6
	extFilter     uint16 = 7
	extGroup      uint16 = 8
)

// Flags of the extension field of a conclusion: what follows.
const (
	followsHS     uint16 = 1
	followsKM     uint16 = 2
	followsConfig uint16 = 4
)

// Flags of an HSREQ (draft, table 6).
const (
	canSendTimed    uint32 = 1 << 0 // TSBPDSND
	canRecvTimed    uint32 = 1 << 1 // TSBPDRCV
	canCrypt        uint32 = 1 << 2
	canDropLate     uint32 = 1 << 3 // TLPKTDROP
	canReportLoss   uint32 = 1 << 4 // PERIODICNAK
	marksRetransmit uint32 = 1 << 5 // REXMITFLG
	streamMode      uint32 = 1 << 6
	canFilter       uint32 = 1 << 7

	ourFlags = canSendTimed | canRecvTimed | canCrypt | canDropLate | canReportLoss | marksRetransmit | canFilter
)

const (
	// ourVersion is the SRT version that is claimed: the libsrt whose
	// behaviour this is.
	ourVersion uint32 = 0x010501
	// minVersion is the first that knows handshake version 5.
	minVersion uint32 = 0x010300
)

// A handshake is the content of a handshake packet.
type handshake struct {
	version    uint32
	encryption uint16 // length of the keys in 8 bytes; 0: none is proposed
	extension  uint16 // flags of what follows; in an induction magic, or 2
	isn        seq
	mtu        uint32
	window     uint32 // packets
	kind       uint32
	id         uint32 // socket id of the sender
	cookie     uint32
	peer       netip.Addr // of the receiver, as the sender sees it

	// Extensions of a conclusion; zero if absent.
	hello      hello
	isRequest  bool // hello is an HSREQ, not an HSRSP
	km         []byte
	streamID   string
	congestion string
	filter     string
	group      bool
}

// A hello is an HSREQ or HSRSP.
type hello struct {
	version   uint32 // 0: absent
	flags     uint32
	recvDelay uint16 // ms that the sender of it holds what it receives
	sendDelay uint16 // ms that it wants its peer to hold
}

// rejected returns why a handshake was refused.
func (h *handshake) rejected() (Reason, bool) {
	if h.kind >= kindRejected && h.kind < maxRejected {
		return Reason(h.kind - kindRejected), true
	}
	return 0, false
}

// maxStreamID is the most that an SRT stream id may have, in bytes.
const maxStreamID = 512

// parseHandshake reads what follows the header of a handshake packet.
// What it returns shares b's memory.
func parseHandshake(b []byte) (h handshake, err error) {
	if len(b) < handshakeSize || len(b) > maxPayload {
		return h, errPacket
	}
	h.version = be.Uint32(b)
	h.encryption, h.extension = be.Uint16(b[4:]), be.Uint16(b[6:])
	isn := be.Uint32(b[8:])
	if isn > seqMask {
		return h, errPacket
	}
	h.isn = seq(isn)
	h.mtu, h.window, h.kind = be.Uint32(b[12:]), be.Uint32(b[16:]), be.Uint32(b[20:])
	h.id, h.cookie = be.Uint32(b[24:]), be.Uint32(b[28:])
	h.peer = parseIP(b[32:48])
	if h.kind != kindConclusion || h.version < 5 {
		return h, nil
	}
	for rest := b[handshakeSize:]; len(rest) > 0; {
		if len(rest) < 4 {
			return h, errPacket
		}
		typ, n := be.Uint16(rest), 4*int(be.Uint16(rest[2:]))
		rest = rest[4:]
		if n > len(rest) {
			return h, errPacket
		}
		if err := h.take(typ, rest[:n]); err != nil {
			return h, err
		}
		rest = rest[n:]
	}
	return h, nil
}

// take reads one extension. Of those that come twice the first counts, unknown
// ones are passed over.
func (h *handshake) take(typ uint16, b []byte) error {
	switch typ {
	case extHSReq, extHSRsp:
		if len(b) < 12 {
			return errPacket
		}
		if h.hello.version == 0 {
			h.isRequest = typ == extHSReq
			h.hello = hello{be.Uint32(b), be.Uint32(b[4:]), be.Uint16(b[8:]), be.Uint16(b[10:])}
		}
	case extKMReq, extKMRsp:
		if h.km == nil {
			h.km = b
		}
	case extStreamID:
		if len(b) > maxStreamID {
			return errPacket
		}
		if h.streamID == "" {
			h.streamID = parseText(b)
		}
	case extCongestion:
		if h.congestion == "" {
			h.congestion = parseText(b)
		}
	case extFilter:
		if h.filter == "" {
			h.filter = parseText(b)
		}
	case extGroup:
		h.group = true
	}
	return nil
}

// append appends the handshake's content to dst.
func (h *handshake) append(dst []byte) []byte {
	dst = be.AppendUint32(dst, h.version)
	dst = be.AppendUint16(dst, h.encryption)
	dst = be.AppendUint16(dst, h.extension)
	for _, v := range [...]uint32{uint32(h.isn), h.mtu, h.window, h.kind, h.id, h.cookie} {
		dst = be.AppendUint32(dst, v)
	}
	dst = appendIP(dst, h.peer)
	if h.hello.version != 0 {
		typ, km := extHSRsp, extKMRsp
		if h.isRequest {
			typ, km = extHSReq, extKMReq
		}
		dst = appendExtension(dst, typ, 12)
		dst = be.AppendUint32(dst, h.hello.version)
		dst = be.AppendUint32(dst, h.hello.flags)
		dst = be.AppendUint16(dst, h.hello.recvDelay)
		dst = be.AppendUint16(dst, h.hello.sendDelay)
		if h.km != nil {
			dst = append(appendExtension(dst, km, len(h.km)), h.km...)
		}
	}
	for _, s := range [...]struct {
		typ  uint16
		text string
	}{{extStreamID, h.streamID}, {extCongestion, h.congestion}, {extFilter, h.filter}} {
		if s.text != "" {
			dst = appendText(appendExtension(dst, s.typ, len(s.text)), s.text)
		}
	}
	return dst
}

// follows returns the extension field for what append appends.
func (h *handshake) follows() (flags uint16) {
	if h.hello.version != 0 {
		flags |= followsHS
	}
	if h.km != nil {
		flags |= followsKM
	}
	if h.streamID != "" || h.congestion != "" || h.filter != "" {
		flags |= followsConfig
	}
	return flags
}

// appendExtension appends the head of an extension of n bytes, rounded up.
func appendExtension(dst []byte, typ uint16, n int) []byte {
	dst = be.AppendUint16(dst, typ)
	return be.AppendUint16(dst, uint16((n+3)/4))
}

// parseText reads a string, whose bytes stand in reverse in each 32-bit word,
// without the zeros at its end.
func parseText(b []byte) string {
	s := make([]byte, len(b))
	for i := range s {
		s[i] = b[i^3]
	}
	n := len(s)
	for n > 0 && s[n-1] == 0 {
		n--
	}
	return string(s[:n])
}

// appendText is the reverse of parseText.
func appendText(dst []byte, s string) []byte {
	for i := 0; i < len(s); i += 4 {
		var word [4]byte
		for k := 0; k < 4 && i+k < len(s); k++ {
			word[3-k] = s[i+k]
		}
		dst = append(dst, word[:]...)
	}
	return dst
}

// parseIP reads an address: words in the byte order of a little machine, as
// libsrt writes them. IPv4 has the first.
func parseIP(b []byte) netip.Addr {
	var ip [16]byte
	for i := range ip {
		ip[i] = b[i^3]
	}
	if [12]byte(ip[4:]) == [12]byte{} {
		return netip.AddrFrom4([4]byte(ip[:4]))
	}
	return netip.AddrFrom16(ip)
}

func appendIP(dst []byte, a netip.Addr) []byte {
	var ip, out [16]byte
	switch a = a.Unmap(); {
	case a.Is4():
		b := a.As4()
		copy(ip[:], b[:])
	case a.Is6():
		ip = a.As16()
	}
	for i := range ip {
		out[i^3] = ip[i]
	}
	return append(dst, out[:]...)
}
