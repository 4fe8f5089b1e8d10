package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQuantile(t *testing.T) {
	require.Zero(t, quantile([]int(nil), 0.5))
	require.Equal(t, 7, quantile([]int{7}, 0.99))
	require.Equal(t, 6, quantile([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0.5))
	require.Equal(t, 10, quantile([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0.99))
	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, 1.5, median([]float64{2, 1}))
	require.Zero(t, median(nil))
}

func TestStatsSince(t *testing.T) {
	stats := func(counts ...uint64) (s serverStats) {
		for i, n := range counts {
			s.Latency.Buckets = append(s.Latency.Buckets, bucket{[]float64{1, 2, 4, 0}[i], n})
		}
		return s
	}
	require.Nil(t, stats(5, 5, 0, 0).since(stats(5, 5, 0, 0), 0.5), "nothing happened")
	require.Nil(t, serverStats{}.since(serverStats{}, 0.5), "none are served")
	// 100 of up to 1 ms before; since then 50 between 1 and 2, 50 between 2 and 4.
	require.Equal(t, []float64{1.5, 2, 4}, stats(100, 50, 50, 0).since(stats(100, 0, 0, 0), 0.25, 0.5, 1))
	require.Equal(t, []float64{4}, stats(0, 0, 0, 9).since(serverStats{}, 0.5), "beyond the last bound")
}

func TestReport(t *testing.T) {
	ms40 := variant{serverRunnel, protoFLV, 40 * time.Millisecond}
	nginx := variant{serverNginx, protoRTMP, 0}
	r := report{machine: "2 cores", peer: "nginx/1", command: "bench", players: 500, rounds: 2, window: time.Second, source: clip{rate: 143_750, gop: 50}, rows: summarize([]result{
		{variant: nginx, cpu: 0.7, weighed: true, memory: 13, idle: 0.5}, {variant: ms40, cpu: 0.2, starved: 1, inside: true, inside50: 1, inside99: 2, idle: 0.5},
		{variant: ms40, cpu: 0.1, gone: 2, inside: true, inside50: 3, inside99: 4, idle: 0.01}, {variant: nginx, cpu: 0.8, memory: 99, idle: 0.5, others: 0.2},
	})}
	require.Len(t, r.rows, 2)
	require.InDelta(t, 0.2, r.rows[1].ratio, 1e-9)
	var md, text strings.Builder
	require.NoError(t, r.markdown(&md))
	require.Contains(t, md.String(), "| nginx-rtmp | rtmp | – | 0.750 (0.700–0.800) | 1.00× | – | 13.0 | 0 | 0 | 0.0 / 0.0 | – |\n")
	require.Contains(t, md.String(), "| runnel | flv | 40ms | 0.150 (0.100–0.200) | 0.20× | ≤ 0.30× | 0.0 | 1 | 2 | 0.0 / 0.0 | 2.00 / 3.00 |\n")
	require.Contains(t, md.String(), "1.15 Mbit/s")
	require.Equal(t, 2, strings.Count(md.String(), "WARNING"))
	require.NoError(t, r.text(&text))
	require.Contains(t, text.String(), "0.20×")
}
