package srs

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// TestEnvironment: srs -e with the variables that SRS's users set. ffmpeg publishes
// and plays over RTMP, HTTP-FLV and HLS, files are written where they say, the
// service hears of everything, and Ctrl-C ends it with status 0.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffmpeg")
	hooks := startHooks(t)
	s := start(t, func(s *server) (env, args []string) {
		env = []string{
			"SRS_LISTEN=" + s.rtmp, "SRS_MAX_CONNECTIONS=100", "SRS_DAEMON=off", "SRS_SRS_LOG_FILE=./srs.log", "SRS_WORK_DIR=" + s.dir,
			"SRS_PID=./srs.pid", "SRS_SERVER_ID=vid-e2etest", "SRS_CHUNK_SIZE=60000",
			"SRS_HTTP_API_ENABLED=on", "SRS_HTTP_API_LISTEN=" + s.api,
			"SRS_HTTP_SERVER_ENABLED=on", "SRS_HTTP_SERVER_LISTEN=" + s.http, "SRS_HTTP_SERVER_DIR=./html",
			"SRS_SRT_SERVER_ENABLED=on", "SRS_SRT_SERVER_LISTEN=" + s.srt, "SRS_VHOST_SRT_ENABLED=off",
			"SRS_RTC_SERVER_ENABLED=on", "SRS_RTC_SERVER_LISTEN=" + s.rtc, "CANDIDATE=127.0.0.1", "SRS_VHOST_RTC_ENABLED=on",
			"SRS_VHOST_RTC_RTMP_TO_RTC=on", "SRS_VHOST_RTC_RTC_TO_RTMP=on",
			"SRS_VHOST_HTTP_REMUX_ENABLED=on", "SRS_VHOST_HTTP_REMUX_MOUNT=[vhost]/[app]/[stream].flv", "SRS_VHOST_HTTP_REMUX_GUESS_HAS_AV=off",
			"SRS_VHOST_HLS_ENABLED=on", "SRS_VHOST_HLS_HLS_PATH=./html", "SRS_VHOST_HLS_HLS_M3U8_FILE=[app]/[stream].m3u8",
			"SRS_VHOST_HLS_HLS_TS_FILE=[app]/[stream]-[seq].ts", "SRS_VHOST_HLS_HLS_FRAGMENT=2",
			"SRS_VHOST_DVR_ENABLED=on", "SRS_VHOST_DVR_DVR_PATH=./html/[app]/[stream].[timestamp].flv", "SRS_VHOST_DVR_DVR_PLAN=session",
			"SRS_VHOST_DVR_DVR_DURATION=30", "SRS_VHOST_PLAY_ATC=off", "SRS_VHOST_HTTP_HOOKS_ENABLED=on",
		}
		for _, e := range []string{"connect", "close", "publish", "unpublish", "play", "stop", "dvr", "hls"} {
			env = append(env, "SRS_VHOST_HTTP_HOOKS_ON_"+strings.ToUpper(e)+"="+hooks.URL+"/hook")
		}
		env = append(env, "SRS_VHOST_HTTP_HOOKS_ON_HLS_NOTIFY="+hooks.URL+"/notify/[app]/[stream]/[ts_url][param]")
		return env, []string{"-e"}
	})
	log := func() string {
		b, err := os.ReadFile(filepath.Join(s.dir, "srs.log"))
		require.NoError(t, err)
		return string(b)
	}
	require.NotContains(t, log(), "not in yet")
	require.NotContains(t, log(), "not known")
	pid, err := os.ReadFile(filepath.Join(s.dir, "srs.pid"))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintln(s.PID()), string(pid))

	refused := publish(t, "rtmp://"+s.rtmp+"/live/refused")
	require.Error(t, refused.Wait(t, 20*time.Second))
	publisher := publish(t, "rtmp://"+s.rtmp+"/live/livestream?token=abc")
	connect := hooks.wait(t, "on_connect", "stream", "livestream")
	published := hooks.wait(t, "on_publish", "stream", "livestream")
	require.Equal(t, connect["client_id"], published["client_id"])
	for name, want := range map[string]any{
		"server_id": "vid-e2etest", "ip": "127.0.0.1", "vhost": "__defaultVhost__", "app": "live", "stream": "livestream",
		"param": "?token=abc", "stream_url": "/live/livestream", "tcUrl": "rtmp://" + s.rtmp + "/live",
	} {
		require.Equal(t, want, published[name], name)
	}

	watch(t, "rtmp://"+s.rtmp+"/live/livestream")
	watch(t, "http://"+s.http+"/live/livestream.flv")
	watch(t, "http://"+s.http+"/live/livestream.m3u8")
	played := hooks.wait(t, "on_play", "stream", "livestream")
	require.Contains(t, played, "pageUrl")
	stopped := hooks.wait(t, "on_stop", "client_id", played["client_id"])
	require.Equal(t, played["stream_id"], stopped["stream_id"])
	closed := hooks.wait(t, "on_close", "client_id", played["client_id"])
	require.Positive(t, closed["send_bytes"])

	segment := hooks.wait(t, "on_hls", "url", "live/livestream-1.ts")
	require.Equal(t, published["client_id"], segment["client_id"])
	require.EqualValues(t, 1, segment["seq_no"])
	require.Equal(t, "./html/live/livestream-1.ts", segment["file"])
	require.Equal(t, "live/livestream.m3u8", segment["m3u8_url"])
	require.InDelta(t, 2, segment["duration"], 0.5)
	require.Equal(t, s.dir, segment["cwd"])
	ts := peer.Probe(t, 20*time.Second, "http://"+s.http+"/live/livestream-1.ts")
	require.Empty(t, ts.Log)
	require.InDelta(t, 50, len(ts.Video), 2)
	hooks.wait(t, "GET", "url", "/notify/live/livestream/live/livestream-1.ts?token=abc")
	// Any web server can serve the files while the stream goes on.
	files := http.FileServer(http.Dir(filepath.Join(s.dir, "html")))
	server := &http.Server{Handler: files}
	l := peer.Listen(t)
	go func() { _ = server.Serve(l) }()
	watch(t, "http://"+l.Addr().String()+"/live/livestream.m3u8")

	publisher.Kill()
	hooks.wait(t, "on_unpublish", "client_id", published["client_id"])
	closed = hooks.wait(t, "on_close", "client_id", published["client_id"])
	require.Positive(t, closed["recv_bytes"])
	dvr := hooks.wait(t, "on_dvr", "client_id", published["client_id"])
	recording := peer.Probe(t, 30*time.Second, filepath.Join(dvr["cwd"].(string), dvr["file"].(string)))
	require.Equal(t, []string{"aac", "h264"}, recording.Codecs())
	require.Greater(t, len(recording.Video), 3*peer.FPS)
	require.Regexp(t, `^\./html/live/livestream\.\d{13}\.flv$`, dvr["file"])

	again := publish(t, "rtmp://"+s.rtmp+"/live/livestream")
	peer.Eventually(t, 20*time.Second, "it is published again", func() bool {
		return len(hooks.of("on_publish")) == 2
	})
	s.interrupt(t)
	require.Len(t, hooks.of("on_unpublish"), 2, "it has told before it ended")
	require.Len(t, hooks.of("on_connect"), 1+len(hooks.of("on_close")), "each but the refused one")
	require.NoFileExists(t, filepath.Join(s.dir, "srs.pid"))
	_ = again.Wait(t, 20*time.Second) // it has nobody to talk to
}

