package webrtc

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/stream"
)

// What was captured at one time is at one time in the stream, whatever the
// arrivals and the timestamps say, as soon as both tracks have reports, and again
// when the sender's clock is set or a track begins anew.
func TestAssemblerSync(t *testing.T) {
	const second = time.Second
	video, audio := &Incoming{Format: &Format{Clock: 90000}}, &Incoming{Format: &Format{Clock: 48000}}
	for _, audioFirst := range []bool{false, true} {
		a := &Assembler{}
		begin := time.Unix(1e9, 0)
		skew := second // of the sender's clock
		var stamps [2]int64
		stamps[0], stamps[1] = 1<<31, 77
		reported := [2]bool{}
		at := [2]time.Duration{}
		frame := func(i int, in *Incoming, media, late time.Duration) {
			f := Frame{Frame: rtp.Frame{
				Timestamp: stamps[i] + int64(media*time.Duration(in.Format.Clock)/second), Arrived: begin.Add(media + late),
			}}
			if reported[i] {
				f.Wall = begin.Add(media + skew)
			}
			at[i] = a.time(a.find(in), &f) - media
		}
		run := func(from, to time.Duration) {
			for media := from; media < to; media += 20 * time.Millisecond {
				if audioFirst {
					frame(1, audio, media, 0)
				}
				frame(0, video, media, 300*time.Millisecond)
				if !audioFirst {
					frame(1, audio, media, 0)
				}
			}
		}
		apart := func() time.Duration { return (at[0] - at[1]).Abs() }
		run(0, second)
		require.Equal(t, 300*time.Millisecond, apart(), "as they arrive")
		reported[1] = true
		run(second, 2*second)
		reported[0] = true
		run(2*second, 3*second)
		require.Less(t, apart(), time.Millisecond)

		before := at
		skew += 5 * second // seen on both at the same time: nothing changes
		run(3*second, 8*second)
		require.Equal(t, before, at)

		// On one track a second late, which is passed over.
		clocks := skew
		for media := 8 * second; media < 9*second; media += 20 * time.Millisecond {
			skew = clocks - 3*second
			frame(0, video, media, 0)
			skew = clocks
			frame(1, audio, media, 0)
		}
		run(9*second, 10*second)
		require.Less(t, apart(), time.Millisecond)

		stamps[0] -= 1e9 // another encoder
		run(10*second, 16*second)
		require.Less(t, apart(), time.Millisecond)
	}
}

// A first frame that comes late does not put its track aside, neither before the
// sender's reports say where it belongs nor after, whatever the hub makes of it.
func TestAssemblerLateStart(t *testing.T) {
	for _, reports := range []time.Duration{300 * time.Millisecond, 5 * time.Second} { // when those of the video begin
		for _, slow := range []int{1, 1000} { // how many of its frames are late
			hub := &stream.Hub{}
			pub, err := hub.Publish(t.Context(), "live/a", nil)
			require.NoError(t, err)
			sub, err := hub.Subscribe(t.Context(), "live/a", &stream.SubscribeOptions{})
			require.NoError(t, err)
			video := &Incoming{Codec: stream.VP8, Format: &Format{Clock: 90000}}
			audio := &Incoming{Codec: stream.Opus, Format: &Format{Clock: 48000}}
			a := &Assembler{Publisher: pub}
			begin := time.Unix(1e9, 0)
			frames := 0
			for media := time.Duration(0); media < 6*time.Second; media += 20 * time.Millisecond {
				f := Frame{Frame: rtp.Frame{Timestamp: int64(media * 48 / time.Millisecond), Key: true, Arrived: begin.Add(media), Data: []byte{1, 2}}, Wall: begin.Add(media)}
				a.Frame(audio, f)
				f.Timestamp, f.Wall, f.Data = int64(1<<31+media*90/time.Millisecond), time.Time{}, vp8Picture(true, 64, 64, 0)
				if media >= reports {
					f.Wall = begin.Add(media)
				}
				if frames++; frames <= slow && media < 2*time.Second {
					f.Arrived = f.Arrived.Add(1500 * time.Millisecond)
				}
				a.Frame(video, f)
			}
			var batch [1000]*stream.Frame
			n, err := sub.TryRead(batch[:])
			require.NoError(t, err)
			last := [stream.Data + 1]time.Duration{}
			for _, f := range batch[:n] {
				last[f.Track.Kind()] = f.DTS
			}
			require.InDelta(t, float64(last[stream.Audio]), float64(last[stream.Video]), float64(apart), "%v %v", reports, slow)
			hub.Close()
		}
	}
}
