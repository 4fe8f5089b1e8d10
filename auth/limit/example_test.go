package limit_test

import (
	"fmt"
	"net/netip"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
)

func Example() {
	limits := &limit.Limiter{}
	limits.SetPolicy(&limit.Policy{SessionsPerUser: 1})
	peer := limit.Peer{Action: auth.Play, Addr: netip.MustParseAddr("192.0.2.1"), Stream: "live/demo", User: "ann"}
	session, err := limits.Enter(peer)
	fmt.Println(err)
	_, err = limits.Enter(peer)
	fmt.Println(err)
	session.Leave()
	limits.SetPolicy(&limit.Policy{SessionsPerUser: 2}) // at any time
	_, err = limits.Enter(peer)
	fmt.Println(err, limits.Usage().Sessions, limits.Usage().Refused[limit.SessionsPerUser])
	// Output:
	// <nil>
	// limit: reached: sessions_per_user
	// <nil> 1 1
}
