package stream

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// bubble runs f where time is virtual and goroutines that it leaves are an error.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestLateJoinerStartsAtKeyFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video, audio)
		early := subscribe(t, &h, "live/a", nil)
		video25(t, p, 0, 5, 10)
		require.Equal(t, steps(0, 200, 40), times(t, early))
		video25(t, p, 5, 35, 10)
		write(t, p, frame(audio, 1390, true), frame(video, 1400, false))

		late := subscribe(t, &h, "live/a", nil)
		require.Equal(t, []*Track{video, audio}, late.Tracks(), "the configuration is there at once")
		got, err := drain(t, late)
		require.NoError(t, err)
		require.Equal(t, append(steps(1200, 1400, 40), 1390, 1400), dts(got))
		require.True(t, got[0].Key)

		require.Equal(t, append(steps(200, 1400, 40), 1390, 1400), times(t, early))
		require.Zero(t, early.Dropped())
		require.Zero(t, late.Dropped())
	})
}

func TestNothingBeforeFirstKeyFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video, audio)
		r := subscribe(t, &h, "live/a", nil)
		write(t, p, frame(audio, 0, true), frame(video, 5, false), frame(audio, 20, true))
		require.Empty(t, times(t, r))
		write(t, p, frame(video, 45, true), frame(audio, 60, true))
		require.Equal(t, []int{45, 60}, times(t, r))
		require.Zero(t, r.Dropped(), "it missed nothing: it had not begun")
	})
}

func TestLiveStart(t *testing.T) {
	for name, c := range map[string]struct {
		cache Cache
		opts  SubscribeOptions
	}{
		"Live":      {Cache{}, SubscribeOptions{Live: true}},
		"Cache.Off": {Cache{Off: true}, SubscribeOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := Hub{Cache: c.cache}
				p := publish(t, &h, "live/a", nil, video)
				video25(t, p, 0, 15, 10)
				r := subscribe(t, &h, "live/a", &c.opts)
				video25(t, p, 15, 20, 10)
				require.Empty(t, times(t, r))
				video25(t, p, 20, 23, 10)
				require.Equal(t, []int{800, 840, 880}, times(t, r))
			})
		})
	}
}

func TestAudioOnlyStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/radio", nil, audio)
		early := subscribe(t, &h, "live/radio", nil)
		for at := 0; at < 60_000; at += 20 {
			write(t, p, frame(audio, at, false)) // not every demuxer calls audio frames key
			times(t, early)
		}
		require.LessOrEqual(t, p.Stream().held(), 50, "no more than a second is kept")
		late := subscribe(t, &h, "live/radio", nil)
		require.Equal(t, steps(59_000, 60_000, 20), times(t, late))
		live := subscribe(t, &h, "live/radio", &SubscribeOptions{Live: true})
		write(t, p, frame(audio, 60_000, false))
		require.Equal(t, []int{60_000}, times(t, live))
	})
}

// An encoder that announces video and sends none is heard all the same.
func TestAnnouncedVideoThatNeverComes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video, audio)
		early := subscribe(t, &h, "live/a", nil)
		var heard []int
		for at := 0; at < 20_000; at += 20 {
			write(t, p, frame(audio, at, true))
			heard = append(heard, times(t, early)...)
		}
		first := 20 * (videoGone - 1)
		require.Equal(t, steps(first, 20_000, 20), heard)
		late := subscribe(t, &h, "live/a", nil)
		require.Equal(t, steps(19_000+first%1000, 20_000, 20), times(t, late))

		write(t, p, frame(video, 20_000, true), frame(audio, 20_010, true))
		late = subscribe(t, &h, "live/a", nil)
		require.Equal(t, []int{20_000, 20_010}, times(t, late), "pictures lead again")
	})
}

// Between two slides the last one stays the start, however many audio frames pass.
func TestSlideStaysAccessPoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video, audio)
		write(t, p, frame(video, 0, true))
		for at := 20; at < 20_000; at += 20 {
			write(t, p, frame(audio, at, true))
		}
		late := subscribe(t, &h, "live/a", nil)
		got := times(t, late)
		require.Equal(t, 0, got[0])
		require.Len(t, got, 1000)
	})
}

