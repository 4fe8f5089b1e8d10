package webrtc

import (
	"bytes"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/stream"
)

// got is what a session told its handler.
type got struct {
	track *Incoming
	frame Frame
}

// publishing returns a client that sends, connected, and what the session tells.
func publishing(t *testing.T, tr *Transport, profiles ...dtls.SRTPProtectionProfile) (*client, *Session, chan got, chan error) {
	t.Helper()
	c := newClient(t)
	frames, ended := make(chan got, 1000), make(chan error, 1)
	connected := make(chan struct{})
	s, answer, err := tr.Receive(c.offer(videoLine(0, "a=sendonly\r\n"), audioLine(1, "a=sendonly\r\n")), true, Handler{
		Connected: func() { close(connected) },
		Frame:     func(i *Incoming, f Frame) { frames <- got{i, f} },
		Ended:     func(err error) { ended <- err },
	})
	require.NoError(t, err)
	c.dial(answer)
	require.NoError(t, c.connect(profiles...))
	select {
	case <-connected:
	case <-time.After(patience):
		t.Fatal("not connected")
	}
	return c, s, frames, ended
}

func wait[T any](t *testing.T, c chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

const vp8, vp8RTX, opusPT = 96, 97, 111

func TestReceive(t *testing.T) {
	for _, profile := range []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80} {
		tr := start(t, &Transport{})
		c, s, frames, ended := publishing(t, tr, profile)
		c.send(opusPT, 2, 65535, 960, true, []byte{1, 2, 3})
		g := wait(t, frames)
		require.Equal(t, stream.Opus, g.track.Codec)
		require.Equal(t, []byte{1, 2, 3}, g.frame.Data)
		require.True(t, g.frame.Wall.IsZero())

		// Three packets of a picture, of which the second comes by RTX when it
		// is asked for.
		picture := bytes.Repeat([]byte{0x10, 7}, 1000)
		payloads := (&rtp.VP8{}).Pack(nil, picture, true, 800)
		require.Len(t, payloads, 3)
		c.send(vp8, 1, 10, 90_000, false, payloads[0])
		c.send(vp8, 1, 12, 90_000, true, payloads[2])
		c.next(func(_ *pion.Packet, packets []rtcp.Packet) bool {
			for _, p := range packets {
				if n, ok := p.(*rtcp.TransportLayerNack); ok {
					require.EqualValues(t, 1, n.MediaSSRC)
					require.Equal(t, []uint16{11}, n.Nacks[0].PacketList())
					return true
				}
			}
			return false
		})
		c.send(vp8RTX, 99, 500, 90_000, false, append([]byte{0, 11}, payloads[1]...))
		g = wait(t, frames)
		require.Equal(t, picture, g.frame.Data)
		require.True(t, g.frame.Key)
		require.False(t, g.frame.Lost)

		// The sender's report says when that was.
		captured := time.Unix(1_700_000_000, 0)
		c.sendRTCP(&rtcp.SenderReport{SSRC: 1, NTPTime: toNTP(captured), RTPTime: 90_000})
		c.send(vp8, 1, 13, 93_000, true, (&rtp.VP8{}).Pack(nil, []byte{0x11, 8}, false, 800)[0])
		g = wait(t, frames)
		require.InDelta(t, 1e9/30, g.frame.Wall.Sub(captured), 1000)
		c.next(func(_ *pion.Packet, packets []rtcp.Packet) bool {
			for _, p := range packets {
				if r, ok := p.(*rtcp.ReceiverReport); ok && len(r.Reports) == 2 {
					return true
				}
			}
			return false
		})

		s.RequestKey()
		c.next(func(_ *pion.Packet, packets []rtcp.Packet) bool {
			for _, p := range packets {
				if r, ok := p.(*rtcp.PictureLossIndication); ok {
					return r.MediaSSRC == 1
				}
			}
			return false
		})
		require.NoError(t, c.dtls.Close())
		require.ErrorIs(t, wait(t, ended), ErrHungUp)
		require.Zero(t, tr.Sessions())
	}
}

