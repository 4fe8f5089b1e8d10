package turn

import (
	"net/netip"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A replayKey is an Allocate that has had its session.
type replayKey struct {
	remote netip.AddrPort
	txID   stunwire.TxID
}

const maxPast = 8192

// remember keeps the Allocate of a session that has ended from making another
// one when somebody plays it again, for as long as its nonce may be good.
func (sh *shard) remember(a *Allocation, now int64) {
	life := int64(sh.srv.policy.Load().NonceLife)
	key := replayKey{a.remote, a.txID}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.past) >= maxPast {
		for k, until := range sh.past {
			if until <= now {
				delete(sh.past, k)
			}
		}
		for k := range sh.past { // any one, if none has run out
			if len(sh.past) < maxPast {
				break
			}
			delete(sh.past, k)
		}
	}
	sh.past[key] = now + life
}

func (sh *shard) replayed(remote netip.AddrPort, id stunwire.TxID, now int64) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	until, ok := sh.past[replayKey{remote, id}]
	return ok && until > now
}