func TestCacheBounds(t *testing.T) {
	const sec = time.Second
	for name, c := range map[string]struct {
		cache Cache
		want  int // frames held of one endless group of pictures at 25 Hz, 100 bytes each
	}{
		"frames": {Cache{Frames: 30}, 30},
		"bytes":  {Cache{Bytes: 2550}, 25},
		"time":   {Cache{Time: sec}, 26}, // its ends are a second apart
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := Hub{Cache: c.cache}
				p := publish(t, &h, "live/a", nil, video)
				s := p.Stream()
				video25(t, p, 0, c.want, 1e6)
				late := subscribe(t, &h, "live/a", nil)
				require.Len(t, times(t, late), c.want, "up to the bound a late joiner gets it all")

				video25(t, p, c.want, 500, 1e6)
				require.Equal(t, c.want, s.held())
				late = subscribe(t, &h, "live/a", nil)
				require.Empty(t, times(t, late), "the key frame is gone: wait for the next")
				write(t, p, frame(video, 40*500, true))
				require.Equal(t, []int{40 * 500}, times(t, late))
				require.Equal(t, 1, s.held())
			})
		})
	}
}

func TestCacheDefaults(t *testing.T) {
	require.Equal(t, Cache{Frames: 2500, Bytes: 32 << 20, Time: 30 * time.Second}, Cache{}.withDefaults())
	require.Equal(t, Cache{Frames: 1, Bytes: 2, Time: 3, Off: true}, Cache{1, 2, 3, true}.withDefaults())
}

// One frame larger than the whole cache passes through it.
func TestFrameLargerThanCache(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Cache: Cache{Bytes: 50}}
		p := publish(t, &h, "live/a", nil, video)
		r := subscribe(t, &h, "live/a", nil)
		for i := range 5 {
			write(t, p, frame(video, 40*i, true))
			require.Equal(t, []int{40 * i}, times(t, r))
			require.Equal(t, 1, p.Stream().held())
		}
	})
}

// What readers have not read yet is kept beyond the newest group of pictures,
// and let go when they have.
func TestCacheKeepsWhatReadersNeed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video)
		video25(t, p, 0, 1, 10)
		r := subscribe(t, &h, "live/a", nil)
		video25(t, p, 1, 55, 10)
		require.Equal(t, 55, p.Stream().held())
		require.Equal(t, steps(0, 55*40, 40), times(t, r))
		video25(t, p, 55, 61, 10)
		require.Equal(t, 6, p.Stream().held(), "55…59 are still unread")
		require.Equal(t, steps(55*40, 61*40, 40), times(t, r))
		video25(t, p, 61, 71, 10)
		require.Equal(t, 10, p.Stream().held())
	})
}

func TestRingGrowsAcrossItsEnd(t *testing.T) {
	r := ring{limits: Cache{Frames: 1000}.withDefaults()}
	for i := range 500 {
		r.append(frame(video, i, false), i%50 == 0)
		if i%50 == 0 && i < 300 {
			r.trim(r.head - 40)
		}
		for seq := r.tail; seq < r.head; seq++ {
			require.EqualValues(t, seq, r.at(seq).f.DTS/ms)
		}
	}
	bytes, media := r.lag(r.head - 11)
	require.EqualValues(t, 1000, bytes)
	require.Equal(t, 10*ms, media)
	bytes, media = r.lag(r.head)
	require.Zero(t, bytes)
	require.Zero(t, media)
}

// A reader that comes before the first frame misses nothing of what follows,
// however late its first Read is, as far as the cache allows.
func TestSleepyStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video)
		r := subscribe(t, &h, "live/a", nil)
		video25(t, p, 0, 25, 10)
		require.Equal(t, 25, p.Stream().held())
		require.Equal(t, steps(0, 1000, 40), times(t, r))
		require.Zero(t, r.Dropped())
	})
}
