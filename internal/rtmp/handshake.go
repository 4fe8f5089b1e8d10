package rtmp

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
)

// The handshake (RTMP 1.0, section 5.2): both sides send a version byte (C0,
// S0), 1536 bytes of their own (C1, S1) and 1536 bytes that answer the peer's
// (C2, S2). In the simple form the answer is an echo. In the complex form,
// which Flash Player 9 brought and some peers insist on before they touch
// H.264, C1 and S1 hide an HMAC-SHA256 digest of themselves, at a place that
// four of their bytes tell, and the answer is signed with the peer's digest.

const (
	version       = 3
	handshakeSize = 1536
	digestSize    = sha256.Size
)

// Where the digest's offset is told, and where offset 0 is: half of C1 is for
// the digest, the other for a key that only RTMPE needs, and which comes first
// is the scheme.
var digestBase = [2]int{772, 8}

// The keys are public knowledge: a text, and 32 bytes for signing answers.
var keyTail = []byte{
	0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57,
	0x6e, 0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
}

const (
	clientText = "Genuine Adobe Flash Player 001"
	serverText = "Genuine Adobe Flash Media Server 001"
)

// serverHandshake answers a client's handshake. The caller sets the deadline,
// and nothing is read past the handshake's end.
func serverHandshake(rw io.ReadWriter) error {
	c := make([]byte, 1+handshakeSize)
	if _, err := io.ReadFull(rw, c); err != nil {
		return err
	}
	if c[0] != version {
		return errVersion
	}
	c1 := c[1:]
	s := make([]byte, 1+2*handshakeSize)
	s[0] = version
	s1, s2 := s[1:1+handshakeSize], s[1+handshakeSize:]
	fillRandom(s1[8:])
	if scheme, at, ok := findDigest(c1, clientText); ok {
		copy(s1[4:], []byte{4, 5, 0, 1}) // a Flash Media Server that knows schemes
		putDigest(s1, scheme, serverText)
		fillRandom(s2)
		signAnswer(s2, c1[at:at+digestSize], serverText)
	} else {
		copy(s2, c1)
	}
	if _, err := rw.Write(s); err != nil {
		return err
	}
	_, err := io.ReadFull(rw, c[:handshakeSize]) // C2; there is nothing to learn from it
	return err
}

// clientHandshake does the client's part, in the simple form if the caller
// asks for it. Servers that know the simple form only are understood in
// either case.
func clientHandshake(rw io.ReadWriter, simple bool) error {
	c := make([]byte, 1+handshakeSize)
	c[0] = version
	c1 := c[1:]
	fillRandom(c1[8:])
	if !simple {
		copy(c1[4:], []byte{9, 0, 124, 2}) // a Flash Player that knows schemes
		putDigest(c1, 1, clientText)
	}
	if _, err := rw.Write(c); err != nil {
		return err
	}
	s := make([]byte, 1+2*handshakeSize)
	if _, err := io.ReadFull(rw, s); err != nil {
		return err
	}
	if s[0] != version {
		return errVersion
	}
	s1 := s[1 : 1+handshakeSize]
	if !simple {
		if _, at, ok := findDigest(s1, serverText); ok {
			c2 := c1
			fillRandom(c2)
			signAnswer(c2, s1[at:at+digestSize], clientText)
			_, err := rw.Write(c2)
			return err
		}
	}
	_, err := rw.Write(s1)
	return err
}

func fillRandom(b []byte) {
	_, _ = rand.Read(b) // never fails (crypto/rand)
}

// digestAt returns where the digest of that scheme lies in p.
func digestAt(p []byte, scheme int) int {
	base := digestBase[scheme]
	sum := int(p[base]) + int(p[base+1]) + int(p[base+2]) + int(p[base+3])
	return base + 4 + sum%(handshakeSize/2-4-4-digestSize)
}

// digest returns the HMAC of p without the 32 bytes at at.
func digest(p []byte, at int, key []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(p[:at])
	h.Write(p[at+digestSize:])
	return h.Sum(nil)
}

// findDigest looks for the digest of a C1 or S1 in both schemes.
func findDigest(p []byte, text string) (scheme, at int, ok bool) {
	if binary.BigEndian.Uint32(p[4:]) == 0 {
		return 0, 0, false // the version of those who only know the simple form
	}
	for scheme := range digestBase {
		at := digestAt(p, scheme)
		if bytes.Equal(p[at:at+digestSize], digest(p, at, []byte(text))) {
			return scheme, at, true
		}
	}
	return 0, 0, false
}

// putDigest completes a C1 or S1 by its digest.
func putDigest(p []byte, scheme int, text string) {
	at := digestAt(p, scheme)
	copy(p[at:], digest(p, at, []byte(text)))
}

// signAnswer completes a C2 or S2: its last 32 bytes sign the rest with a key
// that comes from the peer's digest.
func signAnswer(p, peerDigest []byte, text string) {
	h := hmac.New(sha256.New, append([]byte(text), keyTail...))
	h.Write(peerDigest)
	at := len(p) - digestSize
	copy(p[at:], digest(p, at, h.Sum(nil)))
}