// TestSRT: what comes by SRT is played by RTMP, and the other way round.
func TestSRT(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffmpeg")
	hooks := startHooks(t)
	s := start(t, func(s *server) (env, args []string) {
		return []string{
			"SRS_LISTEN=" + s.rtmp, "SRS_HTTP_API_ENABLED=on", "SRS_HTTP_API_LISTEN=" + s.api,
			"SRS_HTTP_SERVER_ENABLED=on", "SRS_HTTP_SERVER_LISTEN=" + s.http,
			"SRS_SRT_SERVER_ENABLED=on", "SRS_SRT_SERVER_LISTEN=" + s.srt, "SRS_VHOST_SRT_ENABLED=on", "SRS_VHOST_SRT_SRT_TO_RTMP=on",
			"SRS_VHOST_HTTP_HOOKS_ENABLED=on", "SRS_VHOST_HTTP_HOOKS_ON_PLAY=" + hooks.URL,
		}, []string{"-e"}
	})
	peer.Start(t, "ffmpeg", "-nostdin", "-v", "error", "-stream_loop", "-1", "-re", "-i", lab.Clip(t, peer.AV), "-c", "copy", "-f", "mpegts",
		"srt://"+s.srt+"?streamid=#!::r=live/srt,m=publish")
	// A player may come first.
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		media, err := peer.TryProbe(t, 60*time.Second, "-analyzeduration", "1000000", "-read_intervals", "%+1", "rtmp://"+s.rtmp+"/live/rtmp")
		if assert.NoError(t, err) {
			assert.NotEmpty(t, media.Video)
		}
	}()
	hooks.wait(t, "on_play", "stream", "rtmp")
	publish(t, "rtmp://"+s.rtmp+"/live/rtmp")
	<-waiting
	c := client{t: t, base: "http://" + s.api}
	peer.Eventually(t, 20*time.Second, "two streams", func() bool { return len(c.list("streams")) == 2 })
	watch(t, "rtmp://"+s.rtmp+"/live/srt")
	watch(t, "srt://"+s.srt+"?streamid=#!::r=live/rtmp,m=request")
	s.interrupt(t)
}

