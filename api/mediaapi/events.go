package mediaapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/api/internal/rest"
)

// maxEventTime bounds how long a client may take for what is sent at once.
const maxEventTime = 10 * time.Second

// events sends events until the client goes, or its right ends.
func (h *Handler) events(c *rest.Call) {
	q, ok := c.Query("stream", "type")
	if !ok {
		return
	}
	known := slices.Clone(eventKinds)
	for _, s := range h.Events {
		known = append(known, s.Kinds...)
	}
	var kinds []string
	if s := q.Get("type"); s != "" {
		kinds = strings.Split(s, ",")
		for _, k := range kinds {
			if !slices.Contains(known, k) {
				c.Refuse(http.StatusBadRequest, "types are "+strings.Join(known, ", "))
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
		c.W.Header().Set("Retry-After", "10")
		c.Refuse(http.StatusServiceUnavailable, "too many follow the events already")
		return
	}
	if c.R.Method == http.MethodHead {
		c.W.Header().Set("Content-Type", "text/event-stream")
		return
	}
	ctx := c.R.Context()
	if !c.Caller.Expires.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.Caller.Expires)
		defer cancel()
	}
	h.follow(ctx, c, func(e event) bool {
		return e.kind == eventsLost || (kinds == nil || slices.Contains(kinds, e.kind)) &&
			(q.Get("stream") == "" || e.stream == q.Get("stream"))
	})
}

// An event is what is sent.
type event struct {
	kind, stream string
	info         any
}

// listen hands on the events of the hub and those of the other sources until ctx
// ends. The first channel is closed when the hub is.
func (h *Handler) listen(ctx context.Context, done *sync.WaitGroup) (hub, others <-chan event) {
	fromHub, fromOthers := make(chan event), make(chan event)
	hand := func(to chan event, e event) bool {
		select {
		case to <- e:
			return true
		case <-ctx.Done():
			return false
		}
	}
	events := h.Hub.Events(ctx)
	done.Go(func() {
		defer close(fromHub)
		for e := range events {
			kind, info := describeEvent(e)
			if kind != "" && !hand(fromHub, event{kind, info.Stream, info}) {
				return
			}
		}
	})
	for _, s := range h.Events {
		more := s.Listen(ctx)
		done.Go(func() {
			for kind, info := range more {
				if !hand(fromOthers, event{kind, "", info}) {
					return
				}
			}
		})
	}
	return fromHub, fromOthers
}

// follow sends the events that are wanted.
func (h *Handler) follow(ctx context.Context, c *rest.Call, wanted func(event) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	defer done.Wait()
	defer cancel()
	hub, others := h.listen(ctx, &done)

	control := http.NewResponseController(c.W)
	send := func(b []byte) bool {
		_ = control.SetWriteDeadline(time.Now().Add(maxEventTime))
		_, err := c.W.Write(b)
		return err == nil && control.Flush() == nil
	}
	c.W.Header().Set("Content-Type", "text/event-stream")
	c.W.Header().Set("X-Accel-Buffering", "no") // a proxy that buffers would keep them back
	// Whoever reads this and then asks for the lists misses nothing.
	if !send([]byte("retry: 3000\n: connected\n\n")) {
		return
	}
	ping := time.NewTicker(h.pingEvery)
	defer ping.Stop()
	for {
		var e event
		open := true
		select {
		case <-ctx.Done():
			return
		case <-h.closed:
			return
		case <-ping.C:
			if !c.Still() || !send([]byte(": ping\n\n")) { // the token may have been revoked
				return
			}
			continue
		case e, open = <-hub:
			if !open {
				return // it is closed
			}
		case e = <-others:
		}
		if wanted(e) && !send(e.text()) {
			return
		}
	}
}

// text is the event as it is sent; nil if it cannot be.
func (e event) text() []byte {
	data, err := json.Marshal(e.info) // one line, since JSON escapes line ends
	if err != nil {
		return nil
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", e.kind, data)
}
