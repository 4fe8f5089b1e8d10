package turn

import (
	"net/netip"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A replayKey is a request that has done what it can do once: an Allocate that
// has had its session, a Refresh that has ended one.
type replayKey struct {
	remote netip.AddrPort
	txID   stunwire.TxID
}

// A past remembers requests until their nonces are no good. It is two maps, of
// which the older one is dropped when the younger one is full: the work does
// not depend on how many there are.
type past struct {
	young, old map[replayKey]int64 // clock
}

// maxPast is how many requests each map of a past holds.
const maxPast = 4096

// remember keeps a request from having its effect once more when somebody plays
// it again, for as long as its nonce may be good.
func (sh *shard) remember(remote netip.AddrPort, id stunwire.TxID, now int64) {
	until := now + int64(sh.srv.policy.Load().NonceLife)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p := &sh.past
	if p.young == nil || len(p.young) >= maxPast {
		p.young, p.old = make(map[replayKey]int64), p.young
	}
	p.young[replayKey{remote, id}] = until
}

func (sh *shard) replayed(remote netip.AddrPort, id stunwire.TxID, now int64) bool {
	key := replayKey{remote, id}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.past.young[key] > now || sh.past.old[key] > now
}
