package main

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/hooks"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
)

// environmentOfUsers are the variables that people start SRS with.
const environmentOfUsers = `SRS_LISTEN SRS_MAX_CONNECTIONS SRS_DAEMON SRS_SRS_LOG_FILE SRS_WORK_DIR SRS_PID SRS_SERVER_ID SRS_CHUNK_SIZE
	SRS_HTTP_API_ENABLED SRS_HTTP_API_LISTEN SRS_HTTP_API_AUTH_ENABLED SRS_HTTP_API_AUTH_USERNAME SRS_HTTP_API_AUTH_PASSWORD
	SRS_HTTP_SERVER_ENABLED SRS_HTTP_SERVER_LISTEN SRS_HTTP_SERVER_DIR SRS_SRT_SERVER_ENABLED SRS_SRT_SERVER_LISTEN SRS_VHOST_SRT_ENABLED
	SRS_VHOST_SRT_SRT_TO_RTMP SRS_RTC_SERVER_ENABLED SRS_RTC_SERVER_LISTEN SRS_VHOST_RTC_ENABLED SRS_VHOST_RTC_RTMP_TO_RTC
	SRS_VHOST_RTC_RTC_TO_RTMP SRS_VHOST_HTTP_REMUX_ENABLED SRS_VHOST_HTTP_REMUX_MOUNT SRS_VHOST_HTTP_REMUX_GUESS_HAS_AV
	SRS_VHOST_HLS_ENABLED SRS_VHOST_HLS_HLS_PATH SRS_VHOST_HLS_HLS_M3U8_FILE SRS_VHOST_HLS_HLS_TS_FILE SRS_VHOST_DVR_ENABLED
	SRS_VHOST_DVR_DVR_PATH SRS_VHOST_DVR_DVR_PLAN SRS_VHOST_DVR_DVR_DURATION SRS_VHOST_HTTP_HOOKS_ENABLED SRS_VHOST_HTTP_HOOKS_ON_DVR
	SRS_VHOST_PLAY_ATC`

func TestKnownEnvironment(t *testing.T) {
	for name := range strings.FieldsSeq(environmentOfUsers) {
		require.True(t, knownEnv(name), name)
	}
	require.False(t, knownEnv("SRS_NOTHING"))
	require.Equal(t, "SRS_VHOST_HLS_HLS_PATH", envName("vhost.hls.hls_path"))
}

func TestDefaults(t *testing.T) {
	s, err := newSettings(nil, nil)
	require.NoError(t, err)
	require.Empty(t, s.warnings)
	require.Equal(t, []string{":1935"}, s.listen)
	require.Equal(t, ":1985", s.api.addr)
	require.Equal(t, ":8080", s.web.addr)
	require.False(t, s.api.enabled || s.web.enabled || s.rtmps.enabled)
	require.Equal(t, 1000, s.maxConnections)
	v := s.vhosts[0]
	require.True(t, v.enabled)
	require.Equal(t, playSettings{
		gopCache: true, cacheFrames: 2500, queue: 30 * time.Second, interval: 350 * time.Millisecond, firstPacket: 20 * time.Second, normal: 5 * time.Second,
	}, v.play)
	require.Nil(t, v.remux)
	require.Nil(t, v.rules)
	require.Nil(t, v.refer)
	require.False(t, v.hls.enabled || v.dvr.enabled)
}

