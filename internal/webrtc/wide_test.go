package webrtc

import (
	"bytes"
	"testing"
	"time"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/stream"
)

// A viewer that offers it is told how long to wait and numbers what it got, of
// which the path's bandwidth is estimated; one that does not has plain headers.
func TestExtensions(t *testing.T) {
	tr := start(t, &Transport{Estimate: true, Playout: &Playout{Min: 100 * time.Millisecond, Max: time.Hour}})
	video := &stream.Track{ID: 1, Codec: stream.VP8}
	var f Feed
	f.SetTrack(video, &rtp.VP8{})
	view := func(more string) (*client, *Session, string) {
		c := newClient(t)
		connected := make(chan struct{})
		s, answer, err := tr.Send(c.offer(videoLine(0, "a=recvonly\r\n"+more)), []*stream.Track{video}, Handler{Connected: func() { close(connected) }})
		require.NoError(t, err)
		f.Add(s)
		c.dial(answer)
		require.NoError(t, c.connect())
		wait(t, connected)
		return c, s, string(answer)
	}
	with, s, answer := view("a=extmap:3 " + uriTransportCC + "\r\na=extmap:9 " + uriPlayout + "\r\na=rtcp-fb:96 transport-cc\r\n")
	require.Contains(t, answer, "a=extmap:3 "+uriTransportCC+"\r\n")
	require.Contains(t, answer, "a=extmap:9 "+uriPlayout+"\r\n")
	require.Contains(t, answer, "a=rtcp-fb:96 transport-cc\r\n")
	without, _, answer := view("a=extmap:3 " + uriTransportCC + "\r\n")
	require.NotContains(t, answer, "a=extmap:3")

	recorder := twcc.NewRecorder(1)
	at := int64(0)
	next := uint16(0)
	for n := range 100 {
		f.Write(&stream.Frame{Track: video, Key: n == 0, PTS: time.Duration(n) * time.Second / 30, Data: bytes.Repeat([]byte{0x10}, 3000)}, time.Now())
		for range 3 {
			with.next(func(p *pion.Packet, _ []rtcp.Packet) bool {
				if p == nil {
					return false
				}
				require.Equal(t, []byte{0, 0xaf, 0xff}, p.GetExtension(9))
				require.Equal(t, []byte{byte(next >> 8), byte(next)}, p.GetExtension(3))
				require.LessOrEqual(t, p.MarshalSize(), 1200-16)
				return true
			})
			recorder.Record(1, next, at)
			next++
			at += 10_000
			without.next(func(p *pion.Packet, _ []rtcp.Packet) bool {
				require.True(t, p == nil || !p.Extension)
				return p != nil
			})
		}
		with.sendRTCP(append([]rtcp.Packet{&rtcp.ReceiverReport{}}, recorder.BuildFeedbackPacket()...)...)
	}
	// 100 packets a second of some 1050 bytes came.
	require.Eventually(t, func() bool { return s.Stats().Bandwidth > 500_000 }, patience, time.Millisecond)
	require.Less(t, s.Stats().Bandwidth, int64(2_500_000))
}
