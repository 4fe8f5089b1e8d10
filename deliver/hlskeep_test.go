package deliver

import (
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls/hlscheck"
)

// A server that was killed leaves playlists without an end. The next one ends
// them, but not what it or another writes to.
func TestHLSStoredOrphans(t *testing.T) {
	s := &shelf{}
	inHLSBed(t, storing(s), func(t *testing.T, b *hlsBed) {
		b.run(t)
		stop := b.source("live/x")
		time.Sleep(10 * time.Second)
		for _, name := range s.names() { // what a kill leaves
			if strings.HasSuffix(name, ".m3u8") {
				s.put(strings.Replace(name, "live/x/", "live/killed/", 1), string(s.get(name)))
			}
		}
		s.put("live/ended/20260102T030405.000Z/v.m3u8", "#EXTM3U\n#EXT-X-ENDLIST\n")
		s.put("live/other/20260102T030405.000Z/v.m3u8", "#EXTM3U\n")
		s.put("live/other/readme.m3u8", "#EXTM3U\n")
		ended := s.get("live/ended/20260102T030405.000Z/v.m3u8")

		next := &Server{Hub: b.hub, HLS: HLS{Storage: s, OnDemand: true}}
		go func() { _ = next.Run(t.Context()) }()
		time.Sleep(orphaned / 2)
		killed := s.presentations("live/killed")[0] + "/"
		require.NotContains(t, string(s.get(killed+"v.m3u8")), storeEnd, "it may be somebody's")
		s.put("live/other/20260102T030405.000Z/v.m3u8", "#EXTM3U\n#EXTINF:2,\nx\n")
		time.Sleep(orphaned)
		for _, file := range []string{"v.m3u8", "a.m3u8"} {
			p, found := hlscheck.Media(s.get(killed + file))
			require.Empty(t, found)
			require.True(t, p.Ended)
		}
		require.Equal(t, ended, s.get("live/ended/20260102T030405.000Z/v.m3u8"))
		require.NotContains(t, string(s.get("live/other/20260102T030405.000Z/v.m3u8")), storeEnd)
		require.NotContains(t, string(s.get("live/other/readme.m3u8")), storeEnd)
		require.NotContains(t, string(s.get(s.presentations("live/x")[0]+"/v.m3u8")), storeEnd)
		stop()
	})
}

// What is stored is kept for some time, what is being written always.
func TestHLSKeep(t *testing.T) {
	s := &shelf{}
	inHLSBed(t, func(b *hlsBed) {
		b.srv.HLS.Storage, b.srv.HLS.Keep = s, 10*time.Minute
		b.hub.Grace = time.Second
	}, func(t *testing.T, b *hlsBed) {
		b.run(t)
		s.put("live/x/notes.txt", "")
		s.put("live/other/index.m3u8", "of something else")
		stop := b.source("live/x")
		time.Sleep(10 * time.Second)
		stop()
		time.Sleep(8 * time.Minute)
		require.Len(t, s.presentations("live/x"), 1)
		stop = b.source("live/y")
		time.Sleep(time.Minute)
		first := s.presentations("live/x")[0]
		stop()
		stop = b.source("live/x")
		time.Sleep(4 * time.Minute)
		require.NotContains(t, s.presentations("live/x"), first)
		require.Len(t, s.presentations("live/x"), 1)
		s.media(t, "live/x/index.m3u8")
		require.Len(t, s.presentations("live/y"), 1)
		time.Sleep(20 * time.Minute)
		require.Len(t, s.presentations("live/x"), 1, "it goes on")
		stop()
		time.Sleep(20 * time.Minute)
		for _, name := range s.names() {
			require.Contains(t, []string{"live/x/notes.txt", "live/other/index.m3u8"}, name, path.Dir(name))
		}
	})
}
