package stream

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A publisher that is lost and comes back within Grace finds its readers
// attached; they see a break in a line of time that goes on.
func TestGrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Grace: 10 * time.Second}
		p := publish(t, &h, "live/a", nil, video, audio)
		s := p.Stream()
		r := subscribe(t, &h, "live/a", nil)
		write(t, p, frame(video, 1000, true), frame(audio, 1005, true), frame(video, 1040, false))
		require.Equal(t, []int{0, 5, 40}, times(t, r))
		require.NoError(t, p.Close())
		require.False(t, s.Publishing())
		require.Same(t, s, h.Stream("live/a"))

		read := make(chan *Frame)
		go func() {
			dst := make([]*Frame, 1)
			_, err := r.Read(context.Background(), dst)
			require.NoError(t, err)
			read <- dst[0]
		}()
		time.Sleep(9 * time.Second)
		p = publish(t, &h, "live/a", nil, video, audio)
		require.Same(t, s, p.Stream())
		require.True(t, s.Publishing())
		time.Sleep(9 * time.Second) // the first timer is off
		write(t, p, frame(video, 500_000, true))
		f := <-read
		require.True(t, f.Discontinuity)
		require.Equal(t, 80*ms, f.DTS)

		write(t, p, frame(audio, 499_930, true), frame(audio, 499_950, true), frame(video, 500_040, false), frame(audio, 500_035, true))
		got, err := drain(t, r)
		require.NoError(t, err)
		for _, f := range got {
			require.False(t, f.Discontinuity)
		}
		require.Equal(t, []int{10, 30, 120, 115}, dts(got), "sound that starts a little earlier keeps its distance")
		late := subscribe(t, &h, "live/a", nil)
		require.Equal(t, []int{80, 10, 30, 120, 115}, times(t, late))
	})
}

// Each track of the publisher that comes back goes on behind its own last frame.
func TestGraceKeepsEachTrackMonotonic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Grace: time.Second}
		p := publish(t, &h, "live/a", nil, video, audio)
		write(t, p, frame(video, 0, true), frame(audio, 0, true), frame(audio, 100, true))
		r := subscribe(t, &h, "live/a", nil)
		require.Equal(t, []int{0, 0, 100}, times(t, r))
		require.NoError(t, p.Close())
		p = publish(t, &h, "live/a", nil, video, audio)
		write(t, p, frame(video, 200, true), frame(audio, 100, true), frame(audio, 170, true))
		got, err := drain(t, r)
		require.NoError(t, err)
		require.Equal(t, []time.Duration{140 * ms, 100*ms + time.Microsecond, 110 * ms}, []time.Duration{got[0].DTS, got[1].DTS, got[2].DTS})
	})
}

func TestGraceExpires(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Grace: 10 * time.Second}
		p := publish(t, &h, "live/a", nil, video)
		r := subscribe(t, &h, "live/a", nil)
		write(t, p, frame(video, 0, true))
		lost := time.Now()
		require.NoError(t, p.Close())
		for range 2 { // coming back sets the clock anew
			require.NotNil(t, h.Stream("live/a"))
			time.Sleep(6 * time.Second)
			p = publish(t, &h, "live/a", nil, video)
			lost = time.Now()
			require.NoError(t, p.Close())
		}
		dst := make([]*Frame, 4)
		n, err := r.Read(t.Context(), dst)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = r.Read(t.Context(), dst)
		require.Equal(t, io.EOF, err)
		require.Equal(t, 10*time.Second, time.Since(lost))
		synctest.Wait()
		require.Nil(t, h.Stream("live/a"))
		_, err = h.Subscribe(t.Context(), "live/a", nil)
		require.ErrorIs(t, err, ErrNotFound)
		p = publish(t, &h, "live/a", nil, video)
		require.NotSame(t, r.Stream(), p.Stream())
		require.NoError(t, p.Close())
		require.NoError(t, h.Close()) // also stops the timer of the grace that runs
	})
}

func TestNoGraceEndsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video)
		r := subscribe(t, &h, "live/a", nil)
		require.NoError(t, p.Close())
		_, err := drain(t, r)
		require.Equal(t, io.EOF, err)
		require.Nil(t, h.Stream("live/a"))
	})
}

// An operator's End does not wait for the grace time, before or within it.
func TestEndDuringGrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Grace: time.Hour}
		p := publish(t, &h, "live/a", nil, video)
		require.NoError(t, p.Close())
		p.Stream().End(ErrKicked)
		require.Nil(t, h.Stream("live/a"))

		p = publish(t, &h, "live/a", nil, video)
		p.Stream().End(ErrKicked)
		require.Nil(t, h.Stream("live/a"))
		require.NoError(t, p.Close())
		require.Nil(t, h.Stream("live/a"))
	})
}
