package registrytest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/registrytest"
)

// What the test of a registry does.
func ExampleRun() {
	test := func(t *testing.T) {
		registrytest.Run(t, func(_ *testing.T, lease time.Duration) []relay.Registry {
			m := &relay.MemoryRegistry{Lease: lease}
			return []relay.Registry{m, m, m}
		})
	}
	fmt.Printf("%T\n", test)
	// Output: func(*testing.T)
}
