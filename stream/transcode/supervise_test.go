package transcode

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var quiet = slog.New(slog.DiscardHandler)

func TestSupervise(t *testing.T) {
	broken := errors.New("broken")
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		err := supervise(t.Context(), quiet, func(context.Context) error {
			at = append(at, time.Since(began))
			switch len(at) {
			case 9: // it went well for a while
				time.Sleep(steady)
				return broken
			case 10:
				return errAgain
			case 12:
				return io.EOF
			}
			return broken
		})
		require.NoError(t, err)
		for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
			gap := at[i+1] - at[i]
			require.GreaterOrEqual(t, gap, want*time.Second)
			require.Less(t, gap, want*time.Second*5/4)
		}
		require.Less(t, at[9]-at[8], steady+2*time.Second, "the first failure again")
		require.Equal(t, at[9], at[10], "at once")
		require.Len(t, at, 12)
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		runs := 0
		err := supervise(ctx, quiet, func(context.Context) error { runs++; return broken })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.LessOrEqual(t, runs, 4)
		require.ErrorIs(t, supervise(ctx, quiet, func(context.Context) error { return nil }), context.DeadlineExceeded)
		require.NoError(t, supervise(t.Context(), quiet, func(context.Context) error { return nil }))
	})
}

func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var barks atomic.Int32
		d := &watchdog{stall: 8 * time.Second, most: 3}
		d.bark = func() { barks.Add(1); d.stop() }
		for range 100 { // an encoder that holds three back
			d.owes()
			d.owes()
			d.owes()
			time.Sleep(time.Second)
			d.fed()
		}
		d.owes()
		d.owes()
		d.owes()
		time.Sleep(time.Hour) // a slide show
		require.Zero(t, barks.Load())
		d.fed()
		for range 4 {
			d.owes()
		}
		time.Sleep(7 * time.Second)
		require.Zero(t, barks.Load())
		time.Sleep(3 * time.Second)
		require.EqualValues(t, 1, barks.Load())
		time.Sleep(time.Hour)
		d.owes()
		require.EqualValues(t, 1, barks.Load())
	})
}
