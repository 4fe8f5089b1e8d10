package record

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream/streamtest"
)

// The wall clock jumps back by hours and forward by months while recordings are
// written: all is there once, names differ, and lengths are of media.
func TestClockJumps(t *testing.T) {
	for _, format := range []Format{MP4, FLV, HLS} {
		t.Run(format.String(), func(t *testing.T) {
			inBed(t, func(r *Recorder) {
				r.Format, r.Keep = format, Retention{Age: 24 * time.Hour}
				if format != HLS {
					r.Segment = 2500 * time.Millisecond
				}
			}, func(t *testing.T, b *bed) {
				p := &streamtest.Pattern{}
				pub := b.open("live/cam", p.Tracks())
				start, n := time.Now(), int64(0)
				for f := range until(p.Frames(-1), 12*sec) {
					time.Sleep(time.Until(start.Add(f.DTS)))
					f.Time = time.Now()
					switch {
					case f.DTS >= 9*sec:
						f.Time = f.Time.AddDate(0, 3, 0)
					case f.DTS >= 6*sec:
						f.Time = start // stands still
					case f.DTS >= 3*sec:
						f.Time = f.Time.Add(-3 * sec) // what it said before, again
					}
					require.NoError(t, pub.Write(f))
					n++
				}
				require.NoError(t, pub.Close())
				time.Sleep(sec)
				synctest.Wait()
				list, err := (&Library{Storage: b.Storage}).List(t.Context(), Query{Stream: "live/cam"})
				require.NoError(t, err)
				names, length, frames := map[string]bool{}, time.Duration(0), int64(0)
				offsets := map[time.Duration]bool{}
				for _, info := range list {
					names[info.Name], offsets[info.Offset] = true, true
					length += info.Duration
					frames += info.Frames
					require.Equal(t, list[0].Session, info.Session)
					_, err := Verify(t.Context(), b.Storage, info.Name)
					require.NoError(t, err)
				}
				require.Equal(t, n, frames)
				require.InDelta(t, 12*sec, length, float64(50*time.Millisecond))
				if format != HLS {
					require.Len(t, names, 4)
					require.Equal(t, map[time.Duration]bool{0: true, 3 * sec: true, 6 * sec: true, 9 * sec: true}, offsets)
				}
				time.Sleep(2 * time.Hour) // retention has had its time
				require.Len(t, b.list(), len(list))
			})
		})
	}
}

func TestWallClock(t *testing.T) {
	start := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	var c wallClock
	at := func(passed, off time.Duration) bool { return c.steady(start.Add(passed+off), passed) }
	for minute := range 60 {
		require.True(t, at(time.Duration(minute)*time.Minute, time.Duration(minute)*30*time.Second), "it goes wrong by half")
	}
	off := 30 * time.Minute
	require.False(t, at(61*time.Minute, off+365*24*time.Hour))
	require.False(t, at(62*time.Minute, off+365*24*time.Hour), "it may jump back")
	require.False(t, at(100*time.Minute, off))
	require.False(t, at(159*time.Minute, off), "an hour from then")
	require.True(t, at(160*time.Minute, off))
	require.False(t, at(161*time.Minute, off-time.Hour))
	require.True(t, at(221*time.Minute, off-time.Hour))
}

// An age counts from a recording's end, of which a clock that was wrong may say
// that it is yet to come: it is kept.
func TestRetainFuture(t *testing.T) {
	inBed(t, nil, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{}
		pub := b.open("live/cam", p.Tracks())
		for f := range until(p.Frames(-1), 2*sec) {
			f.Time = time.Now().AddDate(1, 0, 0)
			require.NoError(t, pub.Write(f))
		}
		require.NoError(t, pub.Close())
		time.Sleep(sec)
		l := &Library{Storage: b.Storage, Log: silent}
		n, err := l.Retain(t.Context(), Retention{Age: time.Hour})
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = l.Retain(t.Context(), Retention{Bytes: 1})
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}
