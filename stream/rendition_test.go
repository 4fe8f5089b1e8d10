package stream

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var opusTrack = &Track{ID: 2, Codec: Opus, Rate: 48000, Channels: 2}

// echoing makes renditions that say what the source says, in their own words,
// and counts how often it runs.
func echoing(runs, running *atomic.Int32, names ...string) *Derivation {
	d := &Derivation{Linger: time.Second}
	for _, name := range names {
		d.Renditions = append(d.Renditions, RenditionInfo{Name: name, Tracks: []*Track{opusTrack}})
	}
	d.Make = func(ctx context.Context, src *Subscriber, outs []*Publisher) error {
		runs.Add(1)
		running.Add(1)
		defer running.Add(-1)
		for _, p := range outs {
			if err := p.SetTracks(opusTrack); err != nil {
				return err
			}
		}
		for f, err := range src.Frames(ctx) {
			if err != nil {
				return err
			}
			for _, p := range outs {
				if err := p.Write(&Frame{Track: opusTrack, DTS: f.DTS, PTS: f.PTS, Key: true, Data: f.Data}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return d
}

func TestRendition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Grace: time.Minute}
		told := listen(t.Context(), &h)
		p := publish(t, &h, "live/a", nil, audio)
		s := p.Stream()
		var runs, running atomic.Int32
		remove, err := s.Derive(echoing(&runs, &running, "opus", "low"))
		require.NoError(t, err)
		require.Len(t, s.Renditions(), 2)
		require.Nil(t, s.Rendition("none"))
		opus := s.Rendition("opus")
		require.Equal(t, []*Track{opusTrack}, opus.Tracks())

		write(t, p, frame(audio, 500, true), frame(audio, 520, true))
		synctest.Wait()
		require.Zero(t, runs.Load(), "nobody reads")
		r := subscribe(t, &h, "live/a", &SubscribeOptions{Rendition: "opus"})
		synctest.Wait()
		require.Equal(t, []int{0, 20}, times(t, r), "the source's times, which the hub set to begin at 0")
		require.Equal(t, "live/a", r.Stream().Name())
		low, err := s.Rendition("low").Subscribe(nil)
		require.NoError(t, err)
		require.EqualValues(t, 1, runs.Load(), "one run makes both")
		write(t, p, frame(audio, 540, true))
		synctest.Wait()
		require.Equal(t, []int{40}, times(t, r))
		n := 0
		for range h.Streams() {
			n++
		}
		require.Equal(t, 1, n, "a rendition is not a stream of the hub")

		r.Close()
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 1, running.Load(), "somebody reads the other")
		low.Close()
		time.Sleep(500 * time.Millisecond)
		require.EqualValues(t, 1, running.Load())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Zero(t, running.Load())

		r = subscribe(t, &h, "live/a", &SubscribeOptions{Rendition: "opus"})
		synctest.Wait()
		require.EqualValues(t, 2, runs.Load())
		s.End(nil)
		synctest.Wait()
		_, err = drain(t, r)
		require.ErrorIs(t, err, io.EOF)
		require.Zero(t, running.Load())
		_, err = opus.Subscribe(nil)
		require.ErrorIs(t, err, ErrNotFound)
		_, err = s.Derive(echoing(&runs, &running, "late"))
		require.ErrorIs(t, err, ErrClosed)
		remove()
		h.Close()
		synctest.Wait()
		require.Equal(t, []string{"started live/a ", "tracks live/a 1", "renditions live/a", "ended live/a <nil> 3", "end"}, *told)
	})
}

func TestRenditionRemoved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		defer h.Close()
		p := publish(t, &h, "live/a", nil, audio)
		var runs, running atomic.Int32
		remove, err := p.Stream().Derive(echoing(&runs, &running, "opus"))
		require.NoError(t, err)
		r := subscribe(t, &h, "live/a", &SubscribeOptions{Rendition: "opus"})
		synctest.Wait()
		old := p.Stream().Renditions()
		remove()
		synctest.Wait()
		_, err = drain(t, r)
		require.ErrorIs(t, err, io.EOF)
		require.Zero(t, running.Load())
		require.Empty(t, p.Stream().Renditions())
		require.NotNil(t, old[0], "what was handed out stays as it is")
		_, err = old[0].Subscribe(nil)
		require.ErrorIs(t, err, ErrNotFound)
		_, err = h.Subscribe(t.Context(), "live/a", &SubscribeOptions{Rendition: "opus"})
		require.ErrorIs(t, err, ErrNotFound)
	})
}

