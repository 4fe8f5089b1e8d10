package turn

import "runtime"

// socketCount is how many sockets, each with its loop, share the clients of an
// address: half as many as there are processors. More loops have less to do at
// a time each, and wake up more often for it: on two processors a packet of
// voice cost half as much again with two. The other half is left to the kernel,
// to TLS and to requests.
func socketCount(n int) int {
	if n < 1 {
		n = max(1, runtime.GOMAXPROCS(0)/2)
	}
	return n
}
