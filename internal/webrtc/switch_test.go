package webrtc

import (
	"bytes"
	"testing"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/stream"
)

// A viewer goes from one feed to another with a key frame of the latter; sequence
// numbers, timestamps and picture IDs go on, and what was before can be had again.
func TestShow(t *testing.T) {
	for _, c := range []struct {
		codec     stream.Codec
		packer    func() rtp.Packer
		payload   uint8
		pictureAt int
	}{{stream.VP8, func() rtp.Packer { return &rtp.VP8{} }, vp8, 2}, {stream.H264, func() rtp.Packer { return &rtp.H264{} }, 98, 0}} {
		tr := start(t, &Transport{})
		peer := newClient(t)
		connected := make(chan struct{})
		track := &stream.Track{ID: 1, Codec: c.codec, Config: []byte{1, 0x42, 0xe0, 31}}
		s, answer, err := tr.Send(peer.offer(videoLine(0, "a=recvonly\r\n")), []*stream.Track{track}, Handler{Connected: func() { close(connected) }})
		require.NoError(t, err)
		require.Equal(t, c.codec, s.Codec(stream.Video))
		require.Zero(t, s.Codec(stream.Audio))
		var a, b Feed
		for i, f := range []*Feed{&a, &b} {
			f.SetTrack(track, c.packer())
			f.tracks[0].next = int64(1000 * i)
			if v, ok := f.tracks[0].packer.(*rtp.VP8); ok {
				for range 40 * i { // it has been for some time
					v.Pack(nil, []byte{1}, false, 1000)
				}
			}
		}
		a.Add(s)
		peer.dial(answer)
		require.NoError(t, peer.connect())
		wait(t, connected)

		picture := func(mark byte) []byte { return append([]byte{0, 0, 7, 208, 0x41}, bytes.Repeat([]byte{mark}, 1999)...) }
		write := func(f *Feed, at time.Duration, key bool, mark byte) {
			f.Write(&stream.Frame{Track: track, PTS: at, DTS: at, Key: key, Data: picture(mark)}, time.Unix(1e9, 0).Add(at))
		}
		type packet struct {
			*pion.Packet
			mark byte
		}
		var all []packet
		reports := 0
		frame := func() (first packet) {
			for done := false; !done; {
				peer.next(func(p *pion.Packet, reported []rtcp.Packet) bool {
					reports += len(reported)
					if p == nil {
						return false
					}
					all = append(all, packet{p, p.Payload[len(p.Payload)-1]})
					done = p.Marker
					return true
				})
			}
			return all[len(all)-2]
		}
		const ms = time.Millisecond
		write(&a, 1000*ms, true, 1)
		write(&a, 1040*ms, false, 2)
		first, second := frame(), frame()
		require.EqualValues(t, 90_000, first.Timestamp)
		require.Same(t, &a, s.Shows(stream.Video))
		b.Show(s, stream.Video)
		write(&b, 1040*ms, false, 91) // no key frame
		write(&a, 1080*ms, false, 3)
		require.EqualValues(t, 3, frame().mark)
		require.Same(t, &a, s.Shows(stream.Video))
		write(&b, 1000*ms, true, 92) // later than what was sent
		write(&a, 1120*ms, false, 93)
		write(&b, 1040*ms, false, 94)
		third, fourth := frame(), frame()
		require.Equal(t, []byte{92, 94}, []byte{third.mark, fourth.mark})
		require.EqualValues(t, 97_200+3000, third.Timestamp, "it goes on from there")
		require.EqualValues(t, 3600, fourth.Timestamp-third.Timestamp)
		require.Same(t, &b, s.Shows(stream.Video))
		require.Empty(t, a.viewers[0])

		// Back, to what is ahead.
		a.Show(s, stream.Video)
		write(&a, 1400*ms, true, 4)
		write(&b, 1080*ms, false, 95)
		write(&a, 1440*ms, false, 5)
		fifth := frame()
		require.EqualValues(t, 1400*90, fifth.Timestamp, "the stream's own times")
		require.EqualValues(t, 5, frame().mark)
		require.Empty(t, b.viewers[0])
		for i, p := range all[1:] {
			require.Equal(t, all[i].SequenceNumber+1, p.SequenceNumber)
			require.Equal(t, all[0].SSRC, p.SSRC)
			if c.pictureAt > 0 {
				id := func(p packet) int { return int(p.Payload[c.pictureAt]&0x7f)<<8 | int(p.Payload[c.pictureAt+1]) }
				same := p.Timestamp == all[i].Timestamp
				require.Equal(t, !same, id(p) == id(all[i])+1)
				require.Equal(t, same, id(p) == id(all[i]))
			}
		}
		require.Equal(t, 3, reports, "each turn is told at once")

		// Packets of the run before, and of this one; those before that are gone.
		var again []uint16
		for _, p := range []packet{second, third, fourth, fifth} {
			again = append(again, p.SequenceNumber)
		}
		peer.sendRTCP(&rtcp.ReceiverReport{SSRC: 5}, &rtcp.TransportLayerNack{SenderSSRC: 5, MediaSSRC: all[0].SSRC, Nacks: rtcp.NackPairsFromSequenceNumbers(again)})
		for _, want := range []packet{third, fourth, fifth} {
			peer.next(func(p *pion.Packet, _ []rtcp.Packet) bool {
				if p == nil {
					return false
				}
				payload := p.Payload
				if c.codec == stream.VP8 {
					require.EqualValues(t, vp8RTX, p.PayloadType)
					require.Equal(t, []byte{byte(want.SequenceNumber >> 8), byte(want.SequenceNumber)}, payload[:2])
					payload = payload[2:]
				}
				require.Equal(t, want.Payload, payload)
				require.Equal(t, want.Timestamp, p.Timestamp)
				return true
			})
		}
	}
}

// A probe fills what is sent up to its rate, with what was sent, for its time.
func TestProbe(t *testing.T) {
	tr := start(t, &Transport{})
	peer := newClient(t)
	connected := make(chan struct{})
	track := &stream.Track{ID: 1, Codec: stream.VP8}
	s, answer, err := tr.Send(peer.offer(videoLine(0, "a=recvonly\r\n")), []*stream.Track{track}, Handler{Connected: func() { close(connected) }})
	require.NoError(t, err)
	var f Feed
	f.SetTrack(track, &rtp.VP8{})
	f.Add(s)
	peer.dial(answer)
	require.NoError(t, peer.connect())
	wait(t, connected)
	n := 0
	write := func() {
		at := time.Duration(n) * 40 * time.Millisecond
		f.Write(&stream.Frame{Track: track, PTS: at, DTS: at, Key: n == 0, Data: bytes.Repeat([]byte{0x10}, 1000)}, time.Now())
		n++
	}
	write()
	require.Zero(t, s.Stats().Probed)
	s.Probe(1_000_000, time.Hour)
	write() // from here on time counts
	require.Eventually(t, func() bool {
		time.Sleep(20 * time.Millisecond)
		write()
		return s.Stats().Probed > 3
	}, patience, time.Millisecond)
	peer.next(func(p *pion.Packet, _ []rtcp.Packet) bool { return p != nil && p.PayloadType == vp8RTX })
	st := s.Stats()
	require.Zero(t, st.Repeated)
	s.Probe(1_000_000, -1)
	write()
	write()
	require.Equal(t, st.Probed, s.Stats().Probed)
}
