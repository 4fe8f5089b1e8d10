package deliver

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
)

// A viewer whose playlists are everybody's is sent to where it finds the same; one
// with playlists of its own has to begin anew.
func TestHLSMoved(t *testing.T) {
	to := &auth.Redirect{Location: "https://b.example?moved=1"}
	inHLSBed(t, func(b *hlsBed) {}, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		video, _ := b.playlists("/live/x.m3u8")
		b.get(video)
		require.Len(t, b.sessions(), 1)
		b.sessions()[0].Kick(to)
		b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		r := b.do("GET", video)
		require.Equal(t, 302, r.status)
		require.Equal(t, "https://b.example"+video+"?moved=1", r.header.Get("Location"))
		require.Equal(t, "no-store", r.header.Get("Cache-Control"))
		require.Empty(t, b.sessions())
		b.playlists("/live/x.m3u8") // it asks again
		require.Equal(t, 200, b.do("GET", video).status)
	})
	inHLSBed(t, func(b *hlsBed) { b.srv.Auth = individuals(0) }, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		ann, _ := b.playlists("/live/x.m3u8?token=ann")
		b.get(ann)
		b.sessions()[0].Kick(to)
		require.Equal(t, 403, b.do("GET", ann).status)
	})
}
