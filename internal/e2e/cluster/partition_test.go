package cluster

import (
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// long skips the test unless long runs are asked for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("RUNNEL_SOAK") != "1" {
		t.Skip("a long run: RUNNEL_SOAK=1 asks for it")
	}
}

// portsAt returns what gives out addresses at hosts.
func portsAt(hosts []*host) func(server int) string {
	port := 20000
	return func(server int) string {
		port++
		return net.JoinHostPort(hosts[server].addr, strconv.Itoa(port))
	}
}

// TestSoakPartition: one of three origins, on hosts of their own, is cut off for
// 10 s. It keeps its publishers and takes no new ones; one of its publishers that
// goes elsewhere takes its stream along; edges go on with both.
func TestSoakPartition(t *testing.T) {
	long(t)
	peer.Need(t, "ffmpeg")
	hosts := newHosts(t, origins+edges)
	c := start(t, hosts, portsAt(hosts))
	clip := lab.Clip(t, peer.AV)
	there := func(name string) *peer.Process { // an encoder at the host that is cut off
		args := append(hosts[1].enter(), peer.Need(t, "ffmpeg"), "-v", "error", "-re", "-stream_loop", "-1", "-i", clip,
			"-c", "copy", "-f", "flv", "rtmp://"+c.servers[1].rtmp+"/live/"+name+"?token=secret")
		return peer.Start(t, args[0], args[1:]...)
	}
	publish(t, c.servers[1], "moves").stop() // the registry is there
	stays := there("stays")
	moves := publish(t, c.servers[1], "moves")
	atStays, atMoves := watch(t, c.edge(0), "stays"), watch(t, c.edge(1), "moves")
	for _, v := range []*viewer{atStays, atMoves} {
		v.expect(t, 50)
	}

	begin := time.Now()
	hosts[1].cut(t, true)
	moves.stop()
	refused := there("new")
	publish(t, c.servers[2], "moves")
	t.Logf("a publisher was let in elsewhere %v after its origin was cut off", time.Since(begin).Round(time.Millisecond))
	t.Logf("and its viewers had frames %v later", atMoves.expect(t, 1).Round(time.Millisecond))
	require.Error(t, refused.Wait(t, time.Minute), "who cannot ask the registry takes no new publishers")
	time.Sleep(max(0, 10*time.Second-time.Since(begin)))
	hosts[1].cut(t, false)
	t.Logf("%v after the mending there were frames again of the stream that stayed", atStays.expect(t, 1).Round(time.Millisecond))
	for _, v := range []*viewer{atStays, atMoves} {
		v.expect(t, 100)
	}
	require.True(t, stays.Running(), "its publisher was left alone")
	publish(t, c.servers[1], "new")
	watch(t, c.servers[1], "moves").expect(t, 20)
}
