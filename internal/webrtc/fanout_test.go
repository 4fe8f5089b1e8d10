package webrtc

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/srtp/v3"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/internal/udp"
	"github.com/runnel-media/runnel/stream"
)

// audience returns a feed with viewers that have their keys and are at a socket
// that nobody reads.
func audience(t testing.TB, viewers int, profile srtp.ProtectionProfile) (*Feed, *stream.Track) {
	t.Helper()
	sink, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	tr := &Transport{}
	p := newPort(tr)
	p.conn = udp.WrapOptions(pc, udp.Options{})
	t.Cleanup(func() { p.conn.Close(); sink.Close() })
	tr.ports = []*port{p}
	close(tr.isOpen())
	track := &stream.Track{ID: 1, Codec: stream.VP8}
	f := &Feed{}
	f.SetTrack(track, &rtp.VP8{})
	key, salt := make([]byte, 16), make([]byte, 14)
	if profile == srtp.ProtectionProfileAeadAes128Gcm {
		salt = salt[:12]
	}
	for range viewers {
		o, err := ParseOffer([]byte(offerOf(videoLine(0, "a=recvonly\r\n"))))
		require.NoError(t, err)
		s, _, err := tr.Send(o, []*stream.Track{track}, Handler{})
		require.NoError(t, err)
		require.NoError(t, s.secure(&srtp.Config{Profile: profile, Keys: srtp.SessionKeys{
			LocalMasterKey: key, LocalMasterSalt: salt, RemoteMasterKey: key, RemoteMasterSalt: salt,
		}}))
		s.path.Store(&path{port: p, addr: netip.MustParseAddrPort(sink.LocalAddr().String())})
		f.Add(s)
	}
	return f, track
}

// A viewer more costs no allocation for a packet, whether or not its picture IDs are
// rewritten.
func TestFanOutAllocatesNothing(t *testing.T) {
	run := func(viewers int, switched bool) float64 {
		f, track := audience(t, viewers, srtp.ProtectionProfileAeadAes128Gcm)
		frame := &stream.Frame{Track: track, Key: true, Data: bytes.Repeat([]byte{0x10}, 5000)}
		wall := time.Unix(1e9, 0) // no time passes: no sender reports
		if switched {
			other := &Feed{}
			other.SetTrack(track, &rtp.VP8{})
			for _, s := range f.viewers[0] {
				other.Show(s, stream.Video)
			}
			other.Write(frame, wall)
			for _, s := range other.viewers[0] {
				f.Show(s, stream.Video)
			}
		}
		for range 5 { // and each has its scratch
			frame.PTS += time.Second / 30
			f.Write(frame, wall)
		}
		require.Len(t, f.viewers[0], viewers)
		return testing.AllocsPerRun(50, func() {
			frame.PTS += time.Second / 30
			f.Write(frame, wall)
		})
	}
	for _, switched := range []bool{false, true} {
		require.InDelta(t, run(1, switched), run(40, switched), 1)
	}
}

func BenchmarkFanOut(b *testing.B) {
	for _, profile := range []srtp.ProtectionProfile{srtp.ProtectionProfileAeadAes128Gcm, srtp.ProtectionProfileAes128CmHmacSha1_80} {
		b.Run(fmt.Sprint(profile), func(b *testing.B) {
			f, track := audience(b, 50, profile)
			frame := &stream.Frame{Track: track, Key: true, Data: bytes.Repeat([]byte{0x10}, 5000)}
			packets := 0
			for b.Loop() {
				frame.PTS += time.Second / 30
				f.Write(frame, time.Unix(1e9, 0).Add(frame.PTS))
				packets += 5 * 50
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
		})
	}
}
