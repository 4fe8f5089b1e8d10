package mediaapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// An eventInfo is an event; its fields are those that its kind has.
type eventInfo struct {
	Time        time.Time    `json:"time,omitzero"`
	Stream      string       `json:"stream,omitempty"`
	SessionID   string       `json:"session_id,omitempty"` // of the publisher
	Tracks      []trackInfo  `json:"tracks,omitempty"`
	Session     *sessionInfo `json:"session,omitempty"`
	StreamStats *endedStream `json:"stats,omitempty"`
	Reason      string       `json:"reason,omitempty"`
	Lost        int          `json:"count,omitempty"`
}

// An endedStream is what a stream came to.
type endedStream struct {
	Frames        uint64  `json:"frames"`
	Bytes         uint64  `json:"bytes"`
	DroppedFrames uint64  `json:"dropped_frames"`
	Duration      float64 `json:"duration"` // seconds
}

// eventKinds are the names of the events.
var eventKinds = []string{
	"stream_started", "publisher_changed", "tracks_changed", "stream_ended", "session_opened", "session_closed", "events_lost",
}

// describeEvent returns the name of an event, "" if it has none, and what it
// says.
func describeEvent(e stream.Event) (kind string, info eventInfo) {
	switch e := e.(type) {
	case stream.StreamStarted:
		return eventKinds[0], eventInfo{Time: e.Time, Stream: e.Stream, SessionID: e.Session}
	case stream.PublisherChanged:
		return eventKinds[1], eventInfo{Time: e.Time, Stream: e.Stream, SessionID: e.Session}
	case stream.TracksChanged:
		info := eventInfo{Time: e.Time, Stream: e.Stream, Tracks: []trackInfo{}}
		for _, t := range e.Tracks {
			info.Tracks = append(info.Tracks, describeTrack(t))
		}
		return eventKinds[2], info
	case stream.StreamEnded:
		return eventKinds[3], eventInfo{Time: e.Time, Stream: e.Stream, Reason: reason(e.Err), StreamStats: &endedStream{
			e.Stats.Frames, e.Stats.Bytes, e.Stats.Dropped, e.Stats.Uptime.Seconds(),
		}}
	case stream.SessionOpened:
		return eventKinds[4], eventInfo{Time: e.Time, Stream: e.Session.Stream, Session: &sessionInfo{SessionInfo: e.Session}}
	case stream.SessionClosed:
		return eventKinds[5], eventInfo{
			Time: e.Time, Stream: e.Session.Stream, Session: &sessionInfo{e.Session, figuresOf(e.Stats)}, Reason: reason(e.Err),
		}
	case stream.EventsLost:
		return eventKinds[6], eventInfo{Lost: e.Count}
	}
	return "", info
}

// reason is a word for an error, "" for none. The text of errors is for the
// log.
func reason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, stream.ErrKicked):
		return "kicked"
	case errors.Is(err, stream.ErrReplaced):
		return "replaced"
	case errors.Is(err, stream.ErrSlow):
		return "slow"
	case errors.Is(err, auth.ErrDenied):
		return "denied"
	case errors.Is(err, stream.ErrClosed):
		return "closed"
	}
	return "error"
}

// maxEventTime bounds how long a client may take for what is sent at once.
const maxEventTime = 10 * time.Second

// events sends events until the client goes, or its right ends.
func (h *Handler) events(c *call) {
	q, ok := c.query("stream", "type")
	if !ok {
		return
	}
	var kinds []string
	if s := q.Get("type"); s != "" {
		kinds = strings.Split(s, ",")
		for _, k := range kinds {
			if !slices.Contains(eventKinds, k) {
				c.refuse(http.StatusBadRequest, "types are "+strings.Join(eventKinds, ", "))
				return
			}
		}
	}
	most := int64(h.MaxEvents)
	if most <= 0 {
		most = 64
	}
	defer h.following.Add(-1)
	if h.following.Add(1) > most {
		c.w.Header().Set("Retry-After", "10")
		c.refuse(http.StatusServiceUnavailable, "too many follow the events already")
		return
	}
	if c.r.Method == http.MethodHead {
		c.w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	ctx := c.r.Context()
	if !c.caller.Expires.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.caller.Expires)
		defer cancel()
	}
	h.follow(ctx, c, func(kind string, info eventInfo) bool {
		return kind == "events_lost" || (kinds == nil || slices.Contains(kinds, kind)) &&
			(q.Get("stream") == "" || info.Stream == q.Get("stream"))
	})
}

// follow sends the events that are wanted.
func (h *Handler) follow(ctx context.Context, c *call, wanted func(string, eventInfo) bool) {
	ctx, cancel := context.WithCancel(ctx)
	events := h.Hub.Events(ctx)
	ready := make(chan stream.Event)
	var done sync.WaitGroup
	defer done.Wait()
	defer cancel()
	done.Go(func() {
		defer close(ready)
		for e := range events {
			select {
			case ready <- e:
			case <-ctx.Done():
				return
			}
		}
	})

	control := http.NewResponseController(c.w)
	send := func(b []byte) bool {
		_ = control.SetWriteDeadline(time.Now().Add(maxEventTime))
		_, err := c.w.Write(b)
		return err == nil && control.Flush() == nil
	}
	c.w.Header().Set("Content-Type", "text/event-stream")
	c.w.Header().Set("X-Accel-Buffering", "no") // a proxy that buffers would keep them back
	// Whoever reads this and then asks for the lists misses nothing.
	if !send([]byte("retry: 3000\n: connected\n\n")) {
		return
	}
	ping := time.NewTicker(h.pingEvery)
	defer ping.Stop()
	var b bytes.Buffer
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.closed:
			return
		case <-ping.C:
			if !send([]byte(": ping\n\n")) {
				return
			}
		case e, ok := <-ready:
			if !ok {
				return // the hub is closed
			}
			kind, info := describeEvent(e)
			if kind == "" || !wanted(kind, info) {
				continue
			}
			data, err := json.Marshal(info) // one line, since JSON escapes line ends
			if err != nil {
				continue
			}
			b.Reset()
			b.WriteString("event: " + kind + "\ndata: ")
			b.Write(data)
			b.WriteString("\n\n")
			if !send(b.Bytes()) {
				return
			}
		}
	}
}
