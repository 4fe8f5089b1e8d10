package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/deliver/whep"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/ingest/whip"
)

// webrtcOptions are the flags of WebRTC.
type webrtcOptions struct {
	addr   string
	public []netip.Addr
}

func (o *webrtcOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.addr, "webrtc", ":8000", "address for WebRTC's media, over UDP; offers are posted to /whip/live/NAME and /whep/live/NAME; empty: off")
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
	t := &whip.Transport{Addrs: o.public, Log: log}
	go func() {
		if err := t.ServePacket(pc); !errors.Is(err, net.ErrClosed) {
			s.failed <- fmt.Errorf("WebRTC: %w", err)
		}
	}()
	publish := http.StripPrefix("/whip", &whip.Handler{Server: in, Transport: t})
	play := http.StripPrefix("/whep", &whep.Handler{Server: out, Transport: t, Wait: time.Second})
	return func(others http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/", others)
		mux.Handle("/whip/", publish)
		mux.Handle("/whep/", play)
		return mux
	}, func() { t.Close() }, nil
}
