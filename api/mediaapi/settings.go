package mediaapi

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/runnel-media/runnel/api/internal/rest"
)

// A Setting is something that can change while the server runs. Both functions
// may be called from many goroutines at once.
type Setting struct {
	Get func() any                  // what it is, for encoding/json
	Set func(json.RawMessage) error // changes it; the error is for the caller. nil: it can be read only
}

// Live makes a Setting of a value that is read and replaced as a whole. JSON
// that does not fit T, or has fields that T has not, is refused.
func Live[T any](get func() T, set func(T) error) Setting {
	return Setting{
		Get: func() any { return get() },
		Set: func(text json.RawMessage) error {
			var v T
			if err := rest.Decode(bytes.NewReader(text), &v); err != nil {
				return err
			}
			return set(v)
		},
	}
}

// config is what all the settings are.
func (h *Handler) config() map[string]any {
	all := map[string]any{}
	for name, s := range h.Settings {
		all[name] = s.Get()
	}
	return all
}

func (h *Handler) getConfig(c *rest.Call) {
	if _, ok := c.Query(); ok {
		c.Answer(h.config())
	}
}

// patchConfig changes the settings that the body names, all or none.
func (h *Handler) patchConfig(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	var body map[string]json.RawMessage
	if !c.Read(&body) {
		return
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	if !c.Unchanged(h.config()) {
		return
	}
	for _, name := range sortedKeys(body) {
		if h.Settings[name].Set == nil {
			c.Refuse(http.StatusUnprocessableEntity, "no setting of that name can be changed; GET tells which there are")
			return
		}
	}
	var undo []func()
	for _, name := range sortedKeys(body) {
		s := h.Settings[name]
		old, err := json.Marshal(s.Get())
		if err == nil {
			err = s.Set(body[name])
		}
		if err != nil {
			for _, f := range undo {
				f()
			}
			c.Refuse(http.StatusUnprocessableEntity, name+": "+err.Error())
			return
		}
		undo = append(undo, func() { _ = s.Set(old) }) // it was valid
		c.More = append(c.More, name, string(body[name]))
	}
	c.Answer(h.config())
}

// A logLevel is the least level that is logged.
type logLevel struct {
	Level slog.Level `json:"level"`
}

func (h *Handler) getLogLevel(c *rest.Call) {
	if h.LogLevel == nil {
		c.Refuse(http.StatusNotFound, "the log level cannot be changed here")
		return
	}
	c.Answer(logLevel{h.LogLevel.Level()})
}

func (h *Handler) putLogLevel(c *rest.Call) {
	if h.LogLevel == nil {
		c.Refuse(http.StatusNotFound, "the log level cannot be changed here")
		return
	}
	var body struct {
		Level *slog.Level `json:"level"`
	}
	if !c.Read(&body) {
		return
	}
	if body.Level == nil {
		c.Refuse(http.StatusUnprocessableEntity, "level is debug, info, warn or error")
		return
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	if !c.Unchanged(logLevel{h.LogLevel.Level()}) {
		return
	}
	h.LogLevel.Set(*body.Level)
	c.More = []any{"to", *body.Level}
	c.Answer(logLevel{h.LogLevel.Level()})
}
