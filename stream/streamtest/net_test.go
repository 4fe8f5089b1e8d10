package streamtest_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream/streamtest"
)

func TestNet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := streamtest.Net{Latency: 50 * time.Millisecond, Bandwidth: 1000}
		defer n.Close()
		l, err := n.Listen("127.0.0.1:0")
		require.NoError(t, err)
		start := time.Now()
		c, err := n.DialFrom(context.Background(), "203.0.113.5", l.Addr().String())
		require.NoError(t, err)
		s, err := l.Accept()
		require.NoError(t, err)
		require.Contains(t, s.RemoteAddr().String(), "203.0.113.5:")
		_, err = c.Write(make([]byte, 1000))
		require.NoError(t, err)
		require.NoError(t, c.Close())
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		require.Len(t, got, 1000)
		require.Equal(t, 100*time.Millisecond+time.Second+50*time.Millisecond, time.Since(start))
	})
}
