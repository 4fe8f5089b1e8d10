package webrtc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
)

// offerOf returns an offer as browsers write them.
func offerOf(media ...string) string {
	s := "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE"
	for i := range media {
		s += fmt.Sprint(" ", i)
	}
	return s + "\r\n" + strings.Join(media, "")
}

const shared = "c=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n" +
	"a=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=rtcp-mux\r\n"

func videoLine(mid int, more string) string {
	return fmt.Sprintf("m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 100 101\r\n"+shared+"a=mid:%d\r\n"+
		"a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"+
		"a=rtpmap:98 H264/90000\r\na=fmtp:98 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"+
		"a=rtpmap:99 H264/90000\r\na=fmtp:99 packetization-mode=0;profile-level-id=42e01f\r\n"+
		"a=rtpmap:100 H264/90000\r\na=fmtp:100 packetization-mode=1;profile-level-id=64001f\r\n"+
		"a=rtpmap:101 AV1/90000\r\na=extmap:4/recvonly urn:ietf:params:rtp-hdrext:sdes:mid\r\n%s", mid, more)
}

func audioLine(mid int, more string) string {
	return fmt.Sprintf("m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8\r\n"+shared+"a=mid:%d\r\n"+
		"a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n%s", mid, more)
}

func TestParseOffer(t *testing.T) {
	o, err := ParseOffer([]byte(offerOf(videoLine(0, "a=sendonly\r\na=rid:a send\r\na=rid:b send\r\na=simulcast:send a;b\r\n"), audioLine(1, "a=recvonly\r\n"))))
	require.NoError(t, err)
	require.Equal(t, "abcd", o.Ufrag)
	require.Equal(t, Fingerprint{"sha-256", "AA:BB"}, o.Fingerprint)
	v, a := o.Media[0], o.Media[1]
	require.Equal(t, []stream.Kind{stream.Video, stream.Audio}, []stream.Kind{v.Kind, a.Kind})
	require.Equal(t, []bool{true, false, false, true}, []bool{v.Send, v.Recv, a.Send, a.Recv})
	require.Equal(t, []string{"a", "b"}, v.RIDs)
	require.EqualValues(t, 4, v.Extensions[uriMID])
	require.EqualValues(t, 97, v.RTX(&v.Formats[0]))
	require.Zero(t, v.RTX(&v.Formats[2]))
	require.Equal(t, []string{"nack pli"}, v.Formats[0].Feedback)
	var codecs []stream.Codec
	for _, f := range append(v.Formats, a.Formats...) {
		codecs = append(codecs, f.Codec())
	}
	require.Equal(t, []stream.Codec{stream.VP8, 0, stream.H264, 0, stream.H264, stream.AV1, stream.Opus, stream.PCMU, stream.PCMA}, codecs)
	require.EqualValues(t, 2, a.Formats[0].Channels)
	require.EqualValues(t, 100, chooseReceived(&v, false).Payload, "the highest profile of what most outputs carry")
	require.EqualValues(t, 96, chooseReceived(&v, true).Payload)
	high := &stream.Track{ID: 1, Codec: stream.H264, Config: []byte{1, 0x64, 0, 31}}
	require.EqualValues(t, 100, chooseSent(&v, high).Payload)
	base := &stream.Track{ID: 1, Codec: stream.H264, Config: []byte{1, 0x42, 0xe0, 31}}
	require.EqualValues(t, 98, chooseSent(&v, base).Payload)
	require.Nil(t, chooseSent(&v, &stream.Track{ID: 1, Codec: stream.H265}))
}

func TestParseOfferRefuses(t *testing.T) {
	good := offerOf(videoLine(0, ""), audioLine(1, ""))
	_, err := ParseOffer([]byte(good))
	require.NoError(t, err)
	for name, bad := range map[string]string{
		"nothing":        "",
		"not SDP":        "hello",
		"no media":       offerOf(),
		"too long":       good + strings.Repeat("a=x\r\n", MaxSDP/5),
		"many media":     offerOf(strings.Split(strings.Repeat(audioLine(0, "")+"|", maxMedia+1), "|")...),
		"twice one mid":  offerOf(videoLine(0, ""), audioLine(0, "")),
		"no BUNDLE":      strings.Replace(good, "a=group:BUNDLE 0 1\r\n", "", 1),
		"no ufrag":       strings.ReplaceAll(good, "a=ice-ufrag:abcd\r\n", ""),
		"short password": strings.ReplaceAll(good, "0123456789012345678901", "short"),
		"no fingerprint": strings.ReplaceAll(good, "a=fingerprint:sha-256 AA:BB\r\n", ""),
		"weak digest":    strings.ReplaceAll(good, "sha-256", "md5"),
		"holdconn":       strings.ReplaceAll(good, "actpass", "holdconn"),
		"no rtcp-mux":    strings.ReplaceAll(good, "a=rtcp-mux\r\n", ""),
		"long m-line":    offerOf(videoLine(0, strings.Repeat("a=x\r\n", maxLines))),
	} {
		_, err := ParseOffer([]byte(bad))
		require.ErrorIs(t, err, ErrOffer, name)
	}
}

func FuzzOffer(f *testing.F) {
	f.Add([]byte(offerOf(videoLine(0, "a=sendonly\r\na=rid:a send\r\na=simulcast:send a\r\n"), audioLine(1, ""))))
	f.Add([]byte(offerOf(audioLine(0, "a=extmap:1 x\r\na=fmtp:111 a;=;b=\r\n"))))
	f.Add([]byte(offerOf("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n" + shared + "a=mid:0\r\n")))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseOffer(b)
		if err != nil {
			return
		}
		tr := &Transport{}
		s := &Session{transport: tr, bundle: len(o.bundle) > 0}
		for i := range o.Media {
			l := &line{media: &o.Media[i], receive: true, format: chooseReceived(&o.Media[i], i%2 == 0)}
			if l.format != nil {
				l.rtx = l.media.RTX(l.format)
			}
			s.lines = append(s.lines, l)
		}
		a := answer{session: s, credentials: &credentials{ours: "ours", password: "secret"}, fingerprint: Fingerprint{"sha-256", "CC"}}
		text := a.text()
		for l := range strings.Lines(string(text)) {
			if len(l) < 4 || l[1] != '=' || !strings.HasSuffix(l, "\r\n") || strings.Count(l, "\r") != 1 {
				t.Fatalf("line %q of the answer", l)
			}
		}
		s.trim()
		_ = a.fragment()
	})
}
