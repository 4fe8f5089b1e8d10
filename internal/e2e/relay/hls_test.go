package relay

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/internal/hls/hlscheck"
)

// A playlist is the media playlist of the picture of a server's demo stream.
type playlist struct {
	t  *testing.T
	at *url.URL
}

// hls asks a server for its HLS, until it has it.
func (s *server) hls() *playlist {
	s.t.Helper()
	at := must(url.Parse("http://" + s.http + "/live/demo.m3u8"))
	text := must(io.ReadAll(get(s.t, at.String()).Body))
	variants, _, faults := hlscheck.Multivariant(text)
	require.Empty(s.t, faults)
	require.NotEmpty(s.t, variants)
	return &playlist{s.t, must(at.Parse(variants[0].URI))}
}

// load fetches the playlist, when it has the segment with the number if that is not
// zero.
func (p *playlist) load(number uint64) string {
	p.t.Helper()
	u := *p.at
	if number > 0 {
		u.RawQuery = fmt.Sprint("_HLS_msn=", number)
	}
	r, err := http.Get(u.String())
	require.NoError(p.t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, r.StatusCode, "%s", text)
	return string(text)
}

// segment fetches the segment with the number.
func (p *playlist) segment(number uint64) []byte {
	p.t.Helper()
	l, faults := hlscheck.Media([]byte(p.load(0)))
	require.Empty(p.t, faults)
	for _, s := range l.Segments {
		if s.Sequence == number && s.Complete() {
			r, err := http.Get(must(p.at.Parse(s.URI)).String())
			require.NoError(p.t, err)
			defer r.Body.Close()
			require.Equal(p.t, http.StatusOK, r.StatusCode)
			return must(io.ReadAll(r.Body))
		}
	}
	return nil
}

var (
	secret = regexp.MustCompile(`[^"\n]*/_?[a-z2-7]{24}/`)
	ofLL   = regexp.MustCompile(`(?m)^#EXT-X-(PART|PRELOAD|RENDITION|SERVER)[^\n]*\n`)
)

// plain returns a playlist as a player sees it that does without low latency, and
// for which all servers are one.
func plain(text string) []byte {
	return []byte(ofLL.ReplaceAllString(secret.ReplaceAllString(text, ""), ""))
}

var short = []string{"-hls-segment", "1s", "-hls-window", "4s"}

// TestMoveBetweenEdges: a player that goes from one edge to another and to the origin
// at each reload notices nothing: the same segments have the same numbers, and at
// the edges the same bytes.
func TestMoveBetweenEdges(t *testing.T) {
	t.Parallel()
	origin := start(t, short...)
	var at []*playlist
	for range 2 {
		at = append(at, start(t, append([]string{"-origin", "runnel://" + origin.http}, short...)...).hls())
	}
	at = append(at, origin.hls())
	first := func(p *playlist) uint64 {
		l, faults := hlscheck.Media([]byte(p.load(0)))
		require.Empty(t, faults)
		return l.MediaSequence
	}
	// Until none of them lists what it alone may have begun in the middle of.
	begins := max(first(at[0]), first(at[1]), first(at[2]))
	for _, p := range at {
		peer.Eventually(t, 30*time.Second, "a full window", func() bool { return first(p) > begins })
	}
	player := &hlscheck.Reloads{Grows: true}
	text := at[0].load(0)
	require.Empty(t, player.Add(time.Time{}, plain(text)), text)
	compared := 0
	for i := range 6 {
		last, _, _ := player.Playlist().Last()
		text = at[(i+1)%3].load(last + 1)
		require.Empty(t, player.Add(time.Time{}, plain(text)), text)
		if a, b := at[0].segment(last), at[1].segment(last); a != nil && b != nil {
			require.Equal(t, a, b, "segment %d", last)
			compared++
		}
	}
	require.GreaterOrEqual(t, compared, 3)
}

// TestHLSThroughLoss: a player at an edge gets a playlist whenever it asks, each the
// continuation of the one before, while the source is killed and comes back.
func TestHLSThroughLoss(t *testing.T) {
	t.Parallel()
	origin := start(t, short...)
	edge := start(t, append([]string{"-origin", "runnel://" + origin.http}, short...)...)
	p := edge.hls()
	player := &hlscheck.Reloads{Grows: true}
	look := func() *hlscheck.Playlist {
		text := p.load(0)
		require.Empty(t, player.Add(time.Time{}, plain(text)), text)
		return player.Playlist()
	}
	last := func(l *hlscheck.Playlist) uint64 {
		n, _, _ := l.Last()
		return n
	}
	until := func(what string, f func(l *hlscheck.Playlist) bool) {
		peer.Eventually(t, 40*time.Second, what, func() bool { return f(look()) })
	}
	begun := last(look())
	until("segments", func(l *hlscheck.Playlist) bool { return last(l) > begun+1 })
	origin.process.Kill()
	stopped := time.Now()
	until("the loss", func(*hlscheck.Playlist) bool { return time.Since(stopped) > 2*time.Second }) // asking on
	before := last(look())
	origin.start()
	broken := false
	until("segments after the return", func(l *hlscheck.Playlist) bool {
		for _, s := range l.Segments {
			broken = broken || s.Discontinuity && s.Sequence > before
		}
		return last(l) > before+3
	})
	require.True(t, broken, "the break is told")
	require.False(t, player.Playlist().Ended)
	require.False(t, strings.Contains(p.load(0), "ENDLIST"))
}
