// Webrtcpeer is a foreign WebRTC peer for tests and measurements: publishers and
// viewers on pion/webrtc, and a minimal forwarder to compare with. It is a module
// of its own, for pion/webrtc needs other versions of pion's modules than Runnel.
//
//	webrtcpeer publish -url URL [-codec h264] [-bitrate 1100000] [-for 10s] [-file clip.h264 -fps 25]
//	webrtcpeer view    -url URL [-n 100] [-for 10s] [-settle 3s] [-profile gcm|cm]
//	webrtcpeer record  -url URL -out FILE [-for 10s]
//	webrtcpeer forward -http ADDR -udp ADDR
//
// The viewers' figures go to standard output as JSON, what was recorded to the file.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: webrtcpeer publish|view|record|forward …")
		os.Exit(2)
	}
	run, ok := map[string]func([]string) error{"publish": publish, "view": view, "record": record, "forward": forward}[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "webrtcpeer: unknown command", os.Args[1])
		os.Exit(2)
	}
	if err := run(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "webrtcpeer:", err)
		os.Exit(1)
	}
}
