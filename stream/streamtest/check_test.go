package streamtest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// complaints is a TB that keeps what it is told.
type complaints []string

func (c *complaints) Helper() {}
func (c *complaints) Errorf(format string, args ...any) {
	*c = append(*c, fmt.Sprintf(format, args...))
}
func (c *complaints) Fatalf(format string, args ...any) { c.Errorf(format, args...) }

func TestCheckTimeline(t *testing.T) {
	for _, tt := range []struct {
		name   string
		break_ func(frames []*stream.Frame) []*stream.Frame
		want   string
	}{
		{"fine", func(f []*stream.Frame) []*stream.Frame { return f }, ""},
		{"gap", func(f []*stream.Frame) []*stream.Frame { return slices.Delete(f, 4, 5) }, "frame 4, track 1: DTS 200ms leaves a gap of 80ms"},
		{"marked gap", func(f []*stream.Frame) []*stream.Frame {
			f[5].Discontinuity = true
			return slices.Delete(f, 4, 5)
		}, ""},
		{"order", func(f []*stream.Frame) []*stream.Frame {
			f[9].DTS = f[8].DTS
			return f
		}, "frame 9, track 1: DTS 320ms after 320ms"},
		{"pts", func(f []*stream.Frame) []*stream.Frame {
			f[3].PTS--
			return f
		}, "frame 3, track 1: PTS 119.999999ms before DTS 120ms"},
		{"key", func(f []*stream.Frame) []*stream.Frame { return f[1:] }, "frame 0, track 1: the first is no key frame"},
	} {
		var got complaints
		frames := slices.Collect((&streamtest.Pattern{NoAudio: true}).Frames(10))
		streamtest.CheckTimeline(&got, tt.break_(frames), 40*time.Millisecond)
		if tt.want == "" {
			require.Empty(t, got, tt.name)
			continue
		}
		require.Equal(t, complaints{"streamtest: " + tt.want}, got, tt.name)
	}
}

func TestCollect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub stream.Hub
		defer hub.Close()
		go (&streamtest.Source{Duration: 10 * time.Second}).Run(t.Context(), &hub, "live/clip")
		synctest.Wait()
		subscribe := func() *stream.Subscriber {
			sub, err := hub.Subscribe(t.Context(), "live/clip", nil)
			require.NoError(t, err)
			return sub
		}
		require.Len(t, streamtest.Collect(t.Context(), t, subscribe(), 100), 100)

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var got complaints
		require.NotEmpty(t, streamtest.Collect(short, &got, subscribe(), 1000))
		require.Len(t, got, 1)
		require.Contains(t, got[0], "context deadline exceeded")

		rest := streamtest.Collect(t.Context(), t, subscribe(), -1)
		streamtest.CheckTimeline(t, rest, picture)
	})
}
