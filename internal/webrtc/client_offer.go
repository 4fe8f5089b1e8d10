package webrtc

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/udp"
	"github.com/runnel-media/runnel/stream"
)

// An offer is what a Client says of itself.
type offer struct {
	media           []Medium
	ufrag, password string
	fingerprint     Fingerprint
	candidates      []string
	ssrcs           []uint32

	b strings.Builder
}

// ssrc returns the SSRC of a medium that is sent; the next one is that of its
// retransmissions.
func (o *offer) ssrc(i int) uint32 {
	for len(o.ssrcs) <= i {
		o.ssrcs = append(o.ssrcs, rand.Uint32()>>2<<1+2)
	}
	return o.ssrcs[i]
}

func (o *offer) line(format string, args ...any) { fmt.Fprintf(&o.b, format+"\r\n", args...) }

func (o *offer) text() []byte {
	o.line("v=0")
	o.line("o=- %d 1 IN IP4 0.0.0.0", time.Now().UnixNano()>>10)
	o.line("s=-")
	o.line("t=0 0")
	bundle := "a=group:BUNDLE"
	for i := range o.media {
		bundle += fmt.Sprintf(" %d", i)
	}
	o.line("%s", bundle)
	for i, m := range o.media {
		o.medium(i, m)
	}
	return []byte(o.b.String())
}

// offered are the forms of a codec, as rtpmap and fmtp.
func offered(c stream.Codec) (rtpmap string, fmtp []string) {
	switch c {
	case stream.H264:
		const all = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id="
		return "H264/90000", []string{all + "64002a", all + "4d002a", all + "42e02a"}
	case stream.H265:
		return "H265/90000", []string{""}
	case stream.VP8:
		return "VP8/90000", []string{""}
	case stream.VP9:
		return "VP9/90000", []string{"profile-id=0", "profile-id=2"}
	case stream.AV1:
		return "AV1/90000", []string{""}
	case stream.Opus:
		return "opus/48000/2", []string{"minptime=10;useinbandfec=1;stereo=1"}
	case stream.PCMU:
		return "PCMU/8000", []string{""}
	case stream.PCMA:
		return "PCMA/8000", []string{""}
	}
	return "", nil
}

func (o *offer) medium(i int, m Medium) {
	type format struct {
		payload      int
		rtpmap, fmtp string
	}
	var formats []format
	payloads := ""
	next := 96 + 16*i // of each medium its own
	for _, c := range m.Codecs {
		rtpmap, fmtps := offered(c)
		for _, fmtp := range fmtps {
			formats = append(formats, format{next, rtpmap, fmtp})
			payloads += fmt.Sprintf(" %d", next)
			next++
			if m.Kind == stream.Video {
				formats = append(formats, format{next, "rtx/90000", fmt.Sprintf("apt=%d", next-1)})
				payloads += fmt.Sprintf(" %d", next)
				next++
			}
		}
	}
	o.line("m=%s 9 UDP/TLS/RTP/SAVPF%s", m.Kind, payloads)
	o.line("c=IN IP4 0.0.0.0")
	o.line("a=mid:%d", i)
	o.line("a=ice-ufrag:%s", o.ufrag)
	o.line("a=ice-pwd:%s", o.password)
	o.line("a=fingerprint:%s %s", o.fingerprint.Algorithm, o.fingerprint.Digest)
	o.line("a=setup:actpass")
	o.line("a=rtcp-mux")
	o.line("a=rtcp-rsize")
	if m.Send {
		o.line("a=sendonly")
	} else {
		o.line("a=recvonly")
		o.line("a=extmap:1 %s", uriMID)
	}
	for _, f := range formats {
		o.line("a=rtpmap:%d %s", f.payload, f.rtpmap)
		if f.fmtp != "" {
			o.line("a=fmtp:%d %s", f.payload, f.fmtp)
		}
		if m.Kind == stream.Video && !strings.HasPrefix(f.rtpmap, "rtx") {
			o.line("a=rtcp-fb:%d nack", f.payload)
			o.line("a=rtcp-fb:%d nack pli", f.payload)
		}
	}
	if m.Send {
		o.line("a=msid:runnel %s", m.Kind)
		if m.Kind == stream.Video {
			o.line("a=ssrc-group:FID %d %d", o.ssrc(i), o.ssrc(i)+1)
			o.line("a=ssrc:%d cname:runnel", o.ssrc(i)+1)
		}
		o.line("a=ssrc:%d cname:runnel", o.ssrc(i))
	}
	if i == 0 {
		for _, c := range o.candidates {
			o.line("a=candidate:%s", c)
		}
		o.line("a=end-of-candidates")
	}
}

// An iceConn is the net.PacketConn of what ICE has found, with one peer.
type iceConn struct{ net.Conn }

func wrapConn(c net.Conn) *udp.Conn { return udp.WrapOptions(iceConn{c}, udp.Options{}) }

// ReadFrom reads a datagram of the peer.
func (c iceConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, net.UDPAddrFromAddrPort(iceAddr), err
}

// WriteTo sends a datagram to the peer.
func (c iceConn) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

// LocalAddr is not known: it may change.
func (c iceConn) LocalAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4zero} }
