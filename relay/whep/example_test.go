package whep_test

import (
	"fmt"

	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/whep"
	"github.com/runnel-media/runnel/stream"
)

// An edge fetches what its viewers ask for over WebRTC, from behind a NAT if need be.
func ExampleTransport() {
	hub := &stream.Hub{}
	defer hub.Close()
	t := &whep.Transport{ICEServers: []whep.ICEServer{{URL: "stun:stun.example:3478"}}}
	r := &relay.Relay{
		Hub:        hub,
		Origins:    []string{"wheps://origin.example?token=sesame"},
		Transports: map[string]relay.Transport{"whep": t, "wheps": t, "whip": t, "whips": t},
	}
	defer r.Close()
	hub.Source = r
	fmt.Println("origins:", len(r.Origins))
	// Output: origins: 1
}
