package attempts

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Counter
		a, mapped := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.1")
		require.Zero(t, c.Count(a, time.Minute))
		c.Add(a, time.Minute)
		c.Add(mapped, time.Minute)
		require.Equal(t, 2, c.Count(a, time.Minute), "one address, however it is written")
		c.Add(netip.MustParseAddr("2001:db8::1"), time.Minute)
		require.Equal(t, 1, c.Count(netip.MustParseAddr("2001:db8::ffff%eth0"), time.Minute), "a /64 is one source")
		time.Sleep(time.Minute + time.Second)
		require.Zero(t, c.Count(a, time.Minute))
	})
}
