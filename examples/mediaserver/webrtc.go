package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"time"

	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/deliver/whep"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/ingest/whip"
	"github.com/runnel-media/runnel/turn"
)

// webrtcOptions are the flags of WebRTC.
type webrtcOptions struct {
	addr   string
	public []netip.Addr
	turn   string
	srs    bool

	stun    string        // a server that knows our public address
	full    bool          // ICE with checks of our own
	playout time.Duration // how long players hold pictures back; less than 0: they decide

	relay *turn.Server // of -turn, once it runs; nil: there is none
}

func (o *webrtcOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.addr, "webrtc", ":8000", "address for WebRTC's media, over UDP and TCP; offers are posted to /whip/live/NAME and /whep/live/NAME; empty: off")
	fs.StringVar(&o.turn, "turn", "", "address for a TURN server over UDP and TCP, such as :3478, that relays to -webrtc and is told to WebRTC's peers; empty: off")
	fs.BoolVar(&o.srs, "webrtc-srs", false, "take WebRTC's offers as SRS does too, at /rtc/v1/")
	fs.StringVar(&o.stun, "stun", "", "STUN server, such as stun.example.com:3478, that is asked at the start for the public address of -webrtc; empty: none")
	fs.BoolVar(&o.full, "ice-full", false, "check the way to WebRTC's peers from here too, for machines behind a NAT or firewall that they can't get through by themselves")
	fs.DurationVar(&o.playout, "webrtc-delay", -1, "how long browsers hold pictures back, as from 0 (as little as they can) to 40s; less than 0: they decide")
	fs.Func("public-ip", "address under which WebRTC's peers reach this machine; may be repeated; none: those that it has", func(v string) error {
		ip, err := netip.ParseAddr(v)
		if err == nil {
			o.public = append(o.public, ip.Unmap())
		}
		return err
	})
}

// start opens the port and returns what adds WebRTC's routes to others.
func (o *webrtcOptions) start(s *servers, in *ingest.Server, out *deliver.Server, log *slog.Logger) (routes func(http.Handler) http.Handler, stop func(), err error) {
	if o.addr == "" {
		return func(h http.Handler) http.Handler { return h }, func() {}, nil
	}
	pc, err := net.ListenPacket("udp", o.addr)
	if err != nil {
		return nil, nil, fmt.Errorf("WebRTC: %w", err)
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		pc.Close()
		return nil, nil, fmt.Errorf("WebRTC: %w", err)
	}
	t := &whip.Transport{Addrs: o.public, STUN: o.stun, Full: o.full, Log: log}
	if o.playout >= 0 {
		t.Playout = &whip.Playout{Min: o.playout, Max: o.playout}
	}
	go func() {
		if err := t.Serve(l); !errors.Is(err, net.ErrClosed) {
			s.failed <- fmt.Errorf("WebRTC: %w", err)
		}
	}()
	go func() {
		if err := t.ServePacket(pc); !errors.Is(err, net.ErrClosed) {
			s.failed <- fmt.Errorf("WebRTC: %w", err)
		}
	}()
	stop = func() { t.Close() }
	var ice func(*http.Request) []string
	if o.turn != "" {
		var stopTURN func()
		if ice, stopTURN, err = o.startTURN(s, pc.LocalAddr().(*net.UDPAddr).AddrPort().Port(), log); err != nil {
			t.Close()
			return nil, nil, err
		}
		stop = func() { t.Close(); stopTURN() }
	}
	publish := &whip.Handler{Server: in, Transport: t, ICEServers: ice}
	play := &whep.Handler{Server: out, Transport: t, ICEServers: ice, Wait: time.Second}
	return func(others http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/", others)
		mux.Handle("/whip/", http.StripPrefix("/whip", publish))
		mux.Handle("/whep/", http.StripPrefix("/whep", play))
		if o.srs {
			players := &whep.SRS{Handler: play}
			publishers := &whip.SRS{Handler: publish, Players: players}
			mux.Handle("/rtc/v1/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch path.Base(r.URL.Path) {
				case "whip", "publish":
					publishers.ServeHTTP(w, r)
				default:
					players.ServeHTTP(w, r)
				}
			}))
		}
		return mux
	}, stop, nil
}
