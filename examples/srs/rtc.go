package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/runnel-media/runnel/deliver/whep"
	"github.com/runnel-media/runnel/ingest/whip"
	"github.com/runnel-media/runnel/stream/transcode"
	"github.com/runnel-media/runnel/stream/transcode/goaac"
)

type rtcSettings struct {
	listener
	tcp        listener
	candidates []string // addresses and names; none: those that this machine has
}

// rtc reads rtc_server.
func (r *reader) rtc() rtcSettings {
	s := rtcSettings{listener: r.listener("rtc_server", "8000", false), tcp: r.listener("rtc_server.tcp", "8000", false)}
	for _, word := range r.words("rtc_server.candidate") {
		if name, ok := strings.CutPrefix(word, "$"); ok {
			s.candidates = append(s.candidates, strings.Fields(r.env[name])...)
		} else {
			s.candidates = append(s.candidates, word)
		}
	}
	for _, c := range s.candidates {
		if c == "*" {
			s.candidates = nil
			break
		}
	}
	return s
}

// addrs looks the candidates up.
func (s *rtcSettings) addrs(ctx context.Context) (all []netip.Addr, err error) {
	for _, c := range s.candidates {
		if ip, err := netip.ParseAddr(strings.Trim(c, "[]")); err == nil {
			all = append(all, ip.Unmap())
			continue
		}
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", c)
		if err != nil {
			return nil, fmt.Errorf("rtc_server.candidate: %w", err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// bridges reports whether the virtual host's sounds go from RTMP to WebRTC or back.
func (v *vhost) bridges() bool { return v.rtc && (v.rtmpToRTC || v.rtcToRTMP) }

// rtc opens the port of rtc_server and returns what serves its API, nil if it is
// not enabled.
func (s *server) rtc(ctx context.Context, serviceID string) (http.Handler, error) {
	if !s.set.rtc.enabled {
		return nil, nil
	}
	addrs, err := s.set.rtc.addrs(ctx)
	if err != nil {
		return nil, err
	}
	pc, err := net.ListenPacket("udp", s.set.rtc.addr)
	if err != nil {
		return nil, fmt.Errorf("WebRTC: %w", err)
	}
	s.log.Info("listening", "what", "WebRTC", "at", pc.LocalAddr())
	s.webrtc = &whip.Transport{Addrs: addrs, Log: s.log, Timeout: s.set.vhosts[0].rtcTimeout, MaxSessions: s.set.maxConnections}
	go func() {
		if err := s.webrtc.ServePacket(pc); !errors.Is(err, net.ErrClosed) {
			s.failed <- fmt.Errorf("WebRTC: %w", err)
		}
	}()
	if err := s.listen("WebRTC over TCP", s.set.rtc.tcp, s.webrtc.Serve); err != nil {
		return nil, err
	}
	for _, v := range s.set.vhosts {
		if v.bridges() {
			audio := &transcode.Audio{Hub: s.hub, Log: s.log, AAC: goaac.Codec{}, Match: func(key string) bool {
				of, _, _ := s.set.place(key)
				return of.bridges()
			}}
			s.following.Go(func() { _ = audio.Run(ctx) }) // ends with ctx
			break
		}
	}
	play := &whep.SRS{
		Handler: &whep.Handler{Server: s.out, Transport: s.webrtc, Wait: wait},
		VHost:   s.set.choose, ServerID: s.set.serverID, ServiceID: serviceID,
	}
	publish := &whip.SRS{
		Handler: &whip.Handler{Server: s.in, Transport: s.webrtc},
		Players: play, VHost: s.set.choose, ServerID: s.set.serverID, ServiceID: serviceID,
	}
	mux := http.NewServeMux()
	for _, path := range []string{"/rtc/v1/whip/", "/rtc/v1/publish/"} {
		mux.Handle(path, publish)
	}
	for _, path := range []string{"/rtc/v1/whep/", "/rtc/v1/whip-play/", "/rtc/v1/play/"} {
		mux.Handle(path, play)
	}
	return mux, nil
}
