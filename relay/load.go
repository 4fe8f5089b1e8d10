package relay

import (
	"sync"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// loadAge is how old a count of sessions may be: a server is asked for its load
// for each client that comes.
const loadAge = 100 * time.Millisecond

// SessionLoad returns a Relay's Load that counts the hub's sessions, of publishers
// and players: as many as capacity are a load of 1. It may be called from many
// goroutines at once.
func SessionLoad(hub *stream.Hub, capacity int) func() (load float64, draining bool) {
	var mu sync.Mutex
	var counted time.Time
	var load float64
	return func() (float64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(counted) >= loadAge {
			counted = now
			n := 0
			for range hub.Sessions() {
				n++
			}
			load = float64(n) / float64(max(capacity, 1))
		}
		return load, false
	}
}
