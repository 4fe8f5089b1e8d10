package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSecondPublisherIsRefused(t *testing.T) {
	var h Hub
	p := publish(t, &h, "live/a", nil, video)
	_, err := h.Publish(t.Context(), "live/a", nil)
	require.ErrorIs(t, err, ErrBusy)
	write(t, p, frame(video, 0, true))
	require.NoError(t, p.Close())
	_, err = h.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err, "the name is free again")
}

func TestReplace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		var evicted []error
		a := publish(t, &h, "live/a", &PublishOptions{OnEvict: func(err error) { evicted = append(evicted, err) }}, video)
		r := subscribe(t, &h, "live/a", nil)
		write(t, a, frame(video, 5000, true), frame(video, 5040, false))
		require.Equal(t, []int{0, 40}, times(t, r))

		b := publish(t, &h, "live/a", &PublishOptions{Replace: true}, video)
		require.Same(t, a.Stream(), b.Stream())
		synctest.Wait()
		require.Equal(t, []error{ErrReplaced}, evicted)
		require.ErrorIs(t, a.Write(frame(video, 5080, false)), ErrReplaced)
		require.ErrorIs(t, a.SetTracks(video), ErrReplaced)
		a.SetMetadata(Metadata{"title": "from the grave"})
		require.Nil(t, b.Stream().Metadata())
		require.NoError(t, a.Close())

		write(t, b, frame(video, 77_000, true), frame(video, 77_040, false))
		got, err := drain(t, r)
		require.NoError(t, err)
		require.Equal(t, []int{80, 120}, dts(got), "one line of time")
		require.True(t, got[0].Discontinuity)
		require.False(t, got[1].Discontinuity)
		require.Len(t, evicted, 1)
	})
}

// Of many publishers at once exactly one wins; with Replace each gets the
// stream and all but the last one lose it again.
func TestPublishRace(t *testing.T) {
	for round := range 20 {
		var h Hub
		var wins, busy atomic.Int32
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				switch _, err := h.Publish(context.Background(), "live/a", nil); {
				case err == nil:
					wins.Add(1)
				case errors.Is(err, ErrBusy):
					busy.Add(1)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, wins.Load(), "round %d", round)
		require.EqualValues(t, 99, busy.Load())
	}
	var h Hub
	var replaced, alive atomic.Int32
	var all, evictions sync.WaitGroup
	evictions.Add(99)
	pubs := make(chan *Publisher, 100)
	for range 100 {
		all.Go(func() {
			p, err := h.Publish(context.Background(), "live/a", &PublishOptions{Replace: true, OnEvict: func(err error) {
				if errors.Is(err, ErrReplaced) {
					replaced.Add(1)
				}
				evictions.Done()
			}})
			if err != nil {
				t.Error(err)
				return
			}
			pubs <- p
		})
	}
	all.Wait()
	evictions.Wait()
	close(pubs)
	for p := range pubs {
		if p.SetTracks(video) == nil {
			alive.Add(1)
		}
	}
	require.EqualValues(t, 99, replaced.Load())
	require.EqualValues(t, 1, alive.Load())
}

// Close, eviction and the end of the stream at once: OnEvict is called at most
// once, and not at all by who closes first.
func TestEvictOnce(t *testing.T) {
	for range 200 {
		h := Hub{Grace: time.Hour}
		var evicted atomic.Int32
		p := publish(t, &h, "live/a", &PublishOptions{OnEvict: func(error) { evicted.Add(1) }}, video)
		s := p.Stream()
		var all sync.WaitGroup
		all.Go(func() { s.End(ErrKicked) })
		all.Go(func() { p.Close() })
		all.Go(func() { s.End(nil) })
		all.Go(func() { h.Publish(context.Background(), "live/a", &PublishOptions{Replace: true}) })
		all.Go(func() { p.Write(frame(video, 0, true)) })
		all.Wait()
		require.NoError(t, h.Close())
		require.LessOrEqual(t, evicted.Load(), int32(1))
	}
}

func TestWriteAfterTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*Hub, *Publisher)
		want error
		told bool
	}{
		"closed":     {func(_ *Hub, p *Publisher) { p.Close() }, ErrClosed, false},
		"kicked":     {func(_ *Hub, p *Publisher) { p.Stream().End(ErrKicked) }, ErrKicked, true},
		"ended":      {func(_ *Hub, p *Publisher) { p.Stream().End(nil) }, ErrClosed, true},
		"hub closed": {func(h *Hub, _ *Publisher) { h.Close() }, ErrClosed, true},
		"replaced": {func(h *Hub, _ *Publisher) {
			h.Publish(context.Background(), "live/a", &PublishOptions{Replace: true})
		}, ErrReplaced, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var h Hub
				var evicted []error
				p := publish(t, &h, "live/a", &PublishOptions{OnEvict: func(err error) { evicted = append(evicted, err) }}, video)
				write(t, p, frame(video, 0, true))
				c.end(&h, p)
				require.ErrorIs(t, p.Write(frame(video, 40, false)), c.want)
				require.ErrorIs(t, p.SetTracks(video), c.want)
				require.NoError(t, p.Close())
				p.Stream().End(ErrKicked)
				synctest.Wait()
				if c.told {
					require.Equal(t, []error{c.want}, evicted)
				} else {
					require.Empty(t, evicted)
				}
			})
		})
	}
}

func TestSetTracks(t *testing.T) {
	var h Hub
	p := publish(t, &h, "live/a", nil)
	require.Empty(t, p.Stream().Tracks())
	require.ErrorIs(t, p.Write(frame(video, 0, true)), errForeign)
	for _, bad := range [][]*Track{
		{nil}, {{Codec: H264}}, {{ID: 1}}, {{ID: 1, Codec: codecEnd}}, {video, {ID: 1, Codec: AAC}},
	} {
		require.Error(t, p.SetTracks(bad...))
	}
	require.NoError(t, p.SetTracks(video, audio))
	require.Equal(t, []*Track{video, audio}, p.Stream().Tracks())
	require.ErrorIs(t, p.Write(&Frame{}), errForeign)
	require.ErrorIs(t, p.Write(frame(&Track{ID: 1, Codec: H264, Config: []byte{1}}, 0, true)), errForeign, "an equal track is not the one in force")
	write(t, p, frame(video, 0, true))
}

// A frame of the old track is refused once another is in force, and late
// joiners are told of those in force.
func TestTrackChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video, audio)
		r := subscribe(t, &h, "live/a", nil)
		write(t, p, frame(video, 0, true), frame(audio, 10, true))
		larger := &Track{ID: 1, Codec: H264, Config: []byte{2}}
		require.NoError(t, p.SetTracks(larger, audio))
		require.ErrorIs(t, p.Write(frame(video, 40, false)), errForeign)
		write(t, p, frame(audio, 30, true), frame(larger, 80, true))
		require.NoError(t, p.SetTracks(audio)) // the picture goes …
		write(t, p, frame(audio, 100, true))
		hevc := &Track{ID: 1, Codec: H265, Config: []byte{3}}
		require.NoError(t, p.SetTracks(hevc, audio)) // … and another comes
		write(t, p, frame(hevc, 160, true))

		require.Equal(t, []int{0, 10, 30, 80, 100, 160}, times(t, r))
		require.Equal(t, []*Track{hevc, audio}, r.Tracks())
		late := subscribe(t, &h, "live/a", nil)
		require.Equal(t, []*Track{hevc, audio}, late.Tracks())
	})
}

