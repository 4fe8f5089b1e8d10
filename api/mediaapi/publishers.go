package mediaapi

import (
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/stream"
)

// A publisherInfo is who sends a stream in; Session is nil if this program
// itself does.
type publisherInfo struct {
	Stream  string          `json:"stream"`
	Since   time.Time       `json:"since"`
	Session *sessionInfo    `json:"session"`
	BitRate stream.BitRates `json:"bit_rate"`
}

type publisherList struct {
	Publishers []publisherInfo `json:"publishers"`
	Total      int             `json:"total"`
	Next       string          `json:"next,omitempty"`
}

func (h *Handler) listPublishers(c *rest.Call) {
	q, ok := c.Query("prefix", "after", "limit")
	if !ok {
		return
	}
	limit, ok := c.Limit(q)
	if !ok {
		return
	}
	all := h.all(func(k known) bool {
		return k.live != nil && k.live.Publishing() && strings.HasPrefix(k.name, q.Get("prefix"))
	})
	page, next := rest.Page(all, func(k known) string { return k.name }, q.Get("after"), limit)
	list := publisherList{Publishers: []publisherInfo{}, Total: len(all), Next: next}
	p := h.peers()
	for _, k := range page {
		info := publisherInfo{Stream: k.name, Since: k.live.Started(), BitRate: k.live.Stats().BitRate}
		if session := p.publishers[k.name]; session != nil {
			si := describeSession(session)
			info.Session, info.Since = &si, si.Started
		}
		list.Publishers = append(list.Publishers, info)
	}
	c.Answer(list)
}
