package cluster

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// TestOriginKilled: the process of an origin is killed and its node of the
// registry with it. Viewers at the edges stay, and go on when the publisher has
// found another origin; what others have goes on.
func TestOriginKilled(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffmpeg")
	c := start(t, nil, func(int) string { return freeAddr(t) })
	publish(t, c.servers[1], "cam")
	publish(t, c.servers[0], "other")
	viewers := []*viewer{watch(t, c.edge(0), "cam"), watch(t, c.edge(1), "cam")}
	other := watch(t, c.edge(1), "other")
	hls := watchHLS(t, c.edge(1), "cam")
	for _, v := range append(viewers, other) {
		v.expect(t, 20)
	}
	killed := time.Now()
	c.servers[1].process.Kill()
	for _, v := range viewers {
		v.quiet(t)
	}
	publish(t, c.servers[2], "cam")
	t.Logf("the publisher was let in elsewhere %v after its origin was killed", time.Since(killed).Round(time.Millisecond))
	for _, v := range viewers {
		t.Logf("and %v later a viewer had frames again", v.expect(t, 1).Round(time.Millisecond))
	}
	for _, v := range append(viewers, other) {
		v.expect(t, 50)
	}
	hls.expect(t)
	require.Empty(t, hls.errors(), "of the playlist")

	// The killed one returns, and finds the stream taken.
	c.servers[1].start()
	c.servers[1].up()
	watch(t, c.servers[1], "cam").expect(t, 20)
}

// TestExample: examples/cluster does what it prints.
func TestExample(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffprobe")
	var p *peer.Process
	var rtmp, http int
	for try := 0; ; try++ { // its ports are free until somebody else takes them
		rtmp, http = fivePorts(t), fivePorts(t)
		p = peer.Start(t, program(t, "cluster"), "-rtmp", strconv.Itoa(rtmp), "-http", strconv.Itoa(http),
			"-nats", strconv.Itoa(fivePorts(t)), "-peers", strconv.Itoa(fivePorts(t)))
		peer.Eventually(t, time.Minute, "greeting", func() bool {
			return strings.Contains(p.Log(), "Publish at any origin") || strings.Contains(p.Log(), "has ended")
		})
		if !strings.Contains(p.Log(), "has ended") {
			break
		}
		require.Less(t, try, 3, p.Log())
		p.Kill()
	}
	at := func(port, server int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port+server)) }
	publish(t, &server{t: t, rtmp: at(rtmp, 1), http: at(http, 1)}, "cam")
	for edge := origins; edge < origins+edges; edge++ {
		e := &server{t: t, http: at(http, edge)}
		watch(t, e, "cam").expect(t, 20)
		watchHLS(t, e, "cam")
	}
	m := peer.Probe(t, time.Minute, "-read_intervals", "%+1", "http://"+at(http, 3)+"/live/cam.flv")
	require.Equal(t, []string{"aac", "h264"}, m.Codecs())
	table, err := text("http://" + at(http, 4) + "/cluster")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^origin2 .* live/cam$`, table)
	require.NoError(t, p.Stop(t, time.Minute))
}

// ports are given to one at a time: five in a row are not FreeAddr's next one.
var ports sync.Mutex

func freeAddr(t *testing.T) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	return peer.FreeAddr(t)
}

// fivePorts returns the first of five ports that are free.
func fivePorts(t *testing.T) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
next:
	for range 100 {
		_, p, _ := net.SplitHostPort(peer.FreeAddr(t))
		first, _ := strconv.Atoi(p)
		for i := range 5 {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first+i)))
			if err != nil {
				continue next
			}
			l.Close()
		}
		for range 4 { // nobody else here gets them
			peer.FreeAddr(t)
		}
		return first
	}
	t.Fatal("no five ports are free")
	return 0
}
