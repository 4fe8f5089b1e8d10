// Package mediaprom shows what goes through a stream.Hub to Prometheus. It is
// apart from api/prom, so that a host with TURN alone links no media code.
package mediaprom

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/stream"
)

// Media collects the figures of a stream.Hub. It is a prometheus.Collector:
// register it with a registry of the host, or take its Handler, and Run it, for
// it must see the sessions that come and go between two scrapes. Its fields must
// not change afterwards.
type Media struct {
	Hub *stream.Hub
	// MaxStreams bounds the series by stream: those that have been live the
	// longest have theirs, the others are but counted. 0: 1000; negative:
	// none.
	MaxStreams int
	// MaxKinds bounds the series by protocol and role; what comes after is
	// "other". There are as many protocols as the host's servers name. 0: 64.
	MaxKinds int
	// Limits are in the Handler too; nil: there are none.
	Limits *limit.Limiter
	// Also are further collectors of the Handler, such as SRT.
	Also []prometheus.Collector

	mu       sync.Mutex
	running  bool
	sessions map[string]seen // that are open
	lost     bool            // events were: sessions may have closed unseen
	kinds    map[kind]*totals
	first    map[string]*histogram // by protocol: players' time to first frame
	stalled  map[string]*histogram // by protocol: stalls of players' sessions that have ended
	started  uint64                // streams
	missed   uint64                // events
	recorded recordings
}

// recordings are what the recordings came to so far.
type recordings struct {
	started, complete, cut uint64
	bytes                  uint64 // of those that have ended
	failures               uint64 // of the storage
}

var _ prometheus.Collector = (*Media)(nil)

// A kind is the labels of a session.
type kind struct{ protocol, role string }

// totals are what the sessions of a kind came to so far.
type totals struct {
	opened, closed         uint64
	open                   int
	in, out, unsent, skips uint64
}

// seen is how far the figures of an open session are in the totals.
type seen struct {
	kind  kind
	stats stream.SessionStats
}

// A histogram counts what is observed, as Prometheus wants it: cumulated.
type histogram struct {
	bounds []float64
	counts []uint64
	count  uint64
	sum    float64
}

var (
	// firstBounds are the bounds of the time to first frame, in seconds.
	firstBounds = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30}
	// stallBounds are those of a session's stalls.
	stallBounds = []float64{0, 1, 2, 5, 10, 20, 50, 100}
)

// observe counts v in the histogram of a protocol, which it makes.
func observe(by map[string]*histogram, protocol string, bounds []float64, v float64) {
	h := by[protocol]
	if h == nil {
		h = &histogram{bounds: bounds, counts: make([]uint64, len(bounds))}
		by[protocol] = h
	}
	for i, bound := range h.bounds {
		if v <= bound {
			h.counts[i]++
		}
	}
	h.count++
	h.sum += v
}

// Handler serves the metrics, with those of the Go runtime and the process, out
// of a registry of its own.
func (m *Media) Handler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if m.Limits != nil {
		r.MustRegister(Limits{m.Limits})
	}
	r.MustRegister(m.Also...)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// Run follows the hub until ctx ends or the hub is closed. Without it the
// counters know of what is open at a scrape only.
func (m *Media) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := m.Hub.Events(ctx)
	m.mu.Lock()
	m.takeIn() // what closed before the events began is given up
	m.running = true
	m.mu.Unlock()
	for e := range events {
		m.mu.Lock()
		m.take(e)
		m.mu.Unlock()
	}
	m.mu.Lock()
	m.running = false
	m.mu.Unlock()
	return ctx.Err()
}

