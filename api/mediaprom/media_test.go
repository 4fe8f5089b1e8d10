package mediaprom

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// scrape returns the samples of a collector as "name{labels}" to value.
func scrape(t *testing.T, m *Media) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, w.Code, w.Body)
	samples := map[string]string{}
	for line := range strings.Lines(w.Body.String()) {
		if i := strings.LastIndexByte(strings.TrimSpace(line), ' '); i > 0 && line[0] != '#' {
			samples[line[:i]] = strings.TrimSpace(line[i+1:])
		}
	}
	return samples
}

func expect(t *testing.T, got map[string]string, want map[string]string) {
	t.Helper()
	for name, v := range want {
		require.Equal(t, v, got[name], name)
	}
}

func play(hub *stream.Hub, protocol, name string) *stream.Session {
	return hub.OpenSession(stream.SessionInfo{Role: stream.RolePlay, Protocol: protocol, Stream: name}, nil)
}

// TestLive: the counters grow and never shrink while sessions come and go
// between scrapes, those that no scrape saw included.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &stream.Hub{Grace: time.Hour}
		early := play(hub, "hls", "live/cam") // opened before Run
		early.AddOut(10)
		m := &Media{Hub: hub}
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()

		require.NoError(t, (&streamtest.Source{Duration: 2 * time.Second}).Run(t.Context(), hub, "live/cam"))
		hub.Latency.Observe(time.Millisecond, 3)
		long := play(hub, "rtmp", "live/cam")
		long.AddOut(100)
		brief := play(hub, "rtmp", "live/cam")
		time.Sleep(300 * time.Millisecond)
		brief.AddOut(5)
		brief.AddSkip(7)
		brief.Close(nil)
		synctest.Wait()
		expect(t, scrape(t, m), map[string]string{
			`runnel_streams`:                                               "1",
			`runnel_streams_started_total`:                                 "1",
			`runnel_stream_publishing{stream="live/cam"}`:                  "0",
			`runnel_stream_viewers{stream="live/cam"}`:                     "2",
			`runnel_sessions{protocol="rtmp",role="play"}`:                 "1",
			`runnel_sessions_opened_total{protocol="rtmp",role="play"}`:    "2",
			`runnel_sessions_closed_total{protocol="rtmp",role="play"}`:    "1",
			`runnel_sessions_closed_total{protocol="hls",role="play"}`:     "0",
			`runnel_sent_bytes_total{protocol="rtmp"}`:                     "105",
			`runnel_sent_bytes_total{protocol="hls"}`:                      "10",
			`runnel_unsent_bytes_total{protocol="rtmp"}`:                   "7",
			`runnel_stalls_total{protocol="rtmp"}`:                         "1",
			`runnel_session_stalls_bucket{protocol="rtmp",le="0"}`:         "0",
			`runnel_session_stalls_bucket{protocol="rtmp",le="1"}`:         "1",
			`runnel_session_stalls_count{protocol="rtmp"}`:                 "1",
			`runnel_first_frame_seconds_count{protocol="rtmp"}`:            "2",
			`runnel_first_frame_seconds_bucket{protocol="rtmp",le="0.25"}`: "1",
			`runnel_first_frame_seconds_bucket{protocol="rtmp",le="0.5"}`:  "2",
			`runnel_server_latency_seconds_count`:                          "3",
			`runnel_server_latency_seconds_bucket{le="0.000512"}`:          "0",
			`runnel_server_latency_seconds_bucket{le="0.001024"}`:          "3",
		})
		long.AddOut(1)
		long.Close(nil)
		synctest.Wait()
		expect(t, scrape(t, m), map[string]string{
			`runnel_sessions{protocol="rtmp",role="play"}`:              "0",
			`runnel_sessions_closed_total{protocol="rtmp",role="play"}`: "2",
			`runnel_sent_bytes_total{protocol="rtmp"}`:                  "106",
			`runnel_first_frame_seconds_count{protocol="rtmp"}`:         "2",
		})
		early.Close(nil)
		require.NoError(t, hub.Close())
		require.NoError(t, <-done)
		require.Empty(t, m.sessions)
	})
}

// TestWithoutRun: what is open is counted all the same.
func TestWithoutRun(t *testing.T) {
	hub := &stream.Hub{}
	m := &Media{Hub: hub}
	s := play(hub, "hls", "live/a")
	s.AddOut(3)
	for range 2 {
		require.Equal(t, "3", scrape(t, m)[`runnel_sent_bytes_total{protocol="hls"}`])
	}
	s.Close(nil)
	expect(t, scrape(t, m), map[string]string{
		`runnel_sessions{protocol="hls",role="play"}`: "0",
		`runnel_sent_bytes_total{protocol="hls"}`:     "3",
	})
	require.Empty(t, m.sessions)
}

// TestLost: sessions whose end was not told are given up.
func TestLost(t *testing.T) {
	hub := &stream.Hub{}
	m := &Media{Hub: hub, running: true}
	s := play(hub, "hls", "live/a")
	scrape(t, m)
	s.Close(nil)
	require.Equal(t, "1", scrape(t, m)[`runnel_sessions{protocol="hls",role="play"}`]) // its event is on the way
	m.take(stream.EventsLost{Count: 9})
	expect(t, scrape(t, m), map[string]string{
		`runnel_sessions{protocol="hls",role="play"}`: "0",
		`runnel_metrics_lost_events_total`:            "9",
	})
	m.take(stream.SessionClosed{Session: s.Info()}) // it comes after all
	require.Equal(t, "1", scrape(t, m)[`runnel_sessions_closed_total{protocol="hls",role="play"}`])
}

