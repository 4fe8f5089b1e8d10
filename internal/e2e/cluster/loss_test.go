package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// TestSoakLoss: of the packets between hosts 5 % are lost, those of the registry
// too. Publishers are let in, viewers at edges play, and go on after their
// origin's process was killed and returned.
func TestSoakLoss(t *testing.T) {
	long(t)
	peer.Need(t, "ffmpeg")
	hosts := newHosts(t, origins+edges)
	c := start(t, hosts, portsAt(hosts))
	publish(t, c.servers[1], "first").stop() // the registry is there
	for _, h := range hosts {
		h.lossy(t, 5)
	}
	begin := time.Now()
	publisher := publish(t, c.servers[1], "cam")
	t.Logf("a publisher was let in after %v", time.Since(begin).Round(time.Millisecond))
	viewers := []*viewer{watch(t, c.edge(0), "cam"), watch(t, c.edge(1), "cam")}
	hls := watchHLS(t, c.edge(1), "cam")
	for _, v := range viewers {
		v.expect(t, 50)
		v.longest()
	}
	for _, v := range viewers {
		took := v.expect(t, 1000)
		t.Logf("1000 more frames took %v, with no frame for %v at most", took.Round(time.Millisecond), v.longest().Round(time.Millisecond))
	}

	c.servers[1].process.Kill()
	publisher.stop()
	for _, v := range viewers {
		v.quiet(t)
	}
	c.servers[1].start()
	c.servers[1].up()
	returned := time.Now()
	publish(t, c.servers[1], "cam")
	t.Logf("the publisher was let in %v after its origin answered again", time.Since(returned).Round(time.Millisecond))
	for _, v := range viewers {
		v.expect(t, 1)
		t.Logf("a viewer had frames again %v after the origin answered", time.Since(returned).Round(time.Millisecond))
	}
	for _, v := range viewers {
		v.expect(t, 50)
	}
	hls.expect(t)
	require.Empty(t, hls.errors(), "of the playlist")
}
