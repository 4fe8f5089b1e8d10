package stream

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A reader that is too far behind, by any measure, skips to the newest key
// frame and its loss is counted.
func TestSlowReaderSkips(t *testing.T) {
	for name, c := range map[string]struct {
		cache   Cache
		opts    SubscribeOptions
		dropped int // of 25 frames, key frames 0, 10, 20
		want    []int
	}{
		"in time":             {want: steps(40, 1000, 40)},
		"MaxBytes":            {opts: SubscribeOptions{MaxBytes: 2000}, dropped: 19, want: steps(800, 1000, 40)},
		"MaxBytes not passed": {opts: SubscribeOptions{MaxBytes: 2300}, want: steps(40, 1000, 40)},
		"MaxLag":              {opts: SubscribeOptions{MaxLag: 800 * ms}, dropped: 19, want: steps(800, 1000, 40)},
		"MaxLag not passed":   {opts: SubscribeOptions{MaxLag: 920 * ms}, want: steps(40, 1000, 40)},
		"overrun":             {cache: Cache{Frames: 20}, dropped: 19, want: steps(800, 1000, 40)},
		"overrun by bytes":    {cache: Cache{Bytes: 2000}, dropped: 19, want: steps(800, 1000, 40)},
		"overrun by time":     {cache: Cache{Time: 500 * ms}, dropped: 19, want: steps(800, 1000, 40)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := Hub{Cache: c.cache}
				p := publish(t, &h, "live/a", nil, video)
				video25(t, p, 0, 1, 10)
				r := subscribe(t, &h, "live/a", &c.opts)
				require.Equal(t, []int{0}, times(t, r))
				video25(t, p, 1, 25, 10)
				require.Equal(t, c.want, times(t, r))
				require.EqualValues(t, c.dropped, r.Dropped())
				require.EqualValues(t, c.dropped, p.Stream().Stats().Dropped)
				require.NoError(t, r.Close())
				require.EqualValues(t, c.dropped, p.Stream().Stats().Dropped, "kept when the reader has gone")
			})
		})
	}
}

// Within the newest group of pictures there is nothing to skip to.
func TestSlowWithinOneGroupReadsOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video)
		r := subscribe(t, &h, "live/a", &SubscribeOptions{MaxBytes: 300, MaxSkips: 1})
		video25(t, p, 0, 1, 100)
		require.Equal(t, []int{0}, times(t, r))
		video25(t, p, 1, 50, 100)
		require.Equal(t, steps(40, 2000, 40), times(t, r))
		require.Zero(t, r.Dropped())
	})
}

// A reader that was overrun while the cache holds no key frame waits for one.
func TestOverrunWithoutKeyFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Cache: Cache{Frames: 5}}
		p := publish(t, &h, "live/a", nil, video)
		r := subscribe(t, &h, "live/a", &SubscribeOptions{MaxSkips: 1})
		video25(t, p, 0, 1, 100)
		require.Equal(t, []int{0}, times(t, r))
		video25(t, p, 1, 50, 100)
		require.Empty(t, times(t, r))
		require.EqualValues(t, 49, r.Dropped())
		video25(t, p, 50, 102, 100)
		require.Equal(t, []int{4000, 4040}, times(t, r))
		require.EqualValues(t, 99, r.Dropped(), "what passed while it waited counts")

		// A second loss without having caught up in between would be one too
		// many, but it has: the reads above waited.
		video25(t, p, 102, 150, 100)
		require.Empty(t, times(t, r))
	})
}

// MaxSkips ends a reader that skips again and again without catching up. To
// read up to the newest frame just after a skip is not catching up: a reader
// that has too little bandwidth does that too.
func TestErrSlow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Cache: Cache{Frames: 20}}
		p := publish(t, &h, "live/a", nil, video)
		r := subscribe(t, &h, "live/a", &SubscribeOptions{MaxSkips: 2})
		video25(t, p, 0, 1, 10)
		dst := make([]*Frame, 100)
		n, err := r.Read(t.Context(), dst)
		require.Equal(t, 1, n)
		require.NoError(t, err)
		for i := range 2 {
			video25(t, p, 1+30*i, 1+30*(i+1), 10)
			n, err = r.Read(t.Context(), dst)
			require.Equal(t, 1, n, "the key frame just written")
			require.NoError(t, err)
		}
		require.EqualValues(t, 58, r.Dropped())
		video25(t, p, 61, 91, 10)
		for range 2 {
			n, err = r.Read(t.Context(), dst)
			require.ErrorIs(t, err, ErrSlow, "and it stays")
			require.Zero(t, n)
		}
		require.NoError(t, r.Close())
		_, err = r.Read(t.Context(), dst)
		require.ErrorIs(t, err, ErrClosed)
	})
}

func TestErrSlowForgetsAfterCatchingUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Cache: Cache{Frames: 20}}
		p := publish(t, &h, "live/a", nil, video)
		r := subscribe(t, &h, "live/a", &SubscribeOptions{MaxSkips: 1})
		for i := range 10 {
			video25(t, p, 30*i, 30*(i+1), 10)
			require.Equal(t, steps(40*(30*i+20), 40*(30*i+30), 40), times(t, r))
		}
	})
}

// A reader that never reads pins nothing, and one that was overrun stops
// counting for what the cache keeps.
func TestReaderThatNeverReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Cache: Cache{Frames: 100}}
		p := publish(t, &h, "live/a", nil, video)
		video25(t, p, 0, 1, 10)
		stuck := subscribe(t, &h, "live/a", nil)
		fussy := subscribe(t, &h, "live/a", &SubscribeOptions{MaxLag: time.Second})
		defer stuck.Close()
		defer fussy.Close()
		s := p.Stream()
		most := 0
		for i := 1; i < 10_000; i++ {
			video25(t, p, i, i+1, 10)
			most = max(most, s.held())
			if i > 110 {
				require.LessOrEqual(t, s.held(), 10, "nothing but the newest group of pictures")
			}
		}
		require.Equal(t, 100, most, "bounded by the cache while it may still come back")
		require.Len(t, s.ring.buf, 128)
	})
}

// A reader that would skip anyway, by its own options, pins no more than those allow.
func TestOwnBoundsLimitWhatAReaderPins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video)
		video25(t, p, 0, 1, 10)
		r := subscribe(t, &h, "live/a", &SubscribeOptions{MaxBytes: 2500})
		defer r.Close()
		for i := 1; i < 1000; i++ {
			video25(t, p, i, i+1, 10)
			require.LessOrEqual(t, p.Stream().held(), 31)
		}
	})
}

func TestReadEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video)
		r := subscribe(t, &h, "live/a", nil)
		dst := make([]*Frame, 1)

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := r.Read(ctx, dst)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))

		video25(t, p, 0, 3, 10)
		_, err = r.Read(ctx, dst)
		require.ErrorIs(t, err, context.DeadlineExceeded, "a context that has ended is noticed though frames are due")

		closer := subscribe(t, &h, "live/a", nil)
		require.Equal(t, []int{0, 40, 80}, times(t, closer))
		time.AfterFunc(time.Second, func() { closer.Close() })
		_, err = closer.Read(t.Context(), dst)
		require.ErrorIs(t, err, ErrClosed, "Close ends a Read that is under way")
		require.NoError(t, closer.Close(), "closing twice is harmless")

		require.NoError(t, p.Close())
		for range 3 {
			n, err := r.Read(t.Context(), dst)
			require.NoError(t, err, "what was written is read first")
			require.Equal(t, 1, n)
		}
		_, err = r.Read(t.Context(), dst)
		require.Equal(t, io.EOF, err)
		_, err = r.Read(t.Context(), dst)
		require.Equal(t, io.EOF, err)
	})
}

func TestFrames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video)
		r := subscribe(t, &h, "live/a", nil)
		video25(t, p, 0, 10, 10)
		var got []int
		for f, err := range r.Frames(t.Context()) {
			require.NoError(t, err)
			got = append(got, int(f.DTS/ms))
			if len(got) == 4 {
				break
			}
		}
		time.AfterFunc(time.Second, func() { p.Close() })
		for f, err := range r.Frames(t.Context()) {
			require.NoError(t, err, "the end of the stream is not an error")
			got = append(got, int(f.DTS/ms))
		}
		require.Equal(t, steps(0, 400, 40), got, "leaving the loop loses nothing")

		require.NoError(t, r.Close())
		n := 0
		for f, err := range r.Frames(t.Context()) {
			n++
			require.Nil(t, f)
			require.ErrorIs(t, err, ErrClosed)
		}
		require.Equal(t, 1, n)
	})
}
