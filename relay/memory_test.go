package relay_test

import (
	"testing"
	"time"

	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/registrytest"
)

func TestMemoryRegistryConforms(t *testing.T) {
	t.Parallel()
	registrytest.Run(t, func(t *testing.T, lease time.Duration) []relay.Registry {
		m := &relay.MemoryRegistry{Lease: lease}
		return []relay.Registry{m, m, m}
	})
}