// Nothing that is forged, repeated or malformed has an effect.
func TestForged(t *testing.T) {
	tr := start(t, &Transport{})
	c := newClient(t)
	_, answer, err := tr.Receive(c.offer(audioLine(0, "")), false, Handler{})
	require.NoError(t, err)
	c.dial(answer)
	for name, m := range map[string]*stunwire.Message{
		"no integrity":   c.check(nil, c.ufrag+":"+theirUfrag, 50*time.Millisecond),
		"wrong password": c.check(stunwire.NewKey([]byte("guess")), c.ufrag+":"+theirUfrag, 50*time.Millisecond),
		"wrong ufrag":    c.check(c.key, "nobody:"+theirUfrag, 50*time.Millisecond),
		"their ufrag":    c.check(c.key, c.ufrag+":wrong", 50*time.Millisecond),
		"no colon":       c.check(c.key, c.ufrag, 50*time.Millisecond),
	} {
		require.Nil(t, m, name)
	}
	// DTLS of an address that has not proved itself.
	for range 100 {
		_, err := c.conn.Write(append([]byte{22, 254, 253}, make([]byte, 100)...))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return tr.Dropped() >= 105 }, patience, time.Millisecond)
	m := c.check(c.key, c.ufrag+":"+theirUfrag, patience, stunwire.AttrICEControlled)
	require.NotNil(t, m)
	require.Equal(t, stunwire.Error, m.Type.Class(), "487: both are controlled")

	c, _, frames, _ := publishing(t, tr)
	first := c.send(opusPT, 2, 7, 960, true, []byte{1})
	wait(t, frames)
	before := tr.Dropped()
	write := func(b []byte) {
		_, err := c.conn.Write(b)
		require.NoError(t, err)
	}
	write(first) // replayed
	bad := bytes.Clone(first)
	bad[len(bad)-1]++
	bad[3]++
	write(bad)
	for n := range len(first) {
		write(first[:n+1])
	}
	write(append([]byte{0x80, 200, 0, 1}, make([]byte, 40)...)) // RTCP that is not encrypted
	require.Eventually(t, func() bool { return tr.Dropped() >= before+uint64(len(first)) }, patience, time.Millisecond)
	c.send(opusPT, 2, 8, 1920, true, []byte{2})
	require.Equal(t, []byte{2}, wait(t, frames).frame.Data)
	require.Empty(t, frames)
}

// ICE restarts under new credentials, from another address, and media goes on.
func TestRestart(t *testing.T) {
	tr := start(t, &Transport{})
	c, s, frames, _ := publishing(t, tr)
	tag := s.ETag()
	_, err := s.Restart("abc", theirPassword)
	require.ErrorIs(t, err, ErrOffer)
	fragment, err := s.Restart("restarted", theirPassword)
	require.NoError(t, err)
	require.NotEqual(t, tag, s.ETag())
	require.Contains(t, string(fragment), "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n")
	require.Contains(t, string(fragment), "a=candidate:")
	old, ufrag := c.key, c.ufrag
	require.NotNil(t, c.check(old, ufrag+":"+theirUfrag, patience), "what was still goes")
	c.send(opusPT, 2, 7, 960, true, []byte{1})
	wait(t, frames)

	c.dial(fragment) // another socket, another address
	require.NotEqual(t, ufrag, c.ufrag)
	require.Nil(t, c.check(c.key, c.ufrag+":"+theirUfrag, 50*time.Millisecond), "their old name")
	require.Nil(t, c.check(old, c.ufrag+":restarted", 50*time.Millisecond), "our old password")
	require.NotNil(t, c.check(c.key, c.ufrag+":restarted", patience, stunwire.AttrUseCandidate))
	require.Equal(t, c.conn.LocalAddr().String(), s.RemoteAddr().String())
	c.send(opusPT, 2, 8, 1920, true, []byte{2})
	require.Equal(t, []byte{2}, wait(t, frames).frame.Data)

	_, err = s.Restart("again", theirPassword)
	require.NoError(t, err)
	require.Nil(t, c.check(old, ufrag+":"+theirUfrag, 50*time.Millisecond), "two generations are kept")
	require.Equal(t, 1, tr.Sessions())
	s.Close()
	require.Empty(t, tr.sessions)
	_, err = s.Restart("late", theirPassword)
	require.ErrorIs(t, err, ErrClosed)
}

// A peer that shows another certificate than its offer's is not taken.
func TestFingerprint(t *testing.T) {
	tr := start(t, &Transport{})
	c := newClient(t)
	ended := make(chan error, 1)
	_, answer, err := tr.Receive(c.offer(audioLine(0, "")), false, Handler{
		Connected: func() { t.Error("connected") }, Ended: func(err error) { ended <- err },
	})
	require.NoError(t, err)
	c.certificate, err = newCertificate()
	require.NoError(t, err)
	c.dial(answer)
	_ = c.connect()
	require.ErrorIs(t, wait(t, ended), errFingerprint)
}

func TestSilence(t *testing.T) {
	tr := start(t, &Transport{Setup: 300 * time.Millisecond, Timeout: 300 * time.Millisecond, MaxSessions: 2})
	c := newClient(t)
	never := make(chan error, 1)
	_, _, err := tr.Receive(c.offer(audioLine(0, "")), false, Handler{Ended: func(err error) { never <- err }})
	require.NoError(t, err)
	require.ErrorIs(t, wait(t, never), ErrNoPath)

	tr = start(t, &Transport{Timeout: 300 * time.Millisecond, MaxSessions: 1})
	_, _, _, ended := publishing(t, tr)
	_, _, err = tr.Receive(c.offer(audioLine(0, "")), false, Handler{})
	require.ErrorIs(t, err, ErrTooMany)
	require.ErrorIs(t, wait(t, ended), ErrGone)
}

