package prom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/runnel-media/runnel/turn"
)

// The metrics of coturn's exporter that have a meaning here. "rcv" is what came
// from the client, or the peer, "sent" what went to it; p are packets and b
// bytes of payload. coturn's traffic moves when a session ends, this at once.
var (
	coturnBinding = counter("stun_binding_request", "Incoming STUN Binding requests")
	coturn401     = counter("turn_unauthenticated_401_responses", "401 responses")
	coturnLimited = counter("turn_unauthenticated_401_dropped_responses", "Error responses that the limit for sources held back")
	coturnLive    = gauge("turn_total_allocations", "Current allocations", "type")
	coturnHandled = counter("turn_packet_processed", "Packets that were relayed")
	coturnDropped = counter("turn_packet_dropped", "Packets that were not")
	coturnRealm   = coturnTraffic("turn_traffic", "realm")
	coturnTotal   = coturnTraffic("turn_total_traffic")
)

// coturnTypes are coturn's names of transports.
var coturnTypes = map[string]string{"udp": "UDP", "tcp": "TCP", "tls": "TLS/TCP", "dtls": "DTLS"}

// coturnTraffic are rcvp, rcvb, sentp and sentb, of clients and then of peers.
func coturnTraffic(name string, labels ...string) (list [8]metric) {
	for i, s := range []string{"_rcvp", "_rcvb", "_sentp", "_sentb", "_peer_rcvp", "_peer_rcvb", "_peer_sentp", "_peer_sentb"} {
		list[i] = counter(name+s, "Relayed traffic, as coturn counts it", labels...)
	}
	return list
}

func describeCoturn(out chan<- *prometheus.Desc) {
	for _, m := range []metric{coturnBinding, coturn401, coturnLimited, coturnLive, coturnHandled, coturnDropped} {
		out <- m.desc
	}
	for i := range coturnRealm {
		out <- coturnRealm[i].desc
		out <- coturnTotal[i].desc
	}
}

func collectCoturn(s turn.Stats, put func(metric, float64, ...string)) {
	put(coturnBinding, float64(s.Bindings))
	put(coturn401, float64(s.Errors[401]))
	put(coturnLimited, float64(s.Drops["rate-unauthenticated"]))
	for transport, n := range s.Allocations {
		put(coturnLive, float64(n), coturnTypes[transport])
	}
	var sum [8]uint64
	relayed, lost := uint64(0), uint64(0)
	for name, r := range s.Realms {
		u := r.Usage
		for i, v := range [8]uint64{
			u.FromClient.Packets, u.FromClient.Bytes, u.ToClient.Packets, u.ToClient.Bytes,
			u.FromPeer.Packets, u.FromPeer.Bytes, u.ToPeer.Packets, u.ToPeer.Bytes,
		} {
			put(coturnRealm[i], float64(v), label(name))
			sum[i] += v
		}
		relayed += u.ToPeer.Packets + u.ToClient.Packets
		lost += u.Dropped
	}
	for i, v := range sum {
		put(coturnTotal[i], float64(v))
	}
	put(coturnHandled, float64(relayed))
	put(coturnDropped, float64(lost))
}
