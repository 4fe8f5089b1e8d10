package turnapi

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"time"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/turn"
)

// events writes a line for every event until the client goes.
func (h *Handler) events(c *rest.Call) {
	ctl := http.NewResponseController(c.W)
	_ = ctl.SetWriteDeadline(time.Time{}) // it has no end of its own
	ctx := c.R.Context()
	if !c.Caller.Expires.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.Caller.Expires)
		defer cancel()
	}
	c.W.Header().Set("Content-Type", "application/x-ndjson")
	events := h.Server.Events(ctx)
	c.W.WriteHeader(http.StatusOK)
	if ctl.Flush() != nil || c.R.Method == http.MethodHead {
		return
	}
	out := json.NewEncoder(c.W)
	for e := range events {
		if out.Encode(map[string]any{eventName(e): e}) != nil || ctl.Flush() != nil {
			return
		}
	}
}

// EventKinds are what Events calls the events.
func EventKinds() []string {
	return []string{"turn_created", "turn_failed", "turn_refreshed", "turn_moved", "turn_ended", "turn_lost"}
}

// Events yields the server's events from now on with their kinds until ctx ends:
// a mediaapi.EventSource, so that one stream of events has all.
func (h *Handler) Events(ctx context.Context) iter.Seq2[string, any] {
	events := h.Server.Events(ctx)
	return func(yield func(string, any) bool) {
		for e := range events {
			if !yield("turn_"+eventName(e), e) {
				return
			}
		}
	}
}

// eventName is the key under which an event stands in its line.
func eventName(e turn.Event) string {
	switch e.(type) {
	case turn.AllocationCreated:
		return "created"
	case turn.AllocationFailed:
		return "failed"
	case turn.AllocationRefreshed:
		return "refreshed"
	case turn.AllocationMoved:
		return "moved"
	case turn.AllocationEnded:
		return "ended"
	case turn.EventsLost:
		return "lost"
	}
	return "other"
}
