// Command bench measures Runnel side by side with another server, both under
// the same load in the same run, and prints a table.
//
//	go run ./internal/bench fanout         one publisher, many players: nginx-rtmp and examples/mediaserver
//	go run ./internal/bench turn           TURN clients and peers: coturn, pion/turn and examples/turnserver
//	go run ./internal/bench srt            one SRT connection, and one stream to many players: srt-live-transmit and ours
//	go run ./internal/bench webrtc         one WHIP publisher, many WHEP viewers: a forwarder on pion/webrtc and examples/mediaserver
//	go run ./internal/bench fanout -h      its flags
//	go run ./internal/bench fanout -short  seconds instead of minutes, to see that all is in place
//
// Everything runs on loopback, ends by itself and leaves no process behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// A command gets the arguments after its name.
type command struct {
	name string
	help string // "": not for people
	run  func(ctx context.Context, args []string, in io.Reader, out, log io.Writer) error
}

func commands() []command {
	return []command{
		{"fanout", "CPU, memory and delay of one stream to many players", runFanout},
		{"turn", "CPU, loss, delay and memory of a TURN relay", runTurn},
		{"srt", "CPU of SRT, beside srt-live-transmit", runSRT},
		{"webrtc", "CPU and memory of one stream to WHEP viewers: a forwarder on pion/webrtc and examples/mediaserver", runWebRTC},
		{"players", "", runPlayers},
		{"srtpipe", "", runSRTPipe},
		{"turnload", "", runTurnLoad},
		{"pionturn", "", runPionTurn},
		{"guard", "", runGuard},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := dispatch(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string, in io.Reader, out, log io.Writer) error {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] {
				return c.run(ctx, args[1:], in, out, log)
			}
		}
	}
	fmt.Fprintln(log, "usage: bench COMMAND [flags], bench COMMAND -h")
	for _, c := range commands() {
		if c.help != "" {
			fmt.Fprintf(log, "  %-8s %s\n", c.name, c.help)
		}
	}
	return flag.ErrHelp
}