// TestBounds: neither streams nor protocols make series without end, and names
// are labels whatever is in them.
func TestBounds(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	for i := range 30 {
		_, err := hub.Publish(t.Context(), fmt.Sprintf("live/it's {%d}", i), nil)
		require.NoError(t, err)
	}
	for i := range 3 * 64 {
		play(hub, fmt.Sprintf("p%d\"\n\xff", i), "live/x")
	}
	count := func(most int, name string) int {
		n := 0
		for sample := range scrape(t, &Media{Hub: hub, MaxStreams: most}) {
			if strings.HasPrefix(sample, name) {
				n++
			}
		}
		return n
	}
	require.Equal(t, 10, count(10, "runnel_stream_frames_total{"))
	require.Equal(t, 0, count(-1, "runnel_stream_frames_total{"))
	require.Equal(t, 30, count(0, "runnel_stream_frames_total{"))
	require.LessOrEqual(t, count(0, "runnel_sessions{"), 64+1)
	n := 0
	for sample := range scrape(t, &Media{Hub: hub, MaxKinds: 5}) {
		if strings.HasPrefix(sample, "runnel_sessions{") {
			n++
		}
	}
	require.Equal(t, 6, n)
	m := &Media{Hub: hub, MaxStreams: 10}
	require.Equal(t, "20", scrape(t, m)["runnel_streams_without_series"])
}

// TestConcurrent: scrapes and a crowd at once lose and double nothing.
func TestConcurrent(t *testing.T) {
	hub := &stream.Hub{}
	m := &Media{Hub: hub}
	done := make(chan error, 1)
	go func() { done <- m.Run(t.Context()) }()
	for started := false; !started; {
		m.mu.Lock()
		started = m.running
		m.mu.Unlock()
	}
	var crowd sync.WaitGroup
	for range 4 {
		crowd.Go(func() {
			for range 50 { // few enough that no event is lost
				s := play(hub, "hls", "live/a")
				s.AddOut(1)
				s.Close(nil)
			}
		})
	}
	crowd.Go(func() {
		for range 50 {
			m.mu.Lock()
			m.takeIn()
			m.mu.Unlock()
		}
	})
	crowd.Wait()
	require.NoError(t, hub.Close())
	require.NoError(t, <-done)
	expect(t, scrape(t, m), map[string]string{
		`runnel_sent_bytes_total{protocol="hls"}`:                  "200",
		`runnel_sessions_opened_total{protocol="hls",role="play"}`: "200",
		`runnel_sessions_closed_total{protocol="hls",role="play"}`: "200",
		`runnel_metrics_lost_events_total`:                         "0",
	})
}

// TestNames: the metrics are announced, and named as Prometheus would have it.
func TestNames(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	_, err := hub.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err)
	play(hub, "hls", "live/a").AddOut(1)
	r := prometheus.NewPedanticRegistry()
	m := &Media{Hub: hub}
	m.take(stream.SessionClosed{Session: play(hub, "hls", "live/a").Info()}) // unknown yet
	scrape(t, m)
	for s := range hub.Sessions() {
		m.take(stream.SessionClosed{Session: s.Info()})
	}
	require.NoError(t, r.Register(m))
	families, err := r.Gather()
	require.NoError(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

func ExampleMedia() {
	hub := &stream.Hub{}
	defer hub.Close()
	m := &Media{Hub: hub}
	go func() { _ = m.Run(context.Background()) }() // ends with the hub
	r := prometheus.NewRegistry()
	r.MustRegister(m)
	families, err := r.Gather()
	fmt.Println(families[0].GetName(), err)
	// Output: runnel_declared_streams <nil>
}

// BenchmarkCollect scrapes a busy server.
func BenchmarkCollect(b *testing.B) {
	hub := &stream.Hub{}
	for i := range 10_000 {
		play(hub, "hls", fmt.Sprintf("live/%d", i%100))
	}
	for i := range 100 {
		if _, err := hub.Publish(b.Context(), fmt.Sprintf("live/%d", i), nil); err != nil {
			b.Fatal(err)
		}
	}
	r := prometheus.NewRegistry()
	r.MustRegister(&Media{Hub: hub})
	for b.Loop() {
		if _, err := r.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRecordings: files are counted by what becomes of them.
func TestRecordings(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	require.NoError(t, hub.Declare("live/a", &stream.Declaration{}))
	m := &Media{Hub: hub}
	for range 3 {
		m.take(stream.RecordingStarted{})
	}
	m.take(stream.RecordingEnded{Size: 100})
	m.take(stream.RecordingEnded{Size: 11, Err: errors.New("disk full")})
	m.take(stream.StorageFailed{})
	expect(t, scrape(t, m), map[string]string{
		`runnel_recordings`:                                "1",
		`runnel_recordings_started_total`:                  "3",
		`runnel_recordings_ended_total{result="complete"}`: "1",
		`runnel_recordings_ended_total{result="cut"}`:      "1",
		`runnel_recorded_bytes_total`:                      "111",
		`runnel_storage_failures_total`:                    "1",
		`runnel_declared_streams`:                          "1",
	})
}