func TestEnvironment(t *testing.T) {
	s, err := newSettings(nil, map[string]string{
		"SRS_LISTEN": "127.0.0.1:19350 [::1]:19351 19352", "SRS_DAEMON": "on", "SRS_HTTP_API_ENABLED": "on", "SRS_HTTP_API_LISTEN": "19850",
		"SRS_HTTP_API_AUTH_ENABLED": "on", "SRS_HTTP_API_AUTH_USERNAME": "admin", "SRS_HTTP_API_AUTH_PASSWORD": "secret",
		"SRS_VHOST_HTTP_REMUX_ENABLED": "on", "SRS_VHOST_HTTP_REMUX_MOUNT": "[vhost]/x/[app]/[stream].ts",
		"SRS_VHOST_HLS_ENABLED": "on", "SRS_VHOST_HLS_HLS_FRAGMENT": "2.5", "SRS_VHOST_DVR_ENABLED": "on", "SRS_VHOST_DVR_DVR_PLAN": "segment",
		"SRS_VHOST_PLAY_ATC": "on", "SRS_VHOST_HTTP_HOOKS_ENABLED": "on", "SRS_VHOST_HTTP_HOOKS_ON_DVR": "http://a/ http://b/",
		"SRS_SRT_SERVER_ENABLED": "on", "SRS_RTC_SERVER_ENABLED": "on", "SRS_VHOST_RTC_ENABLED": "off", "SRS_TYPO": "1",
	})
	require.NoError(t, err)
	require.Equal(t, []string{"127.0.0.1:19350", "[::1]:19351", ":19352"}, s.listen)
	require.Equal(t, ":19850", s.api.addr)
	require.Equal(t, srtSettings{listener: listener{enabled: true, addr: ":10080"}, latency: 120 * time.Millisecond, idle: 10 * time.Second}, s.srt)
	require.True(t, s.api.auth)
	v := s.vhosts[0]
	require.Equal(t, 2500*time.Millisecond, v.hls.fragment)
	require.Equal(t, 30*time.Second, v.dvr.segment)
	require.Equal(t, stream.JitterOff, v.play.jitter)
	require.Equal(t, hooks.URLs{hooks.OnDVR: {"http://a/", "http://b/"}}, v.hooks)
	app, name, ok := v.remux.match("/x/live/cam.ts")
	require.Equal(t, []any{"live", "cam", true}, []any{app, name, ok})
	require.Equal(t, []string{
		"daemon on: stays in the foreground; systemd and Docker want it so", "environment: SRS_TYPO is not known here",
	}, s.warnings)
	require.True(t, s.rtc.enabled)
	require.Equal(t, ":8000", s.rtc.addr)
}

const typical = `
listen 1935;
max_connections 500;
daemon off;
srs_log_tank console;
http_api { enabled on; listen 1985; }
http_server { enabled on; listen 8080; dir ./objs/nginx/html; }
rtc_server { enabled on; listen 8000; candidate $CANDIDATE; tcp { enabled on; } }
strange on;
vhost __defaultVhost__ {
    play { gop_cache off; queue_length 10; mw_latency 100; }
    http_remux { enabled on; mount [vhost]/[app]/[stream].flv; }
    hls { enabled on; hls_fragment 4; hls_strange 1; }
    security { enabled on; deny publish 192.0.2.0/24; allow publish all; allow play all; }
    rtc { enabled on; rtmp_to_rtc on; }
}
vhost example.com {
    dvr { enabled on; dvr_path /data/[vhost]/[app]/[stream]/[2006]-[01].[timestamp].mp4; dvr_apply live/a live/b*; }
    refer { enabled on; all example.org; }
    play { gop_cache on; }
}
`

func TestFile(t *testing.T) {
	root, err := parseConf("srs.conf", typical)
	require.NoError(t, err)
	s, err := newSettings(root, map[string]string{"SRS_MAX_CONNECTIONS": "7", "CANDIDATE": "192.0.2.1 192.0.2.2"})
	require.NoError(t, err)
	require.Equal(t, 7, s.maxConnections, "the environment comes first")
	require.Empty(t, s.log.file)
	require.Equal(t, []string{
		"srs.conf:13: vhost.hls.hls_strange is not known here",
		"srs.conf:20: vhost.play is the default virtual host's for all",
		"srs.conf:9: strange is not known here",
	}, sorted(s.warnings))
	require.True(t, s.rtc.tcp.enabled)
	require.Equal(t, []string{"192.0.2.1", "192.0.2.2"}, s.rtc.candidates)
	addrs, err := s.rtc.addrs(t.Context())
	require.NoError(t, err)
	require.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}, addrs)
	require.True(t, s.vhosts[0].bridges())
	require.False(t, s.vhosts[1].bridges())
	require.Equal(t, 30*time.Second, s.vhosts[0].rtcTimeout)
	require.Len(t, s.vhosts, 2)
	require.False(t, s.vhosts[0].play.gopCache)
	v := s.vhosts[1]
	require.Equal(t, "example.com", v.name)
	require.True(t, v.dvr.applies("live/bb"))
	require.False(t, v.dvr.applies("live/c"))

	require.Equal(t, "example.com", s.choose("example.com", ""))
	require.Equal(t, "example.com", s.choose("192.0.2.1", "example.com"))
	require.Empty(t, s.choose("192.0.2.1", "other"))
	of, app, name := s.place("example.com/a/b/cam")
	require.Equal(t, []any{v, "a/b", "cam"}, []any{of, app, name})
	of, app, name = s.place("live/cam")
	require.Equal(t, []any{s.vhosts[0], "live", "cam"}, []any{of, app, name})

	g := gatekeeper{s}
	may := func(action auth.Action, vhost, addr, page string) bool {
		_, err := g.Authorize(t.Context(), &auth.Request{Action: action, VHost: vhost, Remote: netip.AddrPortFrom(netip.MustParseAddr(addr), 1), PageURL: page})
		return err == nil
	}
	require.True(t, may(auth.Publish, "", "198.51.100.1", ""))
	require.False(t, may(auth.Publish, "", "192.0.2.9", ""))
	require.True(t, may(auth.Play, "", "192.0.2.9", ""))
	_, err = g.Authorize(t.Context(), &auth.Request{Action: auth.Play, Protocol: "srt", Remote: netip.MustParseAddrPort("198.51.100.1:1")})
	require.ErrorIs(t, err, auth.ErrDenied)
	require.False(t, may(auth.Admin, "", "127.0.0.1", ""))
	require.False(t, may(auth.Play, "example.com", "192.0.2.9", ""))
	require.True(t, may(auth.Play, "example.com", "192.0.2.9", "https://WWW.example.org/x"))
	require.False(t, may(auth.Play, "example.com", "192.0.2.9", "https://badexample.org/"))
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

