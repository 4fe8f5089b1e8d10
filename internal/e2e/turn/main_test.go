package turn

import (
	"flag"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// lab holds the programs that the tests share.
var lab *peer.Lab

func TestMain(m *testing.M) {
	flag.Parse()
	enter()
	// Nearly all of the time the clients wait, for seconds of their own choice.
	os.Exit(peer.Main(m, &lab, 24))
}

// live is how long anything may take that happens at once on an idle machine.
const live = 30 * time.Second

// inside marks the environment of the test program in its namespace.
const inside = "RUNNEL_E2E_NAMESPACE"

// outer is the address of the namespace that is not loopback: what browsers
// call a network.
const outer = "10.77.0.1"

// alone skips a test where there is no namespace to be had.
func alone(t *testing.T) {
	t.Helper()
	switch {
	case os.Getenv(inside) != "":
	case os.Getenv("RUNNEL_E2E") == "1":
		t.Fatal("no network namespace to be had, and RUNNEL_E2E=1: unshare --net and ip (iproute2) are needed")
	default:
		t.Skip("no network namespace to be had: unshare --net and ip (iproute2) are needed")
	}
}

// addresses counts what newAddr gave out.
var addresses atomic.Uint32

// newAddr returns a loopback address that nothing listens on.
func newAddr(t *testing.T) netip.Addr {
	t.Helper()
	alone(t)
	n := addresses.Add(1)
	return netip.AddrFrom4([4]byte{127, 1, byte(n >> 8), byte(n)})
}