// What makes a rendition may fail; the next reader starts it anew.
func TestRenditionFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		defer h.Close()
		p := publish(t, &h, "live/a", nil, audio)
		fail := true
		var runs, running atomic.Int32
		d := echoing(&runs, &running, "opus")
		well := d.Make
		d.Make = func(ctx context.Context, src *Subscriber, outs []*Publisher) error {
			if fail {
				return errors.New("no such encoder")
			}
			return well(ctx, src, outs)
		}
		_, err := p.Stream().Derive(d)
		require.NoError(t, err)
		r := subscribe(t, &h, "live/a", &SubscribeOptions{Rendition: "opus"})
		synctest.Wait()
		_, err = drain(t, r)
		require.ErrorIs(t, err, io.EOF)
		fail = false
		r = subscribe(t, &h, "live/a", &SubscribeOptions{Rendition: "opus"})
		write(t, p, frame(audio, 0, true))
		synctest.Wait()
		require.Equal(t, []int{0}, times(t, r))
	})
}

func TestDeriveRefuses(t *testing.T) {
	var h Hub
	defer h.Close()
	s := publish(t, &h, "live/a", nil, audio).Stream()
	nothing := func(context.Context, *Subscriber, []*Publisher) error { return nil }
	_, err := s.Derive(&Derivation{Make: nothing, Renditions: []RenditionInfo{{Name: "opus"}}})
	require.NoError(t, err)
	for name, d := range map[string]*Derivation{
		"no Make":       {Renditions: []RenditionInfo{{Name: "a"}}},
		"nothing":       {Make: nothing},
		"no name":       {Make: nothing, Renditions: []RenditionInfo{{}}},
		"a slash":       {Make: nothing, Renditions: []RenditionInfo{{Name: "a/b"}}},
		"taken":         {Make: nothing, Renditions: []RenditionInfo{{Name: "opus"}}},
		"twice at once": {Make: nothing, Renditions: []RenditionInfo{{Name: "a"}, {Name: "a"}}},
	} {
		_, err := s.Derive(d)
		require.ErrorIs(t, err, errRendition, name)
	}
	require.Len(t, s.Renditions(), 1)
}

// Who reads a rendition can have a key frame of it, from what makes it or from the
// stream's publisher, and what is known of it may change.
func TestRenditionKeyAndInfo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		defer h.Close()
		asked := ""
		p := publish(t, &h, "live/a", &PublishOptions{OnKeyRequest: func() { asked += "source " }}, audio)
		var runs, running atomic.Int32
		_, err := p.Stream().Derive(echoing(&runs, &running, "opus"))
		require.NoError(t, err)
		low := echoing(&runs, &running, "low", "lower")
		bandwidth := int64(1000)
		low.OnKeyRequest = func(name string) { asked += name + " " }
		low.Info = func(string) RenditionInfo { return RenditionInfo{Bandwidth: bandwidth, Idle: bandwidth == 0} }
		_, err = p.Stream().Derive(low)
		require.NoError(t, err)
		for _, name := range []string{"opus", "low", "lower"} {
			subscribe(t, &h, "live/a", &SubscribeOptions{Rendition: name}).Stream().RequestKey()
		}
		require.Equal(t, "source low lower ", asked)
		require.Equal(t, RenditionInfo{Name: "low", Bandwidth: 1000}, p.Stream().Rendition("low").Info())
		bandwidth = 0
		require.True(t, p.Stream().Rendition("low").Info().Idle)
		require.Equal(t, "opus", p.Stream().Rendition("opus").Info().Name)
	})
}
