package stream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMixCorrectOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", &PublishOptions{MixCorrect: true}, video, audio)
		write(t, p, frame(video, 0, true))
		r := subscribe(t, &h, "live/a", nil)
		require.Empty(t, times(t, r), "held until the other track has come as far")
		write(t, p, frame(audio, 5, true))
		require.Equal(t, []int{0}, times(t, r))
		// Bursts: the tracks come in turns of 200 ms.
		for at := 40; at < 1000; at += 200 {
			for v := at; v < at+200; v += 40 {
				write(t, p, frame(video, v, false))
			}
			for a := at; a < at+200; a += 20 {
				write(t, p, frame(audio, a-15, true))
			}
		}
		require.NoError(t, p.Close())
		var last time.Duration
		n := 0
		for f, err := range r.Frames(t.Context()) {
			require.NoError(t, err)
			require.GreaterOrEqual(t, f.DTS, last)
			last = f.DTS
			n++
		}
		require.Equal(t, 1+25+50, n, "what was held is written at the end")
	})
}

// A track that falls silent holds the other up within bounds.
func TestMixCorrectBounds(t *testing.T) {
	for name, c := range map[string]struct{ step, held int }{
		"time":   {40, 13}, // 12 steps are 480 ms
		"frames": {1, mixFrames},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var h Hub
				p := publish(t, &h, "live/a", &PublishOptions{MixCorrect: true}, video, audio)
				for i := range 500 {
					write(t, p, frame(video, c.step*i, true))
					require.LessOrEqual(t, len(p.mix.held), c.held)
				}
				require.Len(t, p.mix.held, c.held)
				require.LessOrEqual(t, cap(p.mix.held), 4*mixFrames)
			})
		})
	}
}

// With one track there is nothing to wait for.
func TestMixCorrectOneTrack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", &PublishOptions{MixCorrect: true}, video, audio)
		write(t, p, frame(video, 0, true), frame(video, 40, true))
		require.Len(t, p.mix.held, 2)
		require.NoError(t, p.SetTracks(video))
		write(t, p, frame(video, 80, false))
		require.Empty(t, p.mix.held)
		r := subscribe(t, &h, "live/a", nil)
		require.Equal(t, []int{40, 80}, times(t, r))
	})
}

// The frames that a replaced publisher still holds do not turn up behind its
// successor's.
func TestMixCorrectReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		a := publish(t, &h, "live/a", &PublishOptions{MixCorrect: true}, video, audio)
		write(t, a, frame(video, 0, true), frame(audio, 5, true), frame(audio, 25, true))
		r := subscribe(t, &h, "live/a", nil)
		require.Equal(t, []int{0}, times(t, r))
		b := publish(t, &h, "live/a", &PublishOptions{Replace: true}, video)
		write(t, b, frame(video, 0, true))
		require.NoError(t, a.Close())
		require.Equal(t, []int{65}, times(t, r))
	})
}
