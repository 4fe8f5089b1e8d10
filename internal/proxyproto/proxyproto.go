// Package proxyproto reads the PROXY protocol, versions 1 and 2, by which a
// load balancer says whose connection, or datagram, it hands on. Who may say so
// is for the receiver to decide: from anybody else a header is forged.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
)

// A Header is what a proxy said of a connection or a datagram.
type Header struct {
	// Local says that the proxy speaks for itself (a health check, version 2
	// LOCAL) or does not know the client (version 1 UNKNOWN, version 2
	// UNSPEC): the addresses are invalid, those of the socket count.
	Local    bool
	Datagram bool           // the proxy got it by UDP
	Src, Dst netip.AddrPort // the client, and where it connected to
}

// Errors of Parse and Strip.
var (
	// ErrNone: the bytes are no PROXY header, nor the beginning of one.
	ErrNone = errors.New("proxyproto: no PROXY header")
	// ErrShort: the bytes are the beginning of a PROXY header.
	ErrShort = errors.New("proxyproto: PROXY header is incomplete")
	// ErrMalformed: the bytes begin like a PROXY header and are not one.
	ErrMalformed = errors.New("proxyproto: PROXY header is malformed")
)

const (
	maxV1 = 107  // version 1: a line of at most so many bytes, CRLF included
	maxV2 = 1024 // version 2: TLVs included; the protocol would allow 64 KB
	lenV2 = 16   // of the fixed part
)

var (
	signature1 = []byte("PROXY ")
	signature2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

// Parse reads the header that b begins with, of either version, and returns how
// many bytes it takes. TLVs are skipped. It never looks at more than 1 KB.
func Parse(b []byte) (Header, int, error) {
	switch {
	case begins(b, signature2):
		return parse2(b)
	case begins(b, signature1):
		return parse1(b)
	}
	return Header{}, 0, ErrNone
}

// Strip reads the version 2 header that a datagram begins with and returns what
// follows it, which lies in b. ErrNone: there is none, all of b is payload.
// Version 1 is for streams only.
func Strip(b []byte) (Header, []byte, error) {
	if len(b) < len(signature2) || !bytes.Equal(b[:len(signature2)], signature2) {
		return Header{}, b, ErrNone
	}
	h, n, err := parse2(b)
	if err == ErrShort || err == nil && !h.Local && !h.Datagram {
		err = ErrMalformed // the rest of a datagram does not come later
	}
	if err != nil {
		return Header{}, nil, err
	}
	return h, b[n:], nil
}

// begins reports whether one of b and signature begins with the other.
func begins(b, signature []byte) bool {
	n := min(len(b), len(signature))
	return bytes.Equal(b[:n], signature[:n])
}

func parse1(b []byte) (Header, int, error) {
	line := b[:min(len(b), maxV1)]
	end := bytes.Index(line, []byte("\r\n"))
	if end < 0 {
		if len(line) == maxV1 {
			return Header{}, 0, ErrMalformed
		}
		return Header{}, 0, ErrShort
	}
	n := end + 2
	fields := bytes.Split(line[:end], []byte(" "))
	if len(fields) >= 2 && string(fields[1]) == "UNKNOWN" {
		return Header{Local: true}, n, nil // the rest of the line is to be ignored
	}
	if len(fields) != 6 {
		return Header{}, 0, ErrMalformed
	}
	src, ok := addr1(fields[2], fields[4])
	dst, ok2 := addr1(fields[3], fields[5])
	if !ok || !ok2 {
		return Header{}, 0, ErrMalformed
	}
	switch string(fields[1]) {
	case "TCP4":
		ok = src.Addr().Is4() && dst.Addr().Is4()
	case "TCP6":
		ok = src.Addr().Is6() && dst.Addr().Is6()
	default:
		ok = false
	}
	if !ok {
		return Header{}, 0, ErrMalformed
	}
	return Header{Src: unmap(src), Dst: unmap(dst)}, n, nil
}

func addr1(ip, port []byte) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(string(ip))
	if err != nil || a.Zone() != "" || len(port) == 0 || len(port) > 5 || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, false
	}
	n := 0
	for _, c := range port {
		if c < '0' || c > '9' {
			return netip.AddrPort{}, false
		}
		n = n*10 + int(c-'0')
	}
	if n > 65535 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, uint16(n)), true
}

func parse2(b []byte) (Header, int, error) {
	if len(b) < lenV2 {
		return Header{}, 0, ErrShort
	}
	n := lenV2 + int(binary.BigEndian.Uint16(b[14:16]))
	if b[12]>>4 != 2 || n > maxV2 {
		return Header{}, 0, ErrMalformed
	}
	if len(b) < n {
		return Header{}, 0, ErrShort
	}
	var h Header
	switch b[12] & 0x0f {
	case 0: // LOCAL: what follows is to be skipped
		h.Local = true
		return h, n, nil
	case 1: // PROXY
	default:
		return Header{}, 0, ErrMalformed
	}
	switch b[13] & 0x0f {
	case 0: // UNSPEC
		h.Local = true
		return h, n, nil
	case 1: // STREAM
	case 2:
		h.Datagram = true
	default:
		return Header{}, 0, ErrMalformed
	}
	body := b[lenV2:n]
	switch b[13] >> 4 {
	case 1: // IPv4
		if len(body) < 12 {
			return Header{}, 0, ErrMalformed
		}
		h.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[0:4])), binary.BigEndian.Uint16(body[8:]))
		h.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[4:8])), binary.BigEndian.Uint16(body[10:]))
	case 2: // IPv6
		if len(body) < 36 {
			return Header{}, 0, ErrMalformed
		}
		h.Src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[0:16])), binary.BigEndian.Uint16(body[32:]))
		h.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[16:32])), binary.BigEndian.Uint16(body[34:]))
	default: // UNSPEC, UNIX: addresses that are no use to us
		h.Local = true
		return h, n, nil
	}
	h.Src, h.Dst = unmap(h.Src), unmap(h.Dst)
	return h, n, nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
