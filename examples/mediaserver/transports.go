package main

import (
	"crypto/tls"
	"log/slog"
	"net/http"

	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/hls"
	"github.com/runnel-media/runnel/relay/srt"
	"github.com/runnel-media/runnel/relay/whep"
)

// transports are what -origin and -forward speak beside RTMP, HTTP-FLV and the relay
// protocol.
func transports(conf *tls.Config, log *slog.Logger) map[string]relay.Transport {
	web := http.DefaultTransport.(*http.Transport).Clone()
	web.TLSClientConfig = conf.Clone()
	playlists := &hls.Transport{TLS: conf}
	calls := &whep.Transport{HTTP: &http.Client{Transport: web}, Log: log}
	return map[string]relay.Transport{
		"srt": &srt.Transport{Log: log},
		"hls": playlists, "hlss": playlists,
		"whep": calls, "wheps": calls, "whip": calls, "whips": calls,
	}
}
