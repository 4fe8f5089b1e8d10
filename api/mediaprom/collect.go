package mediaprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/runnel-media/runnel/stream"
)

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
	streams        = gauge("runnel_streams", "Live streams.")
	streamsHidden  = gauge("runnel_streams_without_series", "Live streams beyond the bound of series by stream.")
	streamsStarted = counter("runnel_streams_started_total", "Streams that came up so far.")
	declarations   = gauge("runnel_declared_streams", "Streams that are declared, live or not.")
	eventsLost     = counter("runnel_metrics_lost_events_total", "Events that the metrics were too slow for; some sessions are not counted.")

	sessions       = gauge("runnel_sessions", "Open sessions.", "protocol", "role")
	sessionsOpened = counter("runnel_sessions_opened_total", "Sessions opened so far.", "protocol", "role")
	sessionsClosed = counter("runnel_sessions_closed_total", "Sessions closed so far.", "protocol", "role")
	received       = counter("runnel_received_bytes_total", "Media received.", "protocol")
	sent           = counter("runnel_sent_bytes_total", "Media sent.", "protocol")
	unsent         = counter("runnel_unsent_bytes_total", "Media not sent because the player was too slow.", "protocol")
	stalls         = counter("runnel_stalls_total", "Times that a player fell so far behind that it skipped to a key frame.", "protocol")

	recordingNow    = gauge("runnel_recordings", "Files that are being recorded.")
	recordingsBegun = counter("runnel_recordings_started_total", "Files that were begun.")
	recordingsEnded = counter("runnel_recordings_ended_total", "Files that are complete, or were cut by a failure.", "result")
	recordedBytes   = counter("runnel_recorded_bytes_total", "Bytes of the files that have ended.")
	storageFailures = counter("runnel_storage_failures_total", "Files that could not be stored.")

	streamViewers    = gauge("runnel_stream_viewers", "Sessions that play the stream.", "stream")
	streamPublishing = gauge("runnel_stream_publishing", "1 if the stream has a publisher now, 0 if it waits for one to come back.", "stream")
	streamStarted    = gauge("runnel_stream_start_time_seconds", "When the stream came up, in Unix time.", "stream")
	streamFrames     = counter("runnel_stream_frames_total", "Frames published.", "stream")
	streamBytes      = counter("runnel_stream_bytes_total", "Bytes of the frames published.", "stream")
	streamDropped    = counter("runnel_stream_dropped_frames_total", "Frames that slow readers in this process left out.", "stream")

	serverLatency = prometheus.NewDesc("runnel_server_latency_seconds", "From a frame's arrival to its socket write.", nil, nil)
	sessionStalls = prometheus.NewDesc("runnel_session_stalls", "Stalls of a player's session, when it has ended.", []string{"protocol"}, nil)
	firstFrame    = prometheus.NewDesc("runnel_first_frame_seconds", "From a player's session's start to its first media.", []string{"protocol"}, nil)
)

// Describe implements prometheus.Collector.
func (m *Media) Describe(out chan<- *prometheus.Desc) {
	for _, x := range []metric{
		streams, streamsHidden, streamsStarted, eventsLost, sessions, sessionsOpened, sessionsClosed, received, sent, unsent,
		stalls, streamViewers, streamPublishing, streamStarted, streamFrames, streamBytes, streamDropped,
		declarations, recordingNow, recordingsBegun, recordingsEnded, recordedBytes, storageFailures,
	} {
		out <- x.desc
	}
	out <- serverLatency
	out <- firstFrame
	out <- sessionStalls
}

// Collect implements prometheus.Collector.
func (m *Media) Collect(out chan<- prometheus.Metric) {
	put := func(m metric, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
	}
	m.collectStreams(put)
	m.collectSessions(out, put)
	buckets, count, sum := latency(&m.Hub.Latency)
	out <- prometheus.MustNewConstHistogram(serverLatency, count, sum, buckets)
}

func (m *Media) collectStreams(put func(metric, float64, ...string)) {
	list, all := m.streams()
	put(streams, float64(all))
	put(streamsHidden, float64(all-len(list)))
	declared := 0
	for range m.Hub.Declarations() {
		declared++
	}
	put(declarations, float64(declared))
	viewers := map[string]int{}
	if len(list) > 0 {
		for s := range m.Hub.Sessions() {
			if info := s.Info(); info.Role == stream.RolePlay {
				viewers[info.Stream]++
			}
		}
	}
	for _, s := range list {
		name, st := label(s.Name()), s.Stats()
		publishing := 0.0
		if s.Publishing() {
			publishing = 1
		}
		put(streamViewers, float64(viewers[s.Name()]), name)
		put(streamPublishing, publishing, name)
		put(streamStarted, since(s.Started()), name)
		put(streamFrames, float64(st.Frames), name)
		put(streamBytes, float64(st.Bytes), name)
		put(streamDropped, float64(st.Dropped), name)
	}
}

func (m *Media) collectSessions(out chan<- prometheus.Metric, put func(metric, float64, ...string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.takeIn()
	put(streamsStarted, float64(m.started))
	put(eventsLost, float64(m.missed))
	protocols := map[string]totals{}
	for k, t := range m.kinds {
		put(sessions, float64(t.open), k.protocol, k.role)
		put(sessionsOpened, float64(t.opened), k.protocol, k.role)
		put(sessionsClosed, float64(t.closed), k.protocol, k.role)
		p := protocols[k.protocol]
		p.in, p.out, p.unsent, p.skips = p.in+t.in, p.out+t.out, p.unsent+t.unsent, p.skips+t.skips
		protocols[k.protocol] = p
	}
	for name, p := range protocols {
		put(received, float64(p.in), name)
		put(sent, float64(p.out), name)
		put(unsent, float64(p.unsent), name)
		put(stalls, float64(p.skips), name)
	}
	put(recordingsBegun, float64(m.recorded.started))
	put(recordingNow, float64(max(0, int64(m.recorded.started-m.recorded.complete-m.recorded.cut))))
	put(recordingsEnded, float64(m.recorded.complete), "complete")
	put(recordingsEnded, float64(m.recorded.cut), "cut")
	put(recordedBytes, float64(m.recorded.bytes))
	put(storageFailures, float64(m.recorded.failures))
	for _, by := range []struct {
		desc       *prometheus.Desc
		histograms map[string]*histogram
	}{{firstFrame, m.first}, {sessionStalls, m.stalled}} {
		for protocol, h := range by.histograms {
			buckets := make(map[float64]uint64, len(h.bounds))
			for i, bound := range h.bounds {
				buckets[bound] = h.counts[i]
			}
			out <- prometheus.MustNewConstHistogram(by.desc, h.count, h.sum, buckets, protocol)
		}
	}
}
