package mediaprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/runnel-media/runnel/auth/limit"
)

// Limits collects the figures of a limit.Limiter. It is a prometheus.Collector.
type Limits struct{ Limiter *limit.Limiter }

var _ prometheus.Collector = Limits{}

var (
	limitConns    = gauge("runnel_connections", "Open connections.")
	limitSessions = gauge("runnel_limited_sessions", "Sessions that count for limits.")
	limitAddrs    = gauge("runnel_addresses", "Addresses, and /64 networks of IPv6, with connections or sessions.")
	limitUsers    = gauge("runnel_users", "Users with sessions.")
	limitRate     = gauge("runnel_bytes_per_second", "Media received and sent; 0 while no bit rate is bounded.")
	limitRefused  = counter("runnel_limits_reached_total", "Connections and sessions that were refused or ended by a limit.", "limit")
	limitBound    = gauge("runnel_limit", "The limits that are set.", "limit")
)

// Describe implements prometheus.Collector.
func (Limits) Describe(out chan<- *prometheus.Desc) {
	for _, m := range []metric{limitConns, limitSessions, limitAddrs, limitUsers, limitRate, limitRefused, limitBound} {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (l Limits) Collect(out chan<- prometheus.Metric) {
	put := func(m metric, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
	}
	u := l.Limiter.Usage()
	put(limitConns, float64(u.Conns))
	put(limitSessions, float64(u.Sessions))
	put(limitAddrs, float64(u.Addrs))
	put(limitUsers, float64(u.Users))
	put(limitRate, u.BitRate/8)
	p := l.Limiter.CurrentPolicy()
	bounds := map[limit.Reason]float64{
		limit.Conns: float64(p.Conns), limit.ConnsPerAddr: float64(p.ConnsPerAddr),
		limit.ConnRate: p.ConnRate, limit.ConnRatePerAddr: p.ConnRatePerAddr, limit.FirstByte: p.FirstByte.Seconds(),
		limit.Sessions: float64(p.Sessions), limit.SessionsPerAddr: float64(p.SessionsPerAddr),
		limit.SessionsPerUser: float64(p.SessionsPerUser), limit.SessionsPerStream: float64(p.SessionsPerStream),
		limit.BitRate: float64(p.BitRate), limit.BitRatePerAddr: float64(p.BitRatePerAddr),
		limit.BitRatePerUser: float64(p.BitRatePerUser), limit.BitRatePerStream: float64(p.BitRatePerStream),
	}
	for _, r := range limit.Reasons {
		put(limitRefused, float64(u.Refused[r]), string(r))
		if b := bounds[r]; b > 0 {
			put(limitBound, b, string(r))
		}
	}
}
