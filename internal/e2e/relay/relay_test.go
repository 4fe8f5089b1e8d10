package relay

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

// A viewer notes when frames came.
type viewer struct {
	mu     sync.Mutex
	frames int
	last   time.Time
	gap    time.Duration
	lastTS map[uint8]time.Duration
	back   int // timestamps that stepped back
	done   chan struct{}
}

func watch(t *testing.T, url string) *viewer {
	r := get(t, url)
	v := &viewer{done: make(chan struct{}), lastTS: map[uint8]time.Duration{}}
	go func() {
		defer close(v.done)
		_ = (&flv.Reader{R: r.Body, Demuxer: &flv.Demuxer{Sink: v}}).ReadAll()
	}()
	return v
}

func (v *viewer) SetTracks(...*stream.Track) error { return nil }
func (v *viewer) SetMetadata(stream.Metadata)      {}
func (v *viewer) Write(f *stream.Frame) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.frames++
	now := time.Now()
	if v.frames > 1 {
		v.gap = max(v.gap, now.Sub(v.last))
	}
	v.last = now
	if f.DTS < v.lastTS[f.Track.ID] {
		v.back++
	}
	v.lastTS[f.Track.ID] = f.DTS
	return nil
}

func (v *viewer) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.frames
}

// expect waits for more frames and returns how long that took.
func (v *viewer) expect(t *testing.T, more int, timeout time.Duration) time.Duration {
	t.Helper()
	start, want := time.Now(), v.count()+more
	peer.Eventually(t, timeout, "frames", func() bool {
		select {
		case <-v.done:
			t.Fatal("the viewer was cut off")
		default:
		}
		return v.count() >= want
	})
	return time.Since(start)
}

// TestOriginKilled: the viewers of an edge stay when its origin is killed, and
// go on soon after it is back.
func TestOriginKilled(t *testing.T) {
	for _, scheme := range []string{"rtmp", "http", "runnel"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			origin := start(t)
			at := origin.http
			if scheme == "rtmp" {
				at = origin.rtmp
			}
			edge := start(t, "-origin", scheme+"://"+at)
			v := watch(t, "http://"+edge.http+"/live/demo.flv")
			v.expect(t, 100, 20*time.Second)
			origin.process.Kill()
			time.Sleep(2 * time.Second) // longer than what is on its way
			before := v.count()
			origin.start()
			took := v.expect(t, before-v.count()+1, 10*time.Second)
			t.Logf("%s: frames again %v after the origin answered", scheme, took.Round(time.Millisecond))
			require.Less(t, took, 3*time.Second)
			v.expect(t, 100, 20*time.Second)
			require.Zero(t, v.back, "timestamps that stepped back")
		})
	}
}

// TestPublishAtEdge: what is published at an edge can be watched at another, in
// sound and picture.
func TestPublishAtEdge(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffprobe")
	origin := start(t, "-demo=false", "-relay-id", "origin")
	edges := [2]*server{}
	for i := range edges {
		edges[i] = start(t, "-relay-id", fmt.Sprint("edge", i), "-origin", "runnel://"+origin.http)
	}
	p := peer.Start(t, "ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", lab.Clip(t, peer.AV), "-c", "copy", "-f", "flv", "rtmp://"+edges[0].rtmp+"/live/cam")
	get(t, "http://"+origin.http+"/live/cam.flv")
	for _, url := range []string{"rtmp://" + edges[1].rtmp + "/live/cam", "http://" + edges[1].http + "/live/cam.flv", "http://" + edges[1].http + "/live/cam.m3u8"} {
		get(t, "http://"+edges[1].http+"/live/cam.flv").Body.Close()
		m := peer.Probe(t, 40*time.Second, "-read_intervals", "%+2", url)
		require.Equal(t, []string{"aac", "h264"}, m.Codecs(), url)
		require.GreaterOrEqual(t, len(m.Video), 25, url)
	}
	require.True(t, p.Running())
}

// TestRelayProtocolIsFLV: a standard tool reads what edges get.
func TestRelayProtocolIsFLV(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffprobe")
	origin := start(t)
	get(t, "http://"+origin.http+"/_relay/live/demo.flv").Body.Close()
	m := peer.Probe(t, 40*time.Second, "-read_intervals", "%+2", "http://"+origin.http+"/_relay/live/demo.flv")
	codecs := map[string]bool{}
	for _, s := range m.Streams {
		codecs[s.Codec] = true
	}
	require.True(t, codecs["aac"] && codecs["h264"], "%v", m.Streams)
	require.GreaterOrEqual(t, len(m.Video), 40)
	require.NotEmpty(t, m.Audio)
	for _, path := range []string{"/_relay/live/none.flv", "/_relay/live/demo", "/_relay/../live/demo.flv"} {
		r, err := http.DefaultTransport.RoundTrip(must(http.NewRequest(http.MethodGet, "http://"+origin.http+path, nil)))
		require.NoError(t, err)
		r.Body.Close()
		require.NotEqual(t, http.StatusOK, r.StatusCode, path)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const nginxConf = `load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 64; }
rtmp {
	access_log off;
	server {
		listen %s;
		application live { live on; }
	}
}
`

// TestForwardToNginx: a server that is not ours takes what we forward, before and
// after it was away, and gives us what it has.
func TestForwardToNginx(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffprobe")
	nginx := "/usr/sbin/nginx"
	if path, err := exec.LookPath("nginx"); err == nil {
		nginx = path
	}
	for _, file := range []string{nginx, "/usr/lib/nginx/modules/ngx_rtmp_module.so"} {
		if _, err := os.Stat(file); err != nil {
			peer.Need(t, filepath.Base(file)) // skips, or fails where peers must be there
		}
	}
	dir, addr := t.TempDir(), peer.FreeAddr(t)
	conf := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, nginxConf, addr), 0o600))
	run := func() *peer.Process { return peer.Start(t, nginx, "-p", dir, "-c", conf, "-e", "stderr") }
	foreign := run()
	answers(t, addr)
	from := start(t, "-forward", "rtmp://"+addr+"/live/copy-{name}")
	to := start(t, "-origin", "rtmp://"+addr)
	v := watch(t, "http://"+to.http+"/live/copy-demo.flv")
	v.expect(t, 50, 20*time.Second)
	m := peer.Probe(t, 40*time.Second, "-read_intervals", "%+2", "rtmp://"+addr+"/live/copy-demo")
	require.Equal(t, []string{"aac", "h264"}, m.Codecs())
	foreign.Kill()
	time.Sleep(time.Second)
	run()
	answers(t, addr)
	took := v.expect(t, 50, 20*time.Second)
	t.Logf("50 frames %v after nginx answered again", took.Round(time.Millisecond))
	require.True(t, from.process.Running() && to.process.Running())
}

// TestStop: servers that relay stop as fast as others.
func TestStop(t *testing.T) {
	t.Parallel()
	origin := start(t)
	edge := start(t, "-origin", "rtmp://"+origin.rtmp, "-forward", "rtmp://"+peer.FreeAddr(t))
	r := get(t, "http://"+edge.http+"/live/demo.flv")
	_, err := io.ReadFull(r.Body, make([]byte, 1000))
	require.NoError(t, err)
	r.Body.Close()
	require.NoError(t, edge.process.Stop(t, 15*time.Second))
	require.NoError(t, origin.process.Stop(t, 15*time.Second))
}
