package mediaprom

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/runnel-media/runnel/ingest"
)

// SRT collects the figures of the SRT connections of an ingest.Server, publishers
// and players, summed up by stream and role. It is a prometheus.Collector.
type SRT struct {
	Server *ingest.Server
	// MaxStreams bounds how many streams have series of their own; the rest
	// counts as "". 0: 100.
	MaxStreams int
}

var _ prometheus.Collector = SRT{}

// The totals are of the connections that are open, so they fall when one ends.
var (
	srtConns   = gauge("runnel_srt_connections", "Open SRT connections.", "stream", "role")
	srtRTT     = gauge("runnel_srt_round_trip_seconds", "The longest round trip time of the open connections.", "stream", "role")
	srtSent    = gauge("runnel_srt_packets_sent", "Packets that the open connections have sent, with those sent again.", "stream", "role")
	srtRecv    = gauge("runnel_srt_packets_received", "Packets that the open connections have received.", "stream", "role")
	srtLost    = gauge("runnel_srt_packets_lost", "Packets that were lost on the way of the open connections.", "stream", "role")
	srtRetrans = gauge("runnel_srt_packets_retransmitted", "Packets that the open connections have sent again.", "stream", "role")
	srtDropped = gauge("runnel_srt_packets_dropped", "Packets that came too late, or never, on the open connections.", "stream", "role")
	srtUndec   = gauge("runnel_srt_packets_undecrypted", "Packets that the open connections could not decrypt.", "stream", "role")
)

// Describe implements prometheus.Collector.
func (SRT) Describe(out chan<- *prometheus.Desc) {
	for _, m := range []metric{srtConns, srtRTT, srtSent, srtRecv, srtLost, srtRetrans, srtDropped, srtUndec} {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c SRT) Collect(out chan<- prometheus.Metric) {
	type key struct{ stream, role string }
	type sum struct{ conns, rtt, sent, recv, lost, retrans, dropped, undecrypted float64 }
	sums, streams := make(map[key]*sum), make(map[string]bool)
	for conn := range c.Server.SRTConns() {
		k := key{conn.Stream, "play"}
		if conn.Publish {
			k.role = "publish"
		}
		if !streams[k.stream] && len(streams) >= cmp.Or(c.MaxStreams, 100) {
			k.stream = ""
		}
		streams[k.stream] = true
		s := sums[k]
		if s == nil {
			s = &sum{}
			sums[k] = s
		}
		st := &conn.Stats
		s.conns++
		s.rtt = max(s.rtt, st.MsRTT/1000)
		s.sent += float64(st.PktSent)
		s.recv += float64(st.PktRecv)
		s.lost += float64(st.PktSndLoss + st.PktRcvLoss)
		s.retrans += float64(st.PktRetrans)
		s.dropped += float64(st.PktSndDrop + st.PktRcvDrop)
		s.undecrypted += float64(st.PktRcvUndecrypt)
	}
	for k, s := range sums {
		put := func(m metric, v float64) {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, v, k.stream, k.role)
		}
		put(srtConns, s.conns)
		put(srtRTT, s.rtt)
		put(srtSent, s.sent)
		put(srtRecv, s.recv)
		put(srtLost, s.lost)
		put(srtRetrans, s.retrans)
		put(srtDropped, s.dropped)
		put(srtUndec, s.undecrypted)
	}
}
