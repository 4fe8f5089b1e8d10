package deliver

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A publisher that makes key frames only when it is asked is asked often enough for
// segments to end and players to join, and no more often.
func TestKeysAskedFor(t *testing.T) {
	for _, c := range []struct {
		name  string
		play  func(b *hlsBed)
		every time.Duration
	}{
		{"HLS", func(b *hlsBed) { b.get("/live/x.m3u8") }, 2 * time.Second},
		{"FLV", func(b *hlsBed) {
			go func() { // until the server closes
				if r, err := b.client.Get("http://server/live/x.flv"); err == nil {
					defer r.Body.Close()
					for buf := make([]byte, 1<<16); err == nil; {
						_, err = r.Body.Read(buf)
					}
				}
			}()
		}, keyEvery},
	} {
		t.Run(c.name, func(t *testing.T) {
			inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
				var asked atomic.Int32
				pub, err := b.hub.Publish(t.Context(), "live/x", &stream.PublishOptions{OnKeyRequest: func() { asked.Add(1) }})
				require.NoError(t, err)
				pattern := &streamtest.Pattern{}
				require.NoError(t, pub.SetTracks(pattern.Tracks()...))
				done := make(chan struct{})
				defer func() { <-done }()
				defer pub.Close()
				go func() {
					defer close(done)
					began, answered := time.Now(), int32(-1)
					for f := range pattern.Frames(1 << 20) {
						time.Sleep(time.Until(began.Add(f.DTS)))
						if f.Track.Kind() == stream.Video {
							f.Key = asked.Load() != answered
							answered = asked.Load()
						}
						if pub.Write(f) != nil {
							return
						}
					}
				}()
				time.Sleep(time.Second)
				require.Zero(t, asked.Load(), "nobody plays")
				c.play(b)
				time.Sleep(time.Second)
				before := asked.Load()
				require.Positive(t, before)
				time.Sleep(20 * time.Second)
				require.InDelta(t, 20*time.Second/c.every, asked.Load()-before, 2)
			})
		})
	}
}
