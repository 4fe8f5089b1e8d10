package relay

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// TestSRTPeers: ffmpeg, by libsrt, takes what is pushed to it and gives what is pulled
// from it, encrypted.
func TestSRTPeers(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffprobe")
	const secret = "passphrase=0123456789abcdef"
	source := peer.FreeAddr(t)
	sender := peer.Start(t, "ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", lab.Clip(t, peer.AV), "-c", "copy", "-f", "mpegts", "srt://"+source+"?mode=listener&latency=200000&"+secret)
	sink := peer.FreeAddr(t)
	edge := start(t, "-demo=false", "-origin", "srt://"+source+"?latency=200000&streamid={stream}&"+secret)
	watch(t, "http://"+edge.http+"/live/cam.flv").expect(t, 100, 30*time.Second)
	require.True(t, sender.Running())

	start(t, "-forward", "srt://"+sink+"?streamid=copy&pbkeylen=32&"+secret)
	m := peer.Probe(t, 60*time.Second, "-read_intervals", "%+2", "srt://"+sink+"?mode=listener&"+secret)
	require.Equal(t, []string{"aac", "h264"}, m.Codecs())
	require.GreaterOrEqual(t, len(m.Video), 25)
}

// TestSRTForwarded: srt-live-transmit, libsrt's own tool, stands between two of our
// servers.
func TestSRTForwarded(t *testing.T) {
	t.Parallel()
	peer.Need(t, "srt-live-transmit")
	between, at := peer.FreeAddr(t), peer.FreeAddr(t)
	to := start(t, "-demo=false", "-srt", at)
	through := peer.Start(t, "srt-live-transmit", "-a:yes", "srt://"+between+"?mode=listener&passphrase=0123456789", "srt://"+at+"?mode=caller&streamid=#!::r=live/copy,m=publish")
	start(t, "-forward", "srt://"+between+"?passphrase=0123456789&streamid=x")
	watch(t, "http://"+to.http+"/live/copy.flv").expect(t, 100, 40*time.Second)
	require.True(t, through.Running())
}

const nginxHTTP = `daemon off;
user root; # if it is: what a test writes is its own
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen %s;
		root .;
	}
}
`

// TestHLSPull: an edge plays what ffmpeg packages and nginx serves, in MPEG-TS,
// encrypted, and in fragmented MP4.
func TestHLSPull(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffprobe")
	nginx := "/usr/sbin/nginx"
	if _, err := os.Stat(nginx); err != nil {
		nginx = peer.Need(t, "nginx")
	}
	dir, addr := t.TempDir(), peer.FreeAddr(t)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	file("k.key", "0123456789abcdef")
	clear, locked := []string{"-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "mp4.init"}, []string{"-hls_key_info_file", file("k.info", "k.key\n"+filepath.Join(dir, "k.key")+"\n")}
	for name, more := range map[string][]string{"ts": nil, "locked": locked, "mp4": clear} {
		args := append([]string{"-v", "error", "-re", "-stream_loop", "-1", "-i", lab.Clip(t, peer.AV), "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "6", "-hls_flags", "delete_segments"}, more...)
		peer.StartIn(t, dir, nil, "ffmpeg", append(args, "-hls_segment_filename", name+"%d.seg", name+".m3u8")...)
	}
	peer.Start(t, nginx, "-p", dir, "-c", file("nginx.conf", fmt.Sprintf(nginxHTTP, addr)), "-e", "stderr")
	answers(t, addr)
	edge := start(t, "-demo=false", "-origin", "hls://"+addr+"/{name}.m3u8")
	t.Run("all", func(t *testing.T) { // until the servers may end
		for _, name := range []string{"ts", "locked", "mp4"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				v := watch(t, "http://"+edge.http+"/live/"+name+".flv")
				v.expect(t, 100, 40*time.Second)
				require.Zero(t, v.back, "timestamps that stepped back")
			})
		}
	})
}
