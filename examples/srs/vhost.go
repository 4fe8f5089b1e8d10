package main

import (
	"slices"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/hooks"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// vhost reads a virtual host.
func (r *reader) vhost(d *directive, name string) *vhost {
	r.in = d
	defer func() { r.in = nil }()
	v := &vhost{name: name, enabled: r.on("vhost.enabled", true), dash: r.on("vhost.dash.enabled", false), srt: r.on("vhost.srt.enabled", false)}
	v.rtc = r.on("vhost.rtc.enabled", false)
	v.rtmpToRTC, v.rtcToRTMP = r.on("vhost.rtc.rtmp_to_rtc", false), r.on("vhost.rtc.rtc_to_rtmp", false)
	v.rtcTimeout = r.seconds("vhost.rtc.stun_timeout", 30, 5, 600)
	v.play = r.play(d)
	if r.on("vhost.http_remux.enabled", false) {
		v.remux = r.mount("vhost.http_remux.mount", "[vhost]/[app]/[stream].flv", name)
	}
	h := &v.hls
	h.enabled = r.on("vhost.hls.enabled", false)
	h.fragment, h.window = r.seconds("vhost.hls.hls_fragment", 10, 0.5, 120), r.seconds("vhost.hls.hls_window", 60, 1, 86400)
	h.path = strings.ReplaceAll(r.text("vhost.hls.hls_path", "./objs/nginx/html"), "[vhost]", hostName(name))
	h.m3u8, h.ts = r.text("vhost.hls.hls_m3u8_file", "[app]/[stream].m3u8"), r.text("vhost.hls.hls_ts_file", "[app]/[stream]-[seq].ts")
	h.prefix, h.cleanup = r.text("vhost.hls.hls_entry_prefix", ""), r.on("vhost.hls.hls_cleanup", true)
	h.dispose = r.seconds("vhost.hls.hls_dispose", 120, 0, 86400)
	if h.enabled {
		h.m3u8Mount = r.mount("vhost.hls.hls_m3u8_file", "[app]/[stream].m3u8", name)
		if !strings.Contains(h.ts, "[seq]") && !strings.Contains(h.ts, "[timestamp]") {
			r.fail("vhost.hls.hls_ts_file", "has neither [seq] nor [timestamp]")
		}
	}
	v.notify = int64(r.integer("vhost.hls.hls_nb_notify", 64, 0, 1<<20))
	v.dvr = r.dvr(name)
	if r.on("vhost.http_hooks.enabled", false) {
		v.hooks = r.hooks()
	}
	if r.on("vhost.security.enabled", false) {
		v.rules = r.rules(d)
	}
	if r.on("vhost.refer.enabled", false) {
		v.refer = &refer{all: r.words("vhost.refer.all"), publish: r.words("vhost.refer.publish"), play: r.words("vhost.refer.play")}
	}
	return v
}

func hostName(name string) string {
	if name == "" {
		return defaultVhost
	}
	return name
}

func (r *reader) play(d *directive) playSettings {
	in := r.in
	r.in = d
	defer func() { r.in = in }()
	p := playSettings{
		gopCache:    r.on("vhost.play.gop_cache", true),
		cacheFrames: r.integer("vhost.play.gop_cache_max_frames", 2500, 0, 1_000_000),
		queue:       r.seconds("vhost.play.queue_length", 30, 1, 600),
		interval:    time.Duration(r.integer("vhost.play.mw_latency", 350, 0, 10_000)) * time.Millisecond,
		mixCorrect:  r.on("vhost.play.mix_correct", false),
		firstPacket: time.Duration(r.integer("vhost.publish.firstpkt_timeout", 20_000, 100, 3_600_000)) * time.Millisecond,
		normal:      time.Duration(r.integer("vhost.publish.normal_timeout", 5_000, 100, 3_600_000)) * time.Millisecond,
	}
	if r.on("vhost.min_latency", false) {
		p.interval = 0
	}
	if p.interval >= p.queue {
		r.fail("vhost.play.mw_latency", "is not below queue_length")
	}
	switch jitter := r.text("vhost.play.time_jitter", "full"); jitter {
	case "full":
	case "zero":
		p.jitter = stream.JitterZero
	case "off":
		p.jitter = stream.JitterOff
	default:
		r.fail("vhost.play.time_jitter", "is none of full, zero and off")
	}
	if r.on("vhost.play.atc", false) { // the encoder's time is to be the players'
		p.jitter = stream.JitterOff
	}
	return p
}

func (r *reader) dvr(name string) dvrSettings {
	d := dvrSettings{enabled: r.on("vhost.dvr.enabled", false), path: r.text("vhost.dvr.dvr_path", "./objs/nginx/html/[app]/[stream].[timestamp].flv")}
	switch plan := r.text("vhost.dvr.dvr_plan", "session"); plan {
	case "session":
	case "segment":
		d.segment = r.seconds("vhost.dvr.dvr_duration", 30, 1, 86400)
	default:
		r.fail("vhost.dvr.dvr_plan", "is neither session nor segment")
	}
	if apply := r.words("vhost.dvr.dvr_apply"); !slices.Contains(apply, "all") {
		d.apply = apply
	}
	if d.enabled {
		if _, err := d.recorder(name, nil); err != nil {
			r.fail("vhost.dvr.dvr_path", err.Error())
		}
	}
	return d
}

func (r *reader) hooks() hooks.URLs {
	urls := make(hooks.URLs)
	for _, e := range []hooks.Event{
		hooks.OnConnect, hooks.OnClose, hooks.OnPublish, hooks.OnUnpublish, hooks.OnPlay, hooks.OnStop, hooks.OnDVR, hooks.OnHLS, hooks.OnHLSNotify,
	} {
		if list := r.words("vhost.http_hooks." + string(e)); len(list) > 0 {
			urls[e] = list
		}
	}
	if err := urls.Check(); err != nil {
		r.fail("vhost.http_hooks", err.Error())
	}
	return urls
}

// rules reads the allow and deny directives of security, of which there may be many.
func (r *reader) rules(d *directive) *rules {
	all := &rules{}
	for _, c := range d.child("security").list() {
		if c.name != "allow" && c.name != "deny" {
			continue
		}
		if len(c.args) != 2 || c.args[0] != string(auth.Publish) && c.args[0] != string(auth.Play) {
			r.failAt(c, `takes "publish" or "play", and "all", an address or a prefix`)
			continue
		}
		rule := rule{allow: c.name == "allow", action: auth.Action(c.args[0]), all: c.args[1] == "all"}
		if !rule.all {
			var err error
			if rule.addrs, err = auth.ParseIPRange(c.args[1]); err != nil {
				r.failAt(c, "neither all, nor an address, nor a prefix")
			}
		}
		all.list = append(all.list, rule)
	}
	return all
}

func (d *directive) list() []*directive {
	if d == nil {
		return nil
	}
	return d.children
}
