package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"time"

	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
)

// srtOptions are the flags that begin with -srt.
type srtOptions struct {
	addr       string
	latency    time.Duration
	passphrase string

	server *ingest.Server // that serves it
}

func (o *srtOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.addr, "srt", ":10080", "address for SRT, publishers and players; empty: off")
	fs.DurationVar(&o.latency, "srt-latency", 120*time.Millisecond, "how long SRT packets are held, at least, so that lost ones can be sent again")
	fs.StringVar(&o.passphrase, "srt-passphrase", "", "what SRT is encrypted with, 10 to 79 characters; empty: not at all")
}

func (o *srtOptions) check() error {
	if n := len(o.passphrase); n > 0 && (n < 10 || n > 79) {
		return errors.New("-srt-passphrase must have 10 to 79 characters")
	}
	return nil
}

// configure is called before the server is used.
func (o *srtOptions) configure(in *ingest.Server) {
	in.SRT.Latency, in.SRT.Passphrase = o.latency, o.passphrase
	o.server = in
}

// start serves SRT in the background.
func (o *srtOptions) start(s *servers, in *ingest.Server, out *deliver.Server) error {
	if o.addr == "" {
		return nil
	}
	pc, err := net.ListenPacket("udp", o.addr)
	if err != nil {
		return fmt.Errorf("SRT: %w", err)
	}
	go func() {
		if err := in.ServeSRT(pc, out); !errors.Is(err, net.ErrClosed) {
			s.failed <- fmt.Errorf("SRT: %w", err)
		}
	}()
	return nil
}