// take counts an event; mu is held.
func (m *Media) take(e stream.Event) {
	switch e := e.(type) {
	case stream.StreamStarted:
		m.started++
	case stream.SessionOpened:
		m.enter(e.Session)
	case stream.SessionClosed:
		s, ok := m.sessions[e.Session.ID]
		if !ok {
			return // it was given up as lost
		}
		m.add(s, e.Stats)
		if s.kind.role == string(stream.RolePlay) {
			observe(m.stalled, s.kind.protocol, stallBounds, float64(e.Stats.Skips))
		}
		m.leave(e.Session.ID, s)
	case stream.RecordingStarted:
		m.recorded.started++
	case stream.RecordingEnded:
		if e.Err == nil {
			m.recorded.complete++
		} else {
			m.recorded.cut++
		}
		m.recorded.bytes += uint64(max(e.Size, 0))
	case stream.StorageFailed:
		m.recorded.failures++
	case stream.EventsLost:
		m.missed += uint64(e.Count)
		m.lost = true
	}
}

// enter counts a session that is open, once; mu is held.
func (m *Media) enter(info stream.SessionInfo) seen {
	if s, ok := m.sessions[info.ID]; ok {
		return s
	}
	k := kind{label(info.Protocol), label(string(info.Role))}
	t := m.kinds[k]
	if t == nil {
		if len(m.kinds) >= cmp.Or(m.MaxKinds, 64) {
			k.protocol = "other"
			t = m.kinds[k]
		}
		if t == nil {
			t = &totals{}
			if m.kinds == nil {
				m.kinds, m.sessions = map[kind]*totals{}, map[string]seen{}
				m.first, m.stalled = map[string]*histogram{}, map[string]*histogram{}
			}
			m.kinds[k] = t
		}
	}
	t.opened++
	t.open++
	s := seen{kind: k}
	m.sessions[info.ID] = s
	return s
}

// add brings the totals up to the figures of a session; mu is held.
func (m *Media) add(s seen, now stream.SessionStats) {
	t := m.kinds[s.kind]
	t.in += now.BytesIn - s.stats.BytesIn
	t.out += now.BytesOut - s.stats.BytesOut
	t.unsent += now.Dropped - s.stats.Dropped
	t.skips += now.Skips - s.stats.Skips
	if s.stats.FirstFrame == 0 && now.FirstFrame > 0 && s.kind.role == string(stream.RolePlay) {
		observe(m.first, s.kind.protocol, firstBounds, now.FirstFrame.Seconds())
	}
}

func (m *Media) leave(id string, s seen) {
	t := m.kinds[s.kind]
	t.open--
	t.closed++
	delete(m.sessions, id)
}

// takeIn counts what the open sessions have done since the last time; mu is
// held, so that none of those in the list can be counted as closed meanwhile.
func (m *Media) takeIn() {
	open := map[string]bool{}
	for s := range m.Hub.Sessions() {
		info := s.Info()
		open[info.ID] = true
		was := m.enter(info)
		now := s.Stats()
		m.add(was, now)
		m.sessions[info.ID] = seen{was.kind, now}
	}
	if m.running && !m.lost {
		return // the others' events are on their way
	}
	m.lost = false
	for id, s := range m.sessions {
		if !open[id] {
			m.leave(id, s)
		}
	}
}

// streams returns those that have series, the oldest first, and how many there
// are.
func (m *Media) streams() ([]*stream.Stream, int) {
	all := slices.SortedFunc(m.Hub.Streams(), func(a, b *stream.Stream) int {
		if c := a.Started().Compare(b.Started()); c != 0 {
			return c
		}
		return strings.Compare(a.Name(), b.Name())
	})
	most := m.MaxStreams
	if most == 0 {
		most = 1000
	}
	return all[:max(0, min(most, len(all)))], len(all)
}

// label makes a label's value of what others may have chosen.
func label(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// latency returns the hub's histogram as Prometheus wants it.
func latency(h *stream.Histogram) (buckets map[float64]uint64, count uint64, sum float64) {
	list, count, total := h.Snapshot()
	buckets = make(map[float64]uint64, len(list))
	var below uint64
	for _, b := range list {
		below += b.Count
		if b.Bound > 0 {
			buckets[b.Bound.Seconds()] = below
		}
	}
	return buckets, count, total.Seconds()
}

func since(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
