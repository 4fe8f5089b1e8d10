package cluster

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/relay/natsregistry"
)

// asNode is set in the environment of this program when it is to be a node.
const asNode = "RUNNEL_CLUSTER_NODE"

// A node is one of the registry, as a process apart from the servers.
type node struct {
	Name, Dir, Listen, Peers string
	Routes                   []string

	process *peer.Process
}

// serveNode runs a node until it is killed.
func serveNode(spec string) error {
	var n node
	if err := json.Unmarshal([]byte(spec), &n); err != nil {
		return err
	}
	e := &natsregistry.Embedded{Name: n.Name, Dir: n.Dir, Listen: n.Listen, Peers: n.Peers, Routes: n.Routes, Token: "registry"}
	if err := e.Start(); err != nil {
		return err
	}
	select {}
}

func (n *node) start(t *testing.T) {
	t.Helper()
	spec, err := json.Marshal(n)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	n.process = peer.StartIn(t, "", []string{asNode + "=" + string(spec)}, self)
}

func startNodes(t *testing.T) []*node {
	t.Helper()
	var list []*node
	for _, name := range []string{"a", "b", "c"} {
		list = append(list, &node{Name: name, Dir: t.TempDir(), Listen: freeAddr(t), Peers: freeAddr(t)})
	}
	for _, n := range list {
		for _, other := range list {
			if other != n {
				n.Routes = append(n.Routes, other.Peers)
			}
		}
		n.start(t)
	}
	return list
}

// TestSoakNodesKilled: each of three NATS nodes is killed by itself and returns,
// so that the one that leads is among them; then all are, for longer than a lease
// lasts. Streams and viewers never notice. Publishers are let in while one node is
// away, and refused while the registry is.
func TestSoakNodesKilled(t *testing.T) {
	long(t)
	peer.Need(t, "ffmpeg")
	nodes := startNodes(t)
	c := startAt(t, nil, func(int) string { return freeAddr(t) }, nodes)
	cam := publish(t, c.servers[1], "cam")
	encoder := cam.process
	viewers := []*viewer{watch(t, c.edge(0), "cam"), watch(t, c.edge(1), "cam")}
	hls := watchHLS(t, c.edge(1), "cam")
	goOn := func() {
		t.Helper()
		for _, v := range viewers {
			v.expect(t, 50)
			t.Logf("  longest time without a frame at a viewer: %v", v.longest().Round(time.Millisecond))
		}
		hls.expect(t)
		require.Empty(t, hls.errors(), "of the playlist")
		require.True(t, encoder.Running(), "the publisher was left alone")
	}
	for _, v := range viewers {
		v.expect(t, 20)
		v.longest()
	}
	for _, n := range nodes {
		killed := time.Now()
		n.process.Kill()
		publish(t, c.servers[2], "without-"+n.Name)
		t.Logf("a new publisher was let in %v after node %s was killed", time.Since(killed).Round(time.Millisecond), n.Name)
		watch(t, c.edge(0), "without-"+n.Name).expect(t, 20)
		t.Logf("and its viewer at an edge had frames %v after", time.Since(killed).Round(time.Millisecond))
		goOn()
		returned := time.Now()
		n.start(t)
		publish(t, c.servers[0], "with-"+n.Name)
		t.Logf("a new publisher was let in %v after its return", time.Since(returned).Round(time.Millisecond))
	}

	killed := time.Now()
	for _, n := range nodes {
		n.process.Kill()
	}
	refused := peer.Start(t, "ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", lab.Clip(t, peer.AV), "-c", "copy", "-f", "flv",
		"rtmp://"+c.servers[0].rtmp+"/live/new?token=secret")
	require.Error(t, refused.Wait(t, time.Minute), "without the registry no publisher is let in")
	t.Logf("a publisher was refused %v after all nodes were killed", time.Since(killed).Round(time.Millisecond))
	goOn()
	time.Sleep(max(0, 20*time.Second-time.Since(killed)))
	goOn()
	returned := time.Now()
	for _, n := range nodes {
		n.start(t)
	}
	publish(t, c.servers[0], "new")
	t.Logf("a publisher was let in %v after all nodes were started again", time.Since(returned).Round(time.Millisecond))
	watch(t, c.edge(0), "new").expect(t, 20)
	publish(t, c.servers[1], "at-the-same")
	second := peer.Start(t, "ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", lab.Clip(t, peer.AV), "-c", "copy", "-f", "flv",
		"rtmp://"+c.servers[2].rtmp+"/live/cam?token=secret")
	require.Error(t, second.Wait(t, time.Minute), "the stream is taken still")
	goOn()
}