// conf is what people have in conf/srs.conf.
const conf = `
# main config
listen              %[1]s;
max_connections     1000;
srs_log_tank        console;
srs_log_level       trace;
daemon              off;
http_api {
    enabled         on;
    listen          %[2]s;
    auth { enabled on; username admin; password "p:w"; }
}
http_server {
    enabled         on;
    listen          %[3]s;
    dir             ./objs/nginx/html;
}
rtc_server {
    enabled on;
    listen %[4]s; # UDP port
    candidate $CANDIDATE;
}
what_is_this yes;
vhost __defaultVhost__ {
    tcp_nodelay on;
    min_latency on;
    play { gop_cache on; queue_length 10; mw_latency 100; }
    publish { mr off; firstpkt_timeout 20000; normal_timeout 7000; }
    hls { enabled on; hls_fragment 2; }
    http_remux { enabled on; mount [vhost]/[app]/[stream].flv; }
    security { enabled on; allow publish 127.0.0.0/8; allow play all; }
    rtc { enabled on; rtmp_to_rtc on; rtc_to_rtmp on; }
}
vhost example.com {
    http_remux { enabled on; mount [vhost]/watch/[app]/[stream].flv; }
    dvr { enabled on; dvr_plan segment; dvr_duration 2; dvr_path ./objs/dvr/[app]/[stream]/[timestamp].mp4; }
}
vhost closed.example.com {
    security { enabled on; deny publish all; deny play all; }
}
`

// TestConfigFile: srs -c with a typical file, virtual hosts, and basic auth.
func TestConfigFile(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffmpeg")
	s := start(t, func(s *server) (env, args []string) {
		file := filepath.Join(s.dir, "srs.conf")
		require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, conf, s.rtmp, s.api, s.http, s.rtc), 0o600))
		return nil, []string{"-c", file}
	})
	require.Contains(t, s.Log(), "srs.conf:23: what_is_this is not known here")
	require.NotContains(t, s.Log(), "not in yet")

	publish(t, "rtmp://"+s.rtmp+"/live/livestream")
	publish(t, "rtmp://"+s.rtmp+"/live/livestream?vhost=example.com")
	watch(t, "rtmp://"+s.rtmp+"/live/livestream")
	watch(t, "http://"+s.http+"/live/livestream.flv")
	watch(t, "rtmp://"+s.rtmp+"/live/livestream?vhost=example.com")
	watch(t, "http://"+s.http+"/watch/live/livestream.flv?vhost=example.com")
	refused := publish(t, "rtmp://"+s.rtmp+"/live/other?vhost=closed.example.com")
	require.Error(t, refused.Wait(t, 20*time.Second))

	c := client{t: t, base: "http://admin:p%3Aw@" + s.api}
	require.Equal(t, 401, client{t: t, base: "http://" + s.api}.status("GET", "/api/v1/versions"))
	require.Equal(t, 401, client{t: t, base: "http://admin:wrong@" + s.api}.status("GET", "/api/v1/versions"))
	names := map[string]string{}
	for _, v := range c.list("vhosts") {
		names[v["id"].(string)] = v["name"].(string)
	}
	require.Len(t, names, 3)
	urls := map[string]string{}
	for _, v := range c.list("streams") {
		urls[names[v["vhost"].(string)]] = v["url"].(string)
	}
	require.Equal(t, map[string]string{"__defaultVhost__": "/live/livestream", "example.com": "example.com/live/livestream"}, urls)

	peer.Eventually(t, 30*time.Second, "two segments of the DVR", func() bool {
		files, err := filepath.Glob(filepath.Join(s.dir, "objs/dvr/example.com/live/livestream/*.mp4"))
		return err == nil && len(files) >= 2
	})
	s.interrupt(t)
}