// What a viewer gets is what was written, it can have it again, and its reports
// are understood.
func TestSend(t *testing.T) {
	tr := start(t, &Transport{})
	c := newClient(t)
	connected, asked := make(chan struct{}), make(chan struct{}, 10)
	video := &stream.Track{ID: 1, Codec: stream.VP8}
	audio := &stream.Track{ID: 2, Codec: stream.Opus, Rate: 48000, Channels: 2}
	s, answer, err := tr.Send(c.offer(videoLine(0, "a=recvonly\r\n"), audioLine(1, "a=recvonly\r\n")), []*stream.Track{audio, video},
		Handler{Connected: func() { close(connected) }, KeyNeeded: func() { asked <- struct{}{} }})
	require.NoError(t, err)
	require.True(t, s.Sends(stream.Video))
	var f Feed
	f.SetTrack(video, &rtp.VP8{})
	f.SetTrack(audio, &rtp.Audio{})
	f.Add(s)
	c.dial(answer)
	require.NoError(t, c.connect())
	wait(t, connected)

	wall := time.Unix(1_700_000_000, 0)
	write := func(t *stream.Track, at time.Duration, key bool, data []byte) {
		f.Write(&stream.Frame{Track: t, PTS: at, DTS: at, Key: key, Data: data}, wall.Add(at))
	}
	write(video, 0, false, []byte{0x11}) // not before a key frame
	picture := bytes.Repeat([]byte{0x10, 9}, 5000)
	write(video, time.Second, true, picture)
	write(audio, time.Second, true, []byte{5, 6})
	var unpack rtp.VP8
	var first, last uint16
	n, reported := 0, 0
	var stamp uint32
	c.next(func(p *pion.Packet, packets []rtcp.Packet) bool {
		for _, r := range packets {
			sr := r.(*rtcp.SenderReport)
			require.InDelta(t, 1e9, fromNTP(sr.NTPTime).Sub(wall), 1000)
			reported++
		}
		switch {
		case p == nil:
		case p.PayloadType == opusPT:
			require.Equal(t, []byte{5, 6}, p.Payload)
			return reported > 0
		default:
			if n == 0 {
				first, stamp = p.SequenceNumber, p.Timestamp
			}
			require.Equal(t, first+uint16(n), p.SequenceNumber)
			require.Equal(t, stamp, p.Timestamp)
			require.True(t, unpack.Push(p.Payload))
			last = p.SequenceNumber
			n++
			require.Equal(t, n == 9, p.Marker)
		}
		return false
	})
	back, key, ok := unpack.Pull()
	require.True(t, ok && key)
	require.Equal(t, picture, back)
	require.EqualValues(t, 90_000, stamp)

	out := &s.outgoing.tracks[stream.Video-1]
	c.sendRTCP(&rtcp.ReceiverReport{SSRC: 5, Reports: []rtcp.ReceptionReport{{SSRC: out.ssrc, FractionLost: 64, Jitter: 90}}},
		&rtcp.TransportLayerNack{SenderSSRC: 5, MediaSSRC: out.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers([]uint16{last, first - 1, first - 5000})},
		&rtcp.PictureLossIndication{MediaSSRC: out.ssrc})
	wait(t, asked)
	c.next(func(p *pion.Packet, _ []rtcp.Packet) bool {
		if p == nil || p.PayloadType != vp8RTX {
			return false
		}
		require.Equal(t, []byte{byte(last >> 8), byte(last)}, p.Payload[:2])
		require.True(t, bytes.HasSuffix(picture, p.Payload[6:]))
		require.Equal(t, stamp, p.Timestamp)
		return true
	})
	st := s.Stats()
	require.EqualValues(t, 1, st.Repeated)
	require.EqualValues(t, 3, st.Asked)
	require.EqualValues(t, 0.25, st.FractionLost)
	require.Equal(t, time.Millisecond, st.Jitter)
	require.EqualValues(t, 10, st.Packets)
	f.End()
	require.ErrorIs(t, s.Err(), ErrHungUp)
}

func TestIndex(t *testing.T) {
	o := outgoing{base: 65_000, next: 66_000}
	for sequence, want := range map[uint16]uint64{65_000: 65_000, 65_535: 65_535, 0: 65_536, 463: 65_999} {
		index, ok := o.index(sequence)
		require.True(t, ok, sequence)
		require.Equal(t, want, index)
	}
	for _, sequence := range []uint16{464, 64_999, 30_000} {
		_, ok := o.index(sequence)
		require.False(t, ok, sequence)
	}
	_, ok := (&outgoing{base: 100, next: 100}).index(5000)
	require.False(t, ok)
}
