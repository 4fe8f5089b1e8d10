package fanout

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAppend fills chunks in all ways there are: frames that fit, that fill one
// exactly, that are larger than one, and guesses that are too small or too
// large.
func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		name   string
		frames [][2]int // size, guess
		chunks int
	}{
		{"one", [][2]int{{100, 100}}, 1},
		{"fills the chunk", [][2]int{{firstChunk - 100, firstChunk - 100}, {100, 100}}, 1},
		{"one byte too many", [][2]int{{firstChunk - 100, firstChunk - 100}, {101, 101}}, 2},
		{"fills it at once", [][2]int{{firstChunk, firstChunk}, {100, 100}}, 2},
		{"larger than a chunk", [][2]int{{10, 10}, {3 * fullChunk, 3 * fullChunk}, {10, 10}}, 3},
		{"larger than any, first", [][2]int{{3 * fullChunk, 3 * fullChunk}, {10, 10}}, 2},
		{"short guess that fits", [][2]int{{100, 1}, {100, 0}}, 1},
		{"short guess", [][2]int{{firstChunk - 50, 10}, {1000, 10}, {100, 10}}, 2},
		{"short guess, first", [][2]int{{5 * firstChunk, 10}, {100, 10}}, 1},
		{"short guess in a full chunk", [][2]int{{firstChunk, firstChunk}, {5 * firstChunk, 10}, {10, 10}}, 2},
		{"large guess", [][2]int{{100, 3 * fullChunk}, {10, 10}}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newSource(&Log{})
			var want []byte
			for i, f := range tt.frames {
				l.append(f[0], f[1])
				want = appendUnit(want, 'F', i, f[0]-unitHeader)
			}
			require.Len(t, l.chunks, tt.chunks)
			require.Equal(t, want, contents(t, l.Log))
			at := int64(0)
			for _, f := range tt.frames {
				for _, offset := range []int64{at, at + 1, at + int64(f[0]) - 1} {
					start, end, ok := l.frameAt(offset)
					require.True(t, ok)
					require.Equal(t, []int64{at, at + int64(f[0])}, []int64{start, end})
				}
				at += int64(f[0])
				require.Equal(t, at, l.frameEnd(at))
			}
			_, _, ok := l.frameAt(at)
			require.False(t, ok)
		})
	}
}

// contents returns the bytes of the window, as a player gets them.
func contents(t *testing.T, l *Log) (all []byte) {
	for at := l.chunks[0].base; at < l.head; {
		var bufs [2][]byte
		to, ok := l.windowLocked(at, &bufs)
		require.True(t, ok)
		require.EqualValues(t, to-at, len(bufs[0])+len(bufs[1]))
		all = append(append(all, bufs[0]...), bufs[1]...)
		at = to
	}
	return all
}

// A muxer may have nothing to say of a frame.
func TestAppendNothing(t *testing.T) {
	nothing := func(b []byte) []byte { return b }
	l := newSource(&Log{MaxBytes: 100})
	l.Append(time.Now(), 10, nothing)
	require.Empty(t, l.chunks)
	l.frame(100)
	l.Append(time.Now(), 10, nothing)
	l.Append(time.Now(), fullChunk, nothing)
	require.Len(t, l.chunks, 1)
	require.Len(t, l.chunks[0].frames, 1)
	for range 10 {
		l.frame(fullChunk)
		l.Append(time.Now(), fullChunk, nothing)
	}
	require.EqualValues(t, 100+10*fullChunk, l.head)
	require.Equal(t, makeUnit('F', 10, fullChunk-unitHeader), contents(t, l.Log))
}

func TestAppendAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	l := newSource(&Log{MaxBytes: 700_000})
	var want []byte
	for range 3000 {
		size := unitHeader + rnd.IntN(3000)
		if rnd.IntN(50) == 0 {
			size += rnd.IntN(400_000)
		}
		if rnd.IntN(10) == 0 {
			l.key()
		}
		want = appendUnit(want, 'F', l.frames, size-unitHeader)
		l.append(size, rnd.IntN(2*size))
		want = want[max(0, len(want)-3<<20):]
	}
	got := contents(t, l.Log)
	require.GreaterOrEqual(t, len(got), 700_000)
	require.True(t, bytes.HasSuffix(want, got))
}