// TestNoDefault: a config without the default virtual host has none.
func TestNoDefault(t *testing.T) {
	root, err := parseConf("c", "vhost example.com { }")
	require.NoError(t, err)
	s, err := newSettings(root, nil)
	require.NoError(t, err)
	require.Len(t, s.warnings, 1)
	_, err = gatekeeper{s}.Authorize(t.Context(), &auth.Request{Action: auth.Play})
	require.ErrorIs(t, err, auth.ErrDenied)
	_, err = gatekeeper{s}.Authorize(t.Context(), &auth.Request{Action: auth.Play, VHost: "example.com"})
	require.NoError(t, err)
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"listen x;":                        "c:1: listen: is neither a port",
		"listen 70000;":                    "c:1: listen: is neither a port",
		"max_connections 0;":               "c:1: max_connections: is not a number from 1",
		"daemon yes;":                      "c:1: daemon: is neither on nor off",
		"pid a b;":                         "c:1: pid: takes one value",
		"srt_server { passphrase short; }": "c:1: passphrase: has not 10",
		"rtmps { enabled on; }":            "rtmps: takes a key and a cert",
		"vhost;":                           "c:1: vhost: takes one name",
		"vhost a {}\nvhost a {}":           "c:2: vhost: takes one name",
		"vhost ../x {}":                    "c:1: vhost: not a name",
		"http_api { enabled on; auth { enabled on; username a; } }":    "c:1: auth: takes a username and a password",
		"vhost a { hls { enabled on; hls_fragment 0; } }":              "hls_fragment: is not a number of seconds",
		"vhost a { hls { enabled on; hls_fragment NaN; } }":            "hls_fragment: is not a number of seconds",
		"vhost a { hls { enabled on; hls_m3u8_file x.m3u8; } }":        "hls_m3u8_file: takes a path with [stream]",
		"vhost a { hls { enabled on; hls_ts_file [stream].ts; } }":     "hls_ts_file: has neither",
		"vhost a { dvr { enabled on; dvr_path /x/[app].avi; } }":       "dvr_path: ends with neither",
		"vhost a { dvr { enabled on; dvr_path [app].flv; } }":          "dvr_path: begins with a word",
		"vhost a { dvr { enabled on; dvr_path /x/[what].flv; } }":      "dvr_path: has something in brackets",
		"vhost a { dvr { enabled on; dvr_path '/x/{app}.flv'; } }":     "dvr_path: has braces",
		"vhost a { dvr { dvr_plan append; } }":                         "dvr_plan: is neither",
		"vhost a { http_hooks { enabled on; on_play ftp://x; } }":      "http_hooks: hooks: on_play takes a URL",
		"vhost a { security { enabled on; allow all; } }":              "c:1: allow: takes",
		"vhost a { security { enabled on; deny play 1.2.3; } }":        "c:1: deny: neither all",
		"vhost a { play { time_jitter x; } }":                          "time_jitter: is none of",
		"vhost a { play { queue_length 1; mw_latency 2000; } }":        "mw_latency: is not below",
		"vhost a { http_remux { enabled on; mount /live/[stream]; } }": "mount: takes a path",
	} {
		root, err := parseConf("c", text)
		require.NoError(t, err, text)
		_, err = newSettings(root, nil)
		require.ErrorContains(t, err, want, text)
	}
}

