package webrtc

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/stream"
)

// Frames that are encrypted from end to end go from a publisher to viewers as they
// are, where the codec's payload format says all that is to be known: all of Opus
// and VP9, and VP8 but for the bit that says what is a key frame, which senders
// leave in the clear.
func TestOpaqueFrames(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		codec  stream.Codec
		packer rtp.Packer
		id     uint8
	}{
		{stream.VP8, &rtp.VP8{}, 1}, {stream.VP9, &rtp.VP9{}, 1}, {stream.Opus, &rtp.Audio{}, 2},
	} {
		hub := &stream.Hub{}
		pub, err := hub.Publish(t.Context(), "live/a", nil)
		require.NoError(t, err)
		sub, err := hub.Subscribe(t.Context(), "live/a", nil)
		require.NoError(t, err)
		a := &Assembler{Publisher: pub}
		in := &Incoming{Codec: c.codec, Format: &Format{Clock: clockRate(c.codec)}}
		in.frames = rtp.Frames{Unpacker: unpacker(c.codec), Whole: c.codec == stream.Opus}
		out := &Cutter{}
		viewer := &Session{}
		viewer.outgoing.tracks[c.codec.Kind()-1].line = &line{}
		out.Show(viewer, c.codec.Kind()) // it has no keys: the feed cuts for it all the same
		played := rtp.Frames{Unpacker: unpacker(c.codec), Whole: c.codec == stream.Opus}
		sequence, next := uint16(0), int64(0)
		for n := range 20 {
			key := c.codec == stream.Opus || n%10 == 0
			frame := make([]byte, 100+rng.IntN(900))
			if c.codec != stream.Opus && n%2 == 0 {
				frame = make([]byte, 5000)
			}
			for i := range frame {
				frame[i] = byte(rng.Uint32())
			}
			if c.codec == stream.VP8 {
				if frame[0] |= 1; key {
					frame[0] &^= 1
				}
			}
			payloads := c.packer.Pack(nil, frame, key, 1000)
			for i, p := range payloads {
				in.frames.Push(&rtp.Packet{Sequence: sequence, Timestamp: uint32(n * 3000), Marker: i == len(payloads)-1, Payload: p, Arrived: time.Now()},
					func(f rtp.Frame) { a.Frame(in, Frame{Frame: f}) })
				sequence++
			}
			var batch [4]*stream.Frame
			count, err := sub.TryRead(batch[:])
			require.NoError(t, err)
			require.Equal(t, 1, count)
			require.Equal(t, key, batch[0].Key)
			out.Cut(batch[:count])
			var got []byte
			for ft := &out.Feed.tracks[c.codec.Kind()-1]; next < ft.next; next++ {
				p := ft.at(next)
				played.Push(&rtp.Packet{Timestamp: p.stamp, Marker: p.marker, Payload: p.payload}, func(f rtp.Frame) {
					got = f.Data
					require.Equal(t, key, f.Key)
				})
			}
			require.Equal(t, frame, got)
		}
		hub.Close()
	}
}
