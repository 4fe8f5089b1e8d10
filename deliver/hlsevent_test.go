package deliver

import (
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
)

// Of each segment that is stored an event tells, when it is there.
func TestHLSStoredEvents(t *testing.T) {
	s := &shelf{}
	inHLSBed(t, storing(s), func(t *testing.T, b *hlsBed) {
		var told []stream.SegmentStored
		events := b.srv.Hub.Events(t.Context())
		go func() {
			for e := range events {
				if e, ok := e.(stream.SegmentStored); ok {
					require.NotEmpty(t, s.get(e.Name))
					told = append(told, e)
				}
			}
		}()
		b.run(t)
		stop := b.source("live/x")
		time.Sleep(21 * time.Second)
		stop()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		stored := 0
		for _, name := range s.names() {
			if strings.HasSuffix(name, ".m4s") {
				stored++
			}
		}
		require.Greater(t, stored, 10)
		require.Len(t, told, stored)
		next := map[string]uint64{}
		for _, e := range told {
			require.Equal(t, "live/x", e.Stream)
			require.NotEmpty(t, s.get(e.Playlist))
			require.Equal(t, path.Dir(e.Name), path.Dir(e.Playlist))
			require.Equal(t, next[e.Playlist], e.Sequence)
			next[e.Playlist]++
			require.Positive(t, e.Duration)
		}
		require.Len(t, next, 2, "picture and sound")
	})
}
