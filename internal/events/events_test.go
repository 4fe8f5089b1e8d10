package events

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func lost(n int) int { return -n }

func TestOrderAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Bus[int]
		var got []int
		go func() {
			for e := range b.Listen(t.Context(), lost) {
				got = append(got, e)
			}
			got = append(got, 0)
		}()
		synctest.Wait()
		require.Equal(t, 1, b.Listeners())
		b.Emit(1)
		b.Emit(2)
		synctest.Wait()
		require.Equal(t, []int{1, 2}, got)
		b.Emit(3)
		b.Close()
		b.Emit(4)
		synctest.Wait()
		require.Equal(t, []int{1, 2, 3, 0}, got, "what came before Close is still told")
		require.Zero(t, b.Listeners())
		for range b.Listen(t.Context(), lost) {
			t.Fatal("an event of a closed Bus")
		}
	})
}

// A listener that never ranges is bounded, and let go at the end of ctx.
func TestNeverRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Bus[int]
		ctx, cancel := context.WithCancel(t.Context())
		told := b.Listen(ctx, lost)
		for i := range 10 * Backlog {
			b.Emit(i)
		}
		require.Len(t, b.queues[0].events, Backlog)
		cancel()
		synctest.Wait()
		require.Zero(t, b.Listeners())
		for range told {
			t.Fatal("an event after the end of ctx")
		}
	})
}

func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Bus[int]
		told := b.Listen(t.Context(), lost)
		for i := range Backlog + 7 {
			b.Emit(i)
		}
		n := 0
		for e := range told {
			if n == Backlog {
				require.Equal(t, -7, e)
				break
			}
			require.Equal(t, n, e)
			n++
		}
		require.Zero(t, b.Listeners(), "leaving the loop ends it")
	})
}
