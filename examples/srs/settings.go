package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/hooks"
	"github.com/runnel-media/runnel/stream"
)

// settings are a config, read.
type settings struct {
	listen         []string
	rtmps          listener
	srt            srtSettings
	rtc            rtcSettings
	maxConnections int
	daemon         bool
	pid, workDir   string
	serverID       string
	location       *time.Location
	log            logSettings
	api            struct {
		listener
		https          listener
		auth           bool
		user, password string
	}
	web struct {
		listener
		https       listener
		dir         string
		crossdomain bool
	}
	vhosts   []*vhost // the default one is the first
	warnings []string
}

type listener struct {
	enabled   bool
	addr      string
	key, cert string
}

type srtSettings struct {
	listener
	latency, idle time.Duration
	passphrase    string
}

type logSettings struct {
	file  string // "": standard output
	level string
}

const defaultVhost = "__defaultVhost__"

// A vhost is what a virtual host has of its own. play is of the default one, for
// all.
type vhost struct {
	name    string // "" is the default one, as in auth.Request
	enabled bool
	srt     bool
	rtc     bool
	// How long WebRTC's peers may be silent; the default one's, for all.
	rtcTimeout time.Duration
	// Whose sound is put into other codecs; its pictures pass anyway.
	rtmpToRTC, rtcToRTMP bool

	play   playSettings
	remux  *mount // nil: off
	hls    hlsSettings
	dash   bool
	dvr    dvrSettings
	hooks  hooks.URLs
	notify int64 // bytes that are read of the answer to on_hls_notify
	rules  *rules
	refer  *refer
}

type playSettings struct {
	gopCache            bool
	cacheFrames         int
	queue, interval     time.Duration
	jitter              stream.Jitter
	mixCorrect          bool
	firstPacket, normal time.Duration
}

type hlsSettings struct {
	enabled          bool
	fragment, window time.Duration
	path, m3u8, ts   string
	prefix           string
	cleanup          bool
	dispose          time.Duration
	m3u8Mount        *mount
}

type dvrSettings struct {
	enabled bool
	apply   []string // patterns of "app/stream"; none: all
	path    string
	segment time.Duration // 0: one file a session
}

// newSettings reads a config. root is nil if there is but the environment, which
// comes before the file.
func newSettings(root *directive, env map[string]string) (*settings, error) {
	r := &reader{root: root, env: env}
	if root == nil {
		r.root = &directive{}
	}
	s := &settings{
		listen:         r.addrs("listen", "1935"),
		rtmps:          r.listener("rtmps", "1443", true),
		maxConnections: r.integer("max_connections", 1000, 1, 1_000_000),
		daemon:         r.on("daemon", false),
		pid:            r.text("pid", ""),
		workDir:        r.text("work_dir", ""),
		serverID:       r.text("server_id", ""),
		location:       time.Local,
		log:            logSettings{file: r.text("srs_log_file", ""), level: r.text("srs_log_level_v2", r.text("srs_log_level", "trace"))},
	}
	if r.on("utc_time", false) {
		s.location = time.UTC
	}
	if r.text("srs_log_tank", "file") != "file" {
		s.log.file = ""
	}
	s.srt = srtSettings{
		listener: r.listener("srt_server", "10080", false), passphrase: r.text("srt_server.passphrase", ""),
		latency: time.Duration(r.integer("srt_server.latency", 120, 1, 60_000)) * time.Millisecond,
		idle:    time.Duration(r.integer("srt_server.peer_idle_timeout", 10_000, 1000, 3_600_000)) * time.Millisecond,
	}
	if n := len(s.srt.passphrase); n != 0 && (n < 10 || n > 79) {
		r.fail("srt_server.passphrase", "has not 10 to 79 characters")
	}
	s.api.listener = r.listener("http_api", "1985", false)
	s.api.https = r.listener("http_api.https", "1990", true)
	if s.api.auth = r.on("http_api.auth.enabled", false); s.api.auth {
		s.api.user, s.api.password = r.text("http_api.auth.username", ""), r.text("http_api.auth.password", "")
		if s.api.user == "" || s.api.password == "" {
			r.fail("http_api.auth", "takes a username and a password")
		}
	}
	s.web.listener = r.listener("http_server", "8080", false)
	s.web.https = r.listener("http_server.https", "8088", true)
	s.web.dir, s.web.crossdomain = r.text("http_server.dir", "./objs/nginx/html"), r.on("http_server.crossdomain", true)

	s.vhosts = []*vhost{{enabled: root == nil}}
	if root == nil {
		s.vhosts[0] = r.vhost(&directive{}, "")
	}
	names := map[string]bool{}
	for _, d := range r.root.children {
		if d.name != "vhost" {
			continue
		}
		if len(d.args) != 1 || names[d.args[0]] {
			r.failAt(d, "takes one name, once")
			continue
		}
		names[d.args[0]] = true
		if d.args[0] == defaultVhost {
			s.vhosts[0] = r.vhost(d, "")
			continue
		}
		if checkVhost(d.args[0]) != nil {
			r.failAt(d, "not a name for a virtual host")
			continue
		}
		s.vhosts = append(s.vhosts, r.vhost(d, d.args[0]))
		for _, block := range []string{"play", "publish", "min_latency"} {
			if c := d.child(block); c != nil {
				s.warnings = append(s.warnings, c.at()+": vhost."+block+" is the default virtual host's for all")
			}
		}
	}
	if root != nil && !names[defaultVhost] {
		s.warnings = append(s.warnings, "there is no vhost "+defaultVhost+": streams of no virtual host are refused")
		s.vhosts[0].play = r.play(nil)
	}
	s.rtc = r.rtc()
	s.notice(r, root)
	return s, errors.Join(r.errs...)
}

// notice collects what is to be said of the config.
func (s *settings) notice(r *reader, root *directive) {
	if s.daemon {
		s.warnings = append(s.warnings, "daemon on: stays in the foreground; systemd and Docker want it so")
	}
	if root != nil {
		for _, u := range unknownOf(root) {
			s.warnings = append(s.warnings, u+" is not known here")
		}
	}
	for _, a := range absences {
		if r.asked(a.path, a.value) {
			s.warnings = append(s.warnings, a.path+": "+a.what+" is not in yet")
		}
	}
	for name := range r.env {
		if strings.HasPrefix(name, "SRS_") && !knownEnv(name) {
			s.warnings = append(s.warnings, "environment: "+name+" is not known here")
		}
	}
	slices.Sort(s.warnings)
}

func checkVhost(name string) error {
	if strings.Contains(name, "/") {
		return stream.ErrName
	}
	return stream.CheckStorageName(name)
}

// environment returns the variables that are read.
func environment() map[string]string {
	env := make(map[string]string)
	for _, s := range os.Environ() {
		if name, value, _ := strings.Cut(s, "="); strings.HasPrefix(name, "SRS_") || name == "CANDIDATE" {
			env[name] = value
		}
	}
	return env
}
