package stream

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/events"
)

// brief names an event and what it is about.
func brief(e Event) string {
	switch e := e.(type) {
	case StreamStarted:
		return "started " + e.Stream + " " + e.Session
	case PublisherChanged:
		return "changed " + e.Stream + " " + e.Session
	case TracksChanged:
		return fmt.Sprintf("tracks %s %d", e.Stream, len(e.Tracks))
	case RenditionsChanged:
		return "renditions " + e.Stream
	case StreamEnded:
		return fmt.Sprintf("ended %s %v %d", e.Stream, e.Err, e.Stats.Frames)
	case SessionOpened:
		return "opened " + e.Session.ID
	case SessionClosed:
		return fmt.Sprintf("closed %s %v %d", e.Session.ID, e.Err, e.Stats.BytesIn)
	case EventsLost:
		return fmt.Sprintf("lost %d", e.Count)
	}
	return "?"
}

// listen collects the events of h until ctx ends.
func listen(ctx context.Context, h *Hub) *[]string {
	got := new([]string)
	events := h.Events(ctx)
	go func() {
		for e := range events {
			*got = append(*got, brief(e))
		}
		*got = append(*got, "end")
	}()
	return got
}

func TestEventsInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := Hub{Grace: time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		a, b := listen(ctx, &h), listen(t.Context(), &h)

		s := h.OpenSession(SessionInfo{ID: "s1", Role: RolePublish, Stream: "live/a"}, nil)
		p := publish(t, &h, "live/a", &PublishOptions{Session: s}, video)
		require.Same(t, s, p.Session())
		write(t, p, frame(video, 0, true))
		s.AddIn(100)
		p.Close()
		s.Close(nil)
		p = publish(t, &h, "live/a", nil, video, audio)
		publish(t, &h, "live/a", &PublishOptions{Replace: true}, audio)
		p.Stream().End(ErrKicked)
		synctest.Wait()
		want := []string{
			"opened s1", "started live/a s1", "tracks live/a 1", "closed s1 <nil> 100",
			"changed live/a ", "tracks live/a 2", "changed live/a ", "tracks live/a 1",
			"ended live/a " + ErrKicked.Error() + " 1",
		}
		require.Equal(t, want, *a)
		require.Equal(t, want, *b)

		cancel()
		synctest.Wait()
		publish(t, &h, "live/b", nil)
		synctest.Wait()
		require.Equal(t, append(want, "end"), *a, "nothing comes after the end of ctx")
		require.Equal(t, 1, h.events.Listeners())
		h.Close()
		synctest.Wait()
		require.Equal(t, append(want, "started live/b ", "tracks live/b 0", "ended live/b "+ErrClosed.Error()+" 0", "end"), *b)
		require.Zero(t, h.events.Listeners())

		require.Equal(t, []string{"end"}, func() []string {
			got := listen(t.Context(), &h)
			synctest.Wait()
			return *got
		}(), "a closed hub has no events")
	})
}

// A successor's StreamStarted comes after the StreamEnded of the stream before.
func TestEndedBeforeStarted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		got := listen(t.Context(), &h)
		stop := make(chan struct{})
		for range 8 {
			go func() {
				for {
					select {
					case <-stop:
						return
					default:
						if p, err := h.Publish(context.Background(), "live/a", nil); err == nil {
							p.Close()
						}
						time.Sleep(ms)
					}
				}
			}()
		}
		time.Sleep(300 * ms)
		close(stop)
		time.Sleep(10 * ms)
		h.Close()
		synctest.Wait()
		all := (*got)[:len(*got)-1]
		require.Greater(t, len(all), 100)
		for i, e := range all {
			require.Equal(t, []string{"started live/a ", "ended live/a <nil> 0"}[i%2], e)
		}
	})
}

func TestSlowListenerLosesEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		told := h.Events(t.Context())
		for i := range events.Backlog + 10 {
			h.OpenSession(SessionInfo{ID: fmt.Sprint(i)}, nil)
		}
		n := 0
		for e := range told {
			if n == events.Backlog {
				require.Equal(t, EventsLost{Count: 10}, e, "after those that it got")
				break
			}
			require.Equal(t, fmt.Sprint("opened ", n), brief(e))
			n++
		}
		require.Zero(t, h.events.Listeners(), "leaving the loop ends it")
	})
}