// A change of configuration reaches readers in order, by the pointer in the frames.
func TestTrackChangeInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video, audio)
		write(t, p, frame(video, 0, true))
		r := subscribe(t, &h, "live/a", nil)
		want := []*Track{video}
		v := video
		for i := 1; i < 40; i++ {
			if i%7 == 0 {
				v = &Track{ID: 1, Codec: H264, Config: []byte{byte(i)}}
				require.NoError(t, p.SetTracks(v, audio))
			}
			write(t, p, frame(v, 40*i, i%7 == 0), frame(audio, 40*i+10, true))
			want = append(want, v, audio)
		}
		got, err := drain(t, r)
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for i, f := range got {
			require.Same(t, want[i], f.Track, "frame %d", i)
		}
	})
}

func TestWriteFillsInTimes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/a", nil, video)
		f, captured := frame(video, 0, true), frame(video, 40, false)
		captured.Time = time.Unix(1, 0)
		write(t, p, f, captured)
		require.Equal(t, time.Now(), f.Time)
		require.Equal(t, time.Now(), f.Arrived())
		require.Equal(t, time.Unix(1, 0), captured.Time)
		require.Equal(t, time.Now(), captured.Arrived())
	})
}

func TestMetadata(t *testing.T) {
	var h Hub
	p := publish(t, &h, "live/a", nil, video)
	r := subscribe(t, &h, "live/a", nil)
	defer r.Close()
	require.Nil(t, r.Metadata())
	p.SetMetadata(Metadata{"title": "a"})
	require.Equal(t, Metadata{"title": "a"}, r.Metadata())
}

func TestNamesRefused(t *testing.T) {
	var h Hub
	for _, bad := range []string{
		"", "live/..", "../a", "live/a\x00b", "live/%2e%2e", `live\a`, "live/_hls", "live//a", "/live/a",
		"live/\xff", strings.Repeat("x", 300), "live/a\nb",
	} {
		_, err := h.Publish(t.Context(), bad, nil)
		require.ErrorIs(t, err, ErrName, "%q", bad)
		_, err = h.Subscribe(t.Context(), bad, &SubscribeOptions{Wait: time.Hour})
		require.ErrorIs(t, err, ErrName, "%q", bad)
	}
	require.Empty(t, h.streams)
	require.Empty(t, h.awaited)
}

func TestPublishContext(t *testing.T) {
	var h Hub
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.Publish(ctx, "live/a", nil)
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, h.Stream("live/a"))
}

func TestHubStreams(t *testing.T) {
	var h Hub
	for i := range 3 {
		publish(t, &h, fmt.Sprintf("live/%d", i), nil, video)
	}
	names := map[string]bool{}
	for s := range h.Streams() {
		names[s.Name()] = true
		require.Same(t, s, h.Stream(s.Name()))
		require.True(t, s.Publishing())
		require.NotZero(t, s.Started())
		s.End(nil) // in the loop: nothing is locked
	}
	require.Len(t, names, 3)
	for range h.Streams() {
		t.Fatal("all have ended")
	}
}

func TestHubClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Grace: time.Minute}
		p := publish(t, &h, "live/a", nil, video)
		lost := publish(t, &h, "live/lost", nil, video)
		r, orphan := subscribe(t, &h, "live/a", nil), subscribe(t, &h, "live/lost", nil)
		write(t, p, frame(video, 0, true))
		require.NoError(t, lost.Close())
		waited := make(chan error, 1)
		go func() {
			_, err := h.Subscribe(context.Background(), "live/none", &SubscribeOptions{Wait: time.Hour})
			waited <- err
		}()
		synctest.Wait()
		require.NoError(t, h.Close())
		require.ErrorIs(t, <-waited, ErrClosed)
		got, err := drain(t, r)
		require.Equal(t, []int{0}, dts(got))
		require.Equal(t, io.EOF, err)
		_, err = drain(t, orphan)
		require.Equal(t, io.EOF, err)
		_, err = h.Publish(t.Context(), "live/a", nil)
		require.ErrorIs(t, err, ErrClosed)
		_, err = h.Subscribe(t.Context(), "live/a", nil)
		require.ErrorIs(t, err, ErrClosed)
		require.NoError(t, h.Close())
	})
}
