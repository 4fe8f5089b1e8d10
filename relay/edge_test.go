package relay

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &streamtest.Net{Latency: 5 * time.Millisecond}
		defer network.Close()
		origin := newNode(t, network, "origin")
		defer origin.close()
		edge := newNode(t, network, "edge", "runnel://origin")
		defer edge.close()
		// 44.1 kHz and 90 kHz have no whole milliseconds.
		tracks := (&streamtest.Source{}).Tracks()
		pub, err := origin.Hub.Publish(t.Context(), "live/cam", &stream.PublishOptions{Jitter: stream.JitterOff})
		require.NoError(t, err)
		defer pub.Close()
		require.NoError(t, pub.SetTracks(tracks...))
		captured := time.Now().Add(-time.Second).Truncate(time.Microsecond)
		write := func(i int64) *stream.Frame {
			f := &stream.Frame{Track: tracks[i%2], DTS: time.Hour + stream.FromTicks(i*1001, 90000), Time: captured.Add(time.Duration(i) * time.Microsecond), Key: i%2 == 1 || i == 0, Data: []byte{0, 0, 0, 2, 0x65, 1}}
			f.PTS = f.DTS + stream.FromTicks(3003, 90000)
			if i%2 == 1 {
				f.PTS = f.DTS
			} else if i > 0 {
				f.Data[4] = 0x41 // a picture that is not a key
			}
			require.NoError(t, pub.Write(f))
			return f
		}
		var sent []*stream.Frame
		for i := range int64(10) {
			sent = append(sent, write(i))
		}
		sub, err := edge.Hub.Subscribe(t.Context(), "live/cam", nil)
		require.NoError(t, err)
		got := take(t, sub, 10)
		for i, f := range got {
			require.Equal(t, sent[i].DTS, f.DTS, "DTS of %d", i)
			require.Equal(t, sent[i].PTS, f.PTS, "PTS of %d", i)
			require.True(t, sent[i].Time.Equal(f.Time), "capture time of %d: %v, not %v", i, f.Time, sent[i].Time)
			require.Equal(t, sent[i].Data, f.Data)
			require.False(t, f.Discontinuity)
		}
		require.Len(t, sub.Tracks(), 2, "the marks make no track")
		jobs := edge.Jobs()
		require.Len(t, jobs, 1)
		require.True(t, jobs[0].Running)
		require.Equal(t, "runnel://origin/live/cam", jobs[0].URL)
		require.NotZero(t, jobs[0].Bytes)

		second, err := edge.Hub.Subscribe(t.Context(), "live/cam", nil)
		require.NoError(t, err)
		require.Equal(t, 1, origin.sessions(stream.RolePlay), "one pull feeds all")
		sub.Close()
		time.Sleep(5 * time.Second)
		write(10)
		take(t, second, 11)
		second.Close()
		time.Sleep(5 * time.Second)
		require.Empty(t, edge.Jobs(), "the last viewer and the grace time are over")
		require.Nil(t, edge.Hub.Stream("live/cam"))
		require.Zero(t, origin.sessions(stream.RolePlay))

		_, err = edge.Hub.Subscribe(t.Context(), "live/none", nil)
		require.ErrorIs(t, err, stream.ErrNotFound)
	})
}

// longestGap reads for a while and returns the longest time without a frame.
func longestGap(ctx context.Context, t *testing.T, sub *stream.Subscriber, d time.Duration) (gap time.Duration, frames []*stream.Frame) {
	end := time.Now().Add(d)
	last := time.Now()
	for time.Now().Before(end) {
		var one [16]*stream.Frame
		n, err := sub.Read(ctx, one[:])
		require.NoError(t, err)
		gap = max(gap, time.Since(last))
		last = time.Now()
		frames = append(frames, one[:n]...)
	}
	return gap, frames
}

func TestOriginReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &streamtest.Net{}
		defer network.Close()
		origin := newNode(t, network, "origin")
		defer origin.close()
		edge := newNode(t, network, "edge", "runnel://origin")
		defer edge.close()
		defer origin.publish("live/cam", 0)()
		sub, err := edge.Hub.Subscribe(t.Context(), "live/cam", nil)
		require.NoError(t, err)
		defer sub.Close()
		take(t, sub, 50)

		// The way to the origin is cut, the stream goes on there: nothing is lost
		// that the origin still has.
		origin.down()
		go func() { time.Sleep(300 * time.Millisecond); origin.up() }()
		gap, frames := longestGap(t.Context(), t, sub, 10*time.Second)
		require.Less(t, gap, 3*time.Second)
		require.Greater(t, gap, 200*time.Millisecond)
		last := map[uint8]time.Duration{}
		for _, f := range frames {
			if before, ok := last[f.Track.ID]; ok {
				require.Greater(t, f.DTS, before)
				require.LessOrEqual(t, f.DTS-before, 41*time.Millisecond, "a hole in track %d", f.Track.ID)
			}
			last[f.Track.ID] = f.DTS
			require.False(t, f.Discontinuity)
		}

		// The origin is gone for long, and comes back with a new timeline.
		origin.down()
		for s := range origin.Hub.Streams() {
			s.End(nil)
		}
		back := make(chan time.Time, 1)
		go func() {
			time.Sleep(20 * time.Second)
			go (&streamtest.Source{}).Run(t.Context(), origin.Hub, "live/cam")
			origin.up()
			back <- time.Now()
		}()
		var one [1]*stream.Frame
		for {
			n, err := sub.Read(t.Context(), one[:])
			require.NoError(t, err)
			if n > 0 && one[0].Discontinuity {
				break
			}
		}
		require.Less(t, time.Since(<-back), 3*time.Second)
		require.Greater(t, one[0].DTS, max(last[1], last[2]), "time goes on")

		// It does not come back.
		origin.down()
		start := time.Now()
		for err == nil {
			_, err = sub.Read(t.Context(), one[:])
		}
		require.Greater(t, time.Since(start), 29*time.Second)
		require.Less(t, time.Since(start), 50*time.Second)
	})
}

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &streamtest.Net{}
		defer network.Close()
		origins := map[string]*node{}
		var urls []string
		for _, host := range []string{"one", "two", "three"} {
			origins[host] = newNode(t, network, host)
			defer origins[host].close()
			defer origins[host].publish("live/cam", 0)()
			urls = append(urls, "runnel://"+host)
		}
		edge := newNode(t, network, "edge", urls...)
		defer edge.close()
		sub, err := edge.Hub.Subscribe(t.Context(), "live/cam", nil)
		require.NoError(t, err)
		defer sub.Close()
		take(t, sub, 50)
		serving := func() (list []string) {
			for host, o := range origins {
				if o.sessions(stream.RolePlay) > 0 {
					list = append(list, host)
				}
			}
			return list
		}
		first := serving()
		require.Len(t, first, 1)
		origins[first[0]].down()
		gap, _ := longestGap(t.Context(), t, sub, 5*time.Second)
		require.Less(t, gap, time.Second)
		second := serving()
		require.Len(t, second, 1)
		require.NotEqual(t, first, second)
		origins[second[0]].down()
		gap, frames := longestGap(t.Context(), t, sub, 5*time.Second)
		require.Less(t, gap, time.Second)
		for i, f := range frames[1:] {
			require.Positive(t, f.DTS-frames[i].DTS+time.Second)
		}
		// A stream's choice is the same at every edge.
		other := newNode(t, network, "other", urls[2], urls[0], urls[1])
		defer other.close()
		require.Equal(t, (&health{}).order(edge.Origins, "a/b"), (&health{}).order(other.Origins, "a/b"))
	})
}

func TestSilentOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &streamtest.Net{}
		defer network.Close()
		mute := newNode(t, network, "mute")
		defer mute.close()
		pub, err := mute.Hub.Publish(t.Context(), "live/cam", nil) // and not a frame
		require.NoError(t, err)
		defer pub.Close()
		well := newNode(t, network, "well")
		defer well.close()
		defer well.publish("live/cam", 0)()
		edge := newNode(t, network, "edge", "runnel://mute", "runnel://well")
		defer edge.close()
		edge.origins.failed("runnel://well") // so that mute is first
		start := time.Now()
		sub, err := edge.Hub.Subscribe(t.Context(), "live/cam", nil)
		require.NoError(t, err)
		defer sub.Close()
		require.Equal(t, defaultIdleTimeout, time.Since(start).Truncate(time.Second))
	})
}

// Every codec that FLV has goes through as it is, in the order it came.
func TestCodecs(t *testing.T) {
	for _, codecs := range [][2]stream.Codec{{stream.H264, stream.AAC}, {stream.H265, stream.Opus}, {stream.AV1, stream.Opus}, {stream.VP9, stream.AC3}, {stream.VP8, stream.MP3}} {
		t.Run(codecs[0].String()+"+"+codecs[1].String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &streamtest.Net{}
				defer network.Close()
				origin := newNode(t, network, "origin")
				defer origin.close()
				edge := newNode(t, network, "edge", "runnel://origin")
				defer edge.close()
				p := &streamtest.Pattern{Video: codecs[0], Audio: codecs[1], FPS: 30}
				pub, err := origin.Hub.Publish(t.Context(), "live/x", nil)
				require.NoError(t, err)
				defer pub.Close()
				require.NoError(t, pub.SetTracks(p.Tracks()...))
				var sent []*stream.Frame
				for f := range p.Frames(60) {
					require.NoError(t, pub.Write(f))
					sent = append(sent, f)
				}
				sub, err := edge.Hub.Subscribe(t.Context(), "live/x", nil)
				require.NoError(t, err)
				defer sub.Close()
				got := take(t, sub, 10)
				for sent[0].DTS != got[0].DTS || sent[0].Track.ID != got[0].Track.ID {
					sent = sent[1:] // what the edge had skipped to its newest key frame
				}
				for i, f := range got {
					require.Equal(t, sent[i].Track.Codec, f.Track.Codec)
					require.Equal(t, sent[i].DTS, f.DTS)
					require.Equal(t, sent[i].PTS, f.PTS)
					require.Equal(t, sent[i].Key, f.Key)
					require.Equal(t, sent[i].Data, f.Data)
				}
			})
		})
	}
}
