// Package prom shows what Runnel's servers do to Prometheus.
package prom

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/runnel-media/runnel/turn"
)

// TURN collects the statistics of a turn.Server, which move while sessions
// live. It is a prometheus.Collector: register it with a registry of the host,
// or take its Handler. The fields must not change afterwards.
type TURN struct {
	Server *turn.Server

	// Coturn adds the names of coturn's exporter, for dashboards that are
	// there, beside Runnel's own; see docs/turn.md.
	Coturn bool
}

var _ prometheus.Collector = (*TURN)(nil)

// Handler serves the server's metrics, with those of the Go runtime and the
// process, out of a registry of its own.
func (t *TURN) Handler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(t, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// A metric is a name with its help and labels.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

// The metrics. Descriptions are immutable.
var (
	allocations      = gauge("runnel_turn_allocations", "Live allocations by the transport of the client.", "transport")
	realmAllocations = gauge("runnel_turn_realm_allocations", "Live allocations by realm.", "realm")
	realmMade        = counter("runnel_turn_allocations_total", "Allocations made so far.", "realm")
	packets          = counter("runnel_turn_packets_total", "Relayed packets: from_client and from_peer came in, to_peer and to_client went out.", "realm", "direction")
	bytes            = counter("runnel_turn_bytes_total", "Their bytes of payload.", "realm", "direction")
	realmDropped     = counter("runnel_turn_realm_dropped_packets_total", "Packets of sessions that were not relayed.", "realm")
	dropped          = counter("runnel_turn_dropped_packets_total", "Packets that ended here, by reason.", "reason")
	refusals         = counter("runnel_turn_error_responses_total", "Error responses by code.", "code")
	bindings         = counter("runnel_turn_binding_requests_total", "STUN Binding requests.")
	draining         = gauge("runnel_turn_draining", "1 if the server takes no new sessions.")
	authorize        = prometheus.NewDesc("runnel_turn_authorize_seconds", "How long the authorizer took.", nil, nil)
)

// Describe implements prometheus.Collector.
func (t *TURN) Describe(out chan<- *prometheus.Desc) {
	for _, m := range []metric{allocations, realmAllocations, realmMade, packets, bytes, realmDropped, dropped, refusals, bindings, draining} {
		out <- m.desc
	}
	out <- authorize
	if t.Coturn {
		describeCoturn(out)
	}
}

// Collect implements prometheus.Collector. It asks the server once.
func (t *TURN) Collect(out chan<- prometheus.Metric) {
	s := t.Server.Stats()
	put := func(m metric, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
	}
	for transport, n := range s.Allocations {
		put(allocations, float64(n), transport)
	}
	for name, r := range s.Realms {
		realm := label(name)
		put(realmAllocations, float64(r.Live), realm)
		put(realmMade, float64(r.Total), realm)
		put(realmDropped, float64(r.Usage.Dropped), realm)
		for direction, x := range map[string]turn.Traffic{
			"from_client": r.Usage.FromClient, "to_peer": r.Usage.ToPeer, "from_peer": r.Usage.FromPeer, "to_client": r.Usage.ToClient,
		} {
			put(packets, float64(x.Packets), realm, direction)
			put(bytes, float64(x.Bytes), realm, direction)
		}
	}
	for reason, n := range s.Drops {
		put(dropped, float64(n), reason)
	}
	for code, n := range s.Errors {
		put(refusals, float64(n), strconv.Itoa(code))
	}
	put(bindings, float64(s.Bindings))
	drain := 0.0
	if s.Draining {
		drain = 1
	}
	put(draining, drain)

	buckets := make(map[float64]uint64, len(s.Authorize.Bounds))
	count := uint64(0)
	for i, n := range s.Authorize.Counts {
		count += n
		if i < len(s.Authorize.Bounds) {
			buckets[s.Authorize.Bounds[i].Seconds()] = count
		}
	}
	out <- prometheus.MustNewConstHistogram(authorize, count, s.Authorize.Sum.Seconds(), buckets)
	if t.Coturn {
		collectCoturn(s, put)
	}
}

// label makes a label's value of a name that a database, or a client by its
// ORIGIN, has chosen.
func label(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }
