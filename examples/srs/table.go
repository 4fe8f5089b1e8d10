package main

import (
	"slices"
	"strings"
)

// A meaning is what a directive is to this program.
type meaning uint8

const (
	unknown meaning = iota
	used
	ignored // there is nothing to be set here, or it is always so
	absent  // its feature is not in
)

// directives are those of SRS that are known, by their path. A star is all that is
// in the block. SRS_ and the path in capitals, with underscores for dots, is the
// environment variable.
var directives = tableOf(map[meaning]string{
	used: `listen max_connections daemon pid work_dir server_id utc_time srs_log_tank srs_log_file srs_log_level srs_log_level_v2
		rtmps.enabled rtmps.listen rtmps.key rtmps.cert
		srt_server.enabled srt_server.listen srt_server.latency srt_server.passphrase srt_server.peer_idle_timeout vhost.srt.enabled
		rtc_server.enabled rtc_server.listen rtc_server.tcp.enabled rtc_server.tcp.listen rtc_server.candidate vhost.rtc.enabled vhost.rtc.stun_timeout vhost.rtc.rtmp_to_rtc vhost.rtc.rtc_to_rtmp
		http_api.enabled http_api.listen http_api.auth.enabled http_api.auth.username http_api.auth.password
		http_api.https.enabled http_api.https.listen http_api.https.key http_api.https.cert
		http_server.enabled http_server.listen http_server.dir http_server.crossdomain
		http_server.https.enabled http_server.https.listen http_server.https.key http_server.https.cert
		vhost.enabled vhost.min_latency
		vhost.play.gop_cache vhost.play.gop_cache_max_frames vhost.play.queue_length vhost.play.mw_latency
		vhost.play.time_jitter vhost.play.mix_correct vhost.play.atc
		vhost.publish.firstpkt_timeout vhost.publish.normal_timeout
		vhost.http_remux.enabled vhost.http_remux.mount
		vhost.hls.enabled vhost.hls.hls_fragment vhost.hls.hls_window vhost.hls.hls_path vhost.hls.hls_m3u8_file vhost.hls.hls_ts_file
		vhost.hls.hls_cleanup vhost.hls.hls_dispose vhost.hls.hls_entry_prefix vhost.hls.hls_nb_notify vhost.dash.enabled
		vhost.dvr.enabled vhost.dvr.dvr_apply vhost.dvr.dvr_plan vhost.dvr.dvr_path vhost.dvr.dvr_duration
		vhost.http_hooks.enabled vhost.http_hooks.on_connect vhost.http_hooks.on_close vhost.http_hooks.on_publish
		vhost.http_hooks.on_unpublish vhost.http_hooks.on_play vhost.http_hooks.on_stop vhost.http_hooks.on_dvr
		vhost.http_hooks.on_hls vhost.http_hooks.on_hls_notify
		vhost.security.enabled vhost.security.allow vhost.security.deny
		vhost.refer.enabled vhost.refer.all vhost.refer.publish vhost.refer.play`,
	ignored: `rtc_server.protocol rtc_server.ecdsa rtc_server.reuseport rtc_server.merge_nalus rtc_server.api_as_candidates
		rtc_server.resolve_api_domain rtc_server.keep_api_domain rtc_server.use_auto_detect_network_ip rtc_server.ip_family
		rtc_server.perf_stat rtc_server.queue_length
		vhost.rtc.nack vhost.rtc.nack_no_copy vhost.rtc.twcc vhost.rtc.stun_strict_check vhost.rtc.dtls_role vhost.rtc.dtls_version
		vhost.rtc.drop_for_pt vhost.rtc.pli_for_rtmp vhost.rtc.keep_avc_nalu_sei vhost.rtc.opus_bitrate vhost.rtc.aac_bitrate
		srt_server.recvlatency srt_server.peerlatency srt_server.tsbpdmode srt_server.tlpktdrop srt_server.sendbuf srt_server.recvbuf
		srt_server.payloadsize srt_server.mss srt_server.connect_timeout srt_server.pbkeylen vhost.srt.srt_to_rtmp chunk_size vhost.chunk_size asprocess empty_ip_ok inotify_auto_reload auto_reload_for_docker in_docker
		disable_daemon_for_docker force_grace_quit grace_start_wait grace_final_wait tcmalloc_release_rate query_latest_version
		first_wait_for_qlv pithy_print_ms ff_log_dir ff_log_level threads.* circuit_breaker.* stats.*
		http_api.crossdomain http_api.raw_api.* vhost.tcp_nodelay vhost.in_ack_size vhost.out_ack_size vhost.bandcheck.*
		vhost.play.atc_auto vhost.play.mw_msgs vhost.play.send_min_interval vhost.play.reduce_sequence_header
		vhost.publish.mr vhost.publish.mr_latency vhost.publish.parse_sps vhost.publish.try_annexb_first
		vhost.http_remux.fast_cache vhost.http_remux.guess_has_av vhost.http_remux.drop_if_not_match
		vhost.hls.hls_td_ratio vhost.hls.hls_aof_ratio vhost.hls.hls_wait_keyframe vhost.hls.hls_dts_directly vhost.hls.hls_on_error
		vhost.hls.hls_storage vhost.hls.hls_acodec vhost.hls.hls_vcodec vhost.hls.hls_ctx vhost.hls.hls_ts_ctx vhost.hls.hls_ts_floor
		vhost.dash.dash_fragment vhost.dash.dash_update_period vhost.dash.dash_timeshift vhost.dash.dash_path vhost.dash.dash_mpd_file
		vhost.dash.dash_window_size vhost.dash.dash_cleanup vhost.dash.dash_dispose
		vhost.dvr.dvr_wait_keyframe vhost.dvr.time_jitter`,
	absent: `srt_server.* rtc_server.* stream_caster.* heartbeat.* exporter.* rtsp_server.* vhost.srt.* vhost.rtc.* vhost.rtsp.*
		vhost.forward.* vhost.cluster.* vhost.ingest.* vhost.transcode.* vhost.exec.* vhost.hds.* vhost.http_static.*
		vhost.http_remux.has_audio vhost.http_remux.has_video vhost.hls.hls_keys vhost.hls.hls_use_fmp4 vhost.publish.kickoff_for_idle
		vhost.http_hooks.on_forward_backend`,
})

// An absence is a feature of SRS that is asked for and not in. Who wires it takes
// its line out.
type absence struct {
	path  string // of the directive that asks for it
	value string // with this value
	what  string
}

var absences = []absence{
	{"rtc_server.encrypt", "off", "WebRTC in the clear"},
	{"rtc_server.black_hole.enabled", "on", "a copy of WebRTC's packets in the clear"},
	{"vhost.rtc.keep_bframe", "on", "B-frames to WebRTC"},
	{"vhost.http_remux.has_audio", "off", "remux without the sound"},
	{"vhost.http_remux.has_video", "off", "remux without the picture"},
	{"vhost.forward.enabled", "on", "forward"},
	{"vhost.ingest.enabled", "on", "ingest"},
	{"vhost.transcode.enabled", "on", "transcode"},
	{"vhost.exec.enabled", "on", "exec"},
	{"vhost.hls.hls_keys", "on", "encrypted HLS"},
	{"vhost.hls.hls_use_fmp4", "on", "HLS files in fMP4"},
	{"heartbeat.enabled", "on", "heartbeat"},
	{"exporter.enabled", "on", "the exporter"},
	{"stream_caster.enabled", "on", "stream_caster"},
	{"rtsp_server.enabled", "on", "RTSP"},
	{"vhost.rtsp.enabled", "on", "RTSP"},
}

func tableOf(words map[meaning]string) map[string]meaning {
	table := make(map[string]meaning)
	for m, list := range words {
		for path := range strings.FieldsSeq(list) {
			table[path] = m
		}
	}
	return table
}

// meaningOf looks a path up. Blocks are known by what may be in them.
func meaningOf(path string) meaning {
	for p := path; ; {
		if m, ok := directives[p]; ok {
			return m
		}
		n := strings.LastIndexByte(strings.TrimSuffix(p, ".*"), '.')
		if n < 0 {
			return unknown
		}
		p = p[:n] + ".*"
	}
}

func isBlock(path string) bool {
	for known := range directives {
		if strings.HasPrefix(known, path+".") {
			return true
		}
	}
	return false
}

// envName is the environment variable of a directive.
func envName(path string) string {
	return "SRS_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// otherEnv are variables that are no directives of SRS: its own programs' and the
// tests'.
var otherEnv = []string{"SRS_PLATFORM"}

// knownEnv reports whether a variable that begins with SRS_ is a directive's.
func knownEnv(name string) bool {
	for path := range directives {
		e := envName(path)
		if prefix, all := strings.CutSuffix(e, "*"); e == name || all && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains(otherEnv, name)
}

// unknownOf lists the directives that are not known, as people look for them.
func unknownOf(root *directive) (list []string) {
	var walk func(d *directive, prefix string)
	walk = func(d *directive, prefix string) {
		for _, c := range d.children {
			path := prefix + c.name
			switch {
			case path == "vhost" || isBlock(path):
				walk(c, path+".")
			case meaningOf(path) == unknown:
				list = append(list, c.at()+": "+path)
			}
		}
	}
	walk(root, "")
	return list
}