func TestRules(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	only := auth.IPRange{From: a, To: a}
	for name, c := range map[string]struct {
		rules *rules
		a, b  bool // may they play?
	}{
		"off":            {nil, true, true},
		"none":           {&rules{}, false, false},
		"deny one":       {&rules{[]rule{{action: auth.Play, addrs: only}}}, false, true},
		"allow one":      {&rules{[]rule{{allow: true, action: auth.Play, addrs: only}}}, true, false},
		"deny wins":      {&rules{[]rule{{allow: true, action: auth.Play, all: true}, {action: auth.Play, addrs: only}}}, false, true},
		"allow publish":  {&rules{[]rule{{allow: true, action: auth.Publish, all: true}}}, false, false},
		"deny publish":   {&rules{[]rule{{action: auth.Publish, all: true}}}, true, true},
		"deny everybody": {&rules{[]rule{{action: auth.Play, all: true}}}, false, false},
	} {
		require.Equal(t, c.a, c.rules.allow(auth.Play, a), name)
		require.Equal(t, c.b, c.rules.allow(auth.Play, b), name)
	}
}

func TestNames(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC)
	require.Equal(t, "live/cam-12.ts", expand("[app]/[stream]-[seq].ts", "", "live", "cam", 12, at, time.Second))
	require.Equal(t, "__defaultVhost__/live/2026/03/04/05-06-07.089-1500.ts",
		expand("[vhost]/[app]/[2006]/[01]/[02]/[15]-[04]-[05].[999]-[duration].ts", "", "live", "cam", 12, at, 1500*time.Millisecond))
	require.Equal(t, "cam.1772600767089.ts", expand("./[stream].[timestamp].ts", "v", "live", "cam", 12, at, 0))

	for _, c := range []struct {
		path, vhost, dir, name string
		format                 record.Format
	}{
		{"./objs/nginx/html/[app]/[stream].[timestamp].flv", "", "./objs/nginx/html/", "{app}/{name}.{unix}", record.FLV},
		{"/data/[vhost]/[app]/[stream]/[2006].mp4", "example.com", "/data/", "{app}/{name}/{start:2006}", record.MP4},
		{"/data/[vhost]/[app]/[stream].mp4", "", "/data/__defaultVhost__/", "{app}/{name}", record.MP4},
		{"/data/x-[stream].flv", "", "/data/", "x-{name}", record.FLV},
	} {
		d := dvrSettings{path: c.path}
		r, err := d.recorder(c.vhost, time.UTC)
		require.NoError(t, err)
		require.Equal(t, []any{c.dir, c.name, c.format}, []any{d.dir(c.vhost), r.Name, r.Format}, c.path)
	}

	m, err := parseMount("/[app]/[stream].flv")
	require.NoError(t, err)
	for p, want := range map[string][2]string{"/live/cam.flv": {"live", "cam"}, "/a/b/cam.flv": {"a/b", "cam"}, "/cam.flv": {}, "/live/camXflv": {}} {
		app, name, ok := m.match(p)
		require.Equal(t, want, [2]string{app, name}, p)
		require.Equal(t, want[1] != "", ok)
	}
}

func TestCommandLine(t *testing.T) {
	call := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(context.Background(), args, &out, &out)
		return out.String(), err
	}
	for _, flag := range []string{"-v", "-V", "--version"} {
		out, err := call(flag)
		require.NoError(t, err)
		require.Equal(t, "7.0.18\n", out)
	}
	file := filepath.Join(t.TempDir(), "srs.conf")
	require.NoError(t, os.WriteFile(file, []byte(typical), 0o600))
	out, err := call("-t", "-c", file)
	require.NoError(t, err)
	require.Contains(t, out, file+":9: strange is not known here")
	require.NoError(t, os.WriteFile(file, []byte("listen 1935"), 0o600))
	_, err = call("-t", "-c", file)
	require.ErrorContains(t, err, file+":1: no semicolon")
	_, err = call()
	require.ErrorContains(t, err, "-c FILE or -e")
	_, err = call("-e", "x")
	require.Error(t, err)
	_, err = call("-e", "-c", file)
	require.Error(t, err)
}
