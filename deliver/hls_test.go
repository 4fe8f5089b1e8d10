package deliver

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/internal/memnet"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// An hlsBed is a server with a stream on it, in a bubble.
type hlsBed struct {
	t      *testing.T
	hub    *stream.Hub
	srv    *Server
	web    *http.Server
	net    *memnet.Net
	client *http.Client
	agent  string
}

// inHLSBed runs a test with the clip as live/x.
func inHLSBed(t *testing.T, change func(*hlsBed), test func(t *testing.T, b *hlsBed)) {
	synctest.Test(t, func(t *testing.T) {
		b := &hlsBed{t: t, hub: &stream.Hub{Grace: 5 * time.Second}, agent: "test"}
		b.srv = &Server{Hub: b.hub, Auth: auth.AllowAll, HLS: HLS{Window: 10 * time.Second}}
		b.web = &http.Server{Handler: b.srv}
		if change != nil {
			change(b)
		}
		network := memnet.New()
		ln, err := network.Listen("server:80")
		require.NoError(t, err)
		b.net = network
		go func() { _ = b.web.Serve(ln) }()
		transport := &http.Transport{DialContext: network.Dial, DisableCompression: true}
		b.client = &http.Client{Transport: transport}
		defer func() {
			_ = b.srv.Close()
			_ = b.hub.Close()
			transport.CloseIdleConnections()
			_ = b.web.Close()
			_ = network.Close()
			synctest.Wait()
		}()
		test(t, b)
	})
}

// source publishes the clip until stop is called.
func (b *hlsBed) source(name string) (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = (&streamtest.Source{}).Run(ctx, b.hub, name)
	}()
	synctest.Wait() // it is there
	return func() { cancel(); <-done }
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

func (b *hlsBed) do(method, ref string, header ...string) reply {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, "http://server"+ref, nil)
	require.NoError(b.t, err)
	r.Header.Set("User-Agent", b.agent)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := b.client.Do(r)
	require.NoError(b.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(b.t, err)
	return reply{res.StatusCode, res.Header, body}
}

// get is a GET that succeeds.
func (b *hlsBed) get(ref string, header ...string) reply {
	b.t.Helper()
	a := b.do("GET", ref, header...)
	require.Equal(b.t, 200, a.status, "%s: %s", ref, a.body)
	return a
}

func resolve(t *testing.T, base, ref string) string {
	u, err := url.Parse(base)
	require.NoError(t, err)
	v, err := u.Parse(ref)
	require.NoError(t, err)
	v.RawQuery = ""
	return v.String()
}

// playlists returns where the variant's and its audio's playlists are.
func (b *hlsBed) playlists(ref string, header ...string) (video, audio string) {
	b.t.Helper()
	variants, media, found := hlscheck.Multivariant(b.get(ref, header...).body)
	require.Empty(b.t, found)
	video = resolve(b.t, ref, variants[0].URI)
	if len(media) > 0 {
		audio = resolve(b.t, ref, media[0]["URI"])
	}
	return video, audio
}

func (b *hlsBed) sessions() (all []*stream.Session) {
	for s := range b.hub.Sessions() {
		if s.Info().Role == stream.RolePlay {
			all = append(all, s)
		}
	}
	return all
}

// A live session of blocking reloads, with delta updates, obeys every rule, and
// everything that is listed can be had.
func TestHLSLive(t *testing.T) {
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		stop := b.source("live/x")
		video, audio := b.playlists("/live/x.m3u8")
		for _, ref := range []string{video, audio} {
			var reloads hlscheck.Reloads
			got := map[string]bool{}
			query := ""
			for range 120 {
				a := b.get(ref + query)
				require.Empty(t, reloads.Add(time.Now(), a.body), "%s\n%s", query, a.body)
				p := reloads.Playlist()
				for _, seg := range p.Segments {
					uris := []string{seg.Map, seg.URI}
					for _, part := range seg.Parts {
						uris = append(uris, part.URI)
					}
					for _, uri := range uris {
						if uri != "" && !got[uri] {
							got[uri] = true
							m := b.get(resolve(t, ref, uri))
							require.Contains(t, m.header.Get("Cache-Control"), "immutable")
							require.NotEmpty(t, m.body)
						}
					}
				}
				last := p.Segments[len(p.Segments)-1]
				msn, part := last.Sequence, len(last.Parts)
				if last.Complete() {
					msn, part = msn+1, 0
				}
				query = fmt.Sprintf("?_HLS_msn=%d&_HLS_part=%d&_HLS_skip=YES", msn, part)
			}
			require.Greater(t, len(got), 120)
		}
		all := b.sessions()
		require.Len(t, all, 1)
		require.Equal(t, "hls", all[0].Info().Protocol)
		require.Greater(t, all[0].Stats().BytesOut, uint64(100_000))

		// The hint is waited for.
		a := b.get(video)
		hint := regexp.MustCompile(`EXT-X-PRELOAD-HINT:TYPE=PART,URI="([^"]*)"`).FindSubmatch(a.body)
		at := time.Now()
		require.NotEmpty(t, b.get(resolve(t, video, string(hint[1]))).body)
		require.LessOrEqual(t, time.Since(at), 300*time.Millisecond)

		// The end.
		stop()
		time.Sleep(6 * time.Second) // grace
		a = b.get(video)
		require.Contains(t, string(a.body), "#EXT-X-ENDLIST")
		require.Contains(t, string(b.get("/live/x.m3u8").body), "v.m3u8", "the end can be watched")
		time.Sleep(30 * time.Second)
		require.Equal(t, 404, b.do("GET", video).status)
		require.Equal(t, 404, b.do("GET", "/live/x.m3u8").status)
		require.Empty(t, b.sessions())
		b.srv.hls.mu.Lock()
		defer b.srv.hls.mu.Unlock()
		require.Empty(t, b.srv.hls.secrets)
		require.Nil(t, b.srv.hls.sweeper)
	})
}

// A publisher that comes back within the grace goes on after a discontinuity; a
// new stream counts on.
func TestHLSRepublish(t *testing.T) {
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		stop := b.source("live/x")
		video, _ := b.playlists("/live/x.m3u8")
		time.Sleep(5 * time.Second)
		stop()
		time.Sleep(time.Second)
		stop = b.source("live/x")
		time.Sleep(5 * time.Second)
		a := b.get(video)
		require.Contains(t, string(a.body), "#EXT-X-DISCONTINUITY\n")
		require.NotContains(t, string(a.body), "ENDLIST")
		stop()
		time.Sleep(6 * time.Second)
		require.Contains(t, string(b.get(video).body), "ENDLIST")
		old, found := hlscheck.Media(b.get(video).body)
		require.Empty(t, found)
		last := old.Segments[len(old.Segments)-1]

		stop = b.source("live/x")
		defer stop()
		time.Sleep(3 * time.Second)
		again, _ := b.playlists("/live/x.m3u8")
		require.Equal(t, video, again)
		fresh, found := hlscheck.Media(b.get(video).body)
		require.Empty(t, found)
		require.Equal(t, last.Sequence+1, fresh.Segments[0].Sequence)
		require.True(t, fresh.Segments[0].Discontinuity)
		require.Equal(t, last.DiscontinuitySequence+1, fresh.Segments[0].DiscontinuitySequence)
		require.NotEmpty(t, b.get(resolve(t, video, last.URI)).body, "what was listed can still be had")
	})
}

func TestHLSRun(t *testing.T) {
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.srv.Run(ctx) }()
		defer b.source("live/x")()
		time.Sleep(5 * time.Second)
		at := time.Now()
		b.playlists("/live/x.m3u8")
		require.Less(t, time.Since(at), 100*time.Millisecond, "it is packaged already")
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func TestHLSOnDemand(t *testing.T) {
	inHLSBed(t, func(b *hlsBed) { b.srv.HLS.OnDemand = true; b.srv.HLS.Linger = 10 * time.Second }, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		time.Sleep(5 * time.Second)
		require.Zero(t, b.hub.Stream("live/x").Stats().Readers)
		video, _ := b.playlists("/live/x.m3u8")
		require.Equal(t, 1, b.hub.Stream("live/x").Stats().Readers)
		for range 20 {
			time.Sleep(2 * time.Second)
			b.get(video)
		}
		time.Sleep(15 * time.Second)
		require.Zero(t, b.hub.Stream("live/x").Stats().Readers)
		require.Contains(t, string(b.get(video).body), "EXTINF", "the next viewer starts it again")
	})
}

func TestHLSRefusals(t *testing.T) {
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		video, _ := b.playlists("/live/x.m3u8")
		found := regexp.MustCompile(`"\.\./([^/"]+)/vi0\.mp4"`).FindStringSubmatch(string(b.get(video).body))
		require.NotNil(t, found, "%s: %s", video, b.get(video).body)
		secret := found[1]
		media := "/live/x/_hls/" + secret + "/"
		for ref, status := range map[string]int{
			"/live/nothing.m3u8":                                  404,
			"/live/../x.m3u8":                                     400,
			"/live/_x.m3u8":                                       400,
			video + "?_HLS_msn=99999":                             400,
			video + "?_HLS_msn=-1":                                400,
			video + "?_HLS_msn=1&_HLS_msn=1":                      400,
			video + "?_HLS_part=1":                                400,
			video + "?_HLS_skip=please":                           400,
			video + "?_HLS_msn=0&_HLS_part=99":                    200, // beyond the last is the next one's first
			"/live/x/_hls/live/nothing.m3u8":                      404,
			"/live/x/_hls/live/v0.key":                            404,
			"/live/x/_hls/live/v0.m4s":                            404,
			"/live/x/_hls/guess/v.m3u8":                           403,
			"/live/x/_hls/a.1.b/v.m3u8":                           403,
			"/live/x/_hls/" + strings.Repeat("0", 32) + "/v0.m4s": 404,
			"/live/x/_hls/":                                       404,
			"/live/x/_hls/live":                                   404,
			"/live/x/_hls/live/":                                  404,
			"/live/x/_hls/live-!/v.m3u8":                          404,
			"/live/nothing/_hls/live/v.m3u8":                      404,
			media:                                                 404,
			media + "v.m3u8":                                      403,
			media + "v9999.m4s":                                   404,
			media + "vp9999999.m4s":                               404,
			media + "v00.m4s":                                     404,
			media + "../live/v.m3u8":                              404,
			media + "v0.m4s/":                                     404,
			"/live/y/_hls/" + secret + "/v0.m4s":                  404,
			"/a/live/x/_hls/" + secret + "/v0.m4s":                404,
			media + "v0.m4s":                                      200,
		} {
			r, err := http.NewRequestWithContext(t.Context(), "GET", "http://server/", nil)
			require.NoError(t, err)
			r.URL.Opaque = "//server" + ref
			if p, q, ok := strings.Cut(ref, "?"); ok {
				r.URL.Opaque, r.URL.RawQuery = "//server"+p, q
			}
			res, err := b.client.Do(r)
			require.NoError(t, err)
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			require.Equal(t, status, res.StatusCode, "%s: %.80q", ref, body)
			require.Equal(t, "*", res.Header.Get("Access-Control-Allow-Origin"))
			if status != 200 {
				require.Contains(t, []string{"no-store", ""}, res.Header.Get("Cache-Control"), ref)
			}
		}
		b.srv.HLS.Disabled = true
		require.Equal(t, 404, b.do("GET", "/live/x.m3u8").status)
		require.Equal(t, 404, b.do("GET", video).status)
	})
}

func TestHLSHeaders(t *testing.T) {
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		video, _ := b.playlists("/live/x.m3u8")
		time.Sleep(4*time.Second + 10*time.Millisecond)

		a := b.get(video)
		require.Equal(t, "application/vnd.apple.mpegurl", a.header.Get("Content-Type"))
		require.Equal(t, "public, max-age=1", a.header.Get("Cache-Control"))
		require.Equal(t, "Accept-Encoding", a.header.Get("Vary"))
		require.Contains(t, a.header.Get("Access-Control-Expose-Headers"), "Content-Range")
		require.Equal(t, "public, max-age=12", b.get(video+"?_HLS_msn=1").header.Get("Cache-Control"))
		same := b.do("GET", video, "If-None-Match", `"other", `+a.header.Get("ETag"))
		require.Equal(t, 304, same.status)
		require.Equal(t, a.header.Get("ETag"), same.header.Get("ETag"))

		z := b.get(video, "Accept-Encoding", "br, gzip;q=0.5")
		require.Equal(t, "gzip", z.header.Get("Content-Encoding"))
		require.NotEqual(t, a.header.Get("ETag"), z.header.Get("ETag"))
		require.Equal(t, 304, b.do("GET", video, "Accept-Encoding", "gzip", "If-None-Match", z.header.Get("ETag")).status)
		unzip, err := gzip.NewReader(bytes.NewReader(z.body))
		require.NoError(t, err)
		text, err := io.ReadAll(unzip)
		require.NoError(t, err)
		require.Equal(t, string(a.body), string(text))
		require.Empty(t, b.get(video, "Accept-Encoding", "gzip;q=0").header.Get("Content-Encoding"))

		h := b.do("HEAD", video)
		require.Equal(t, 200, h.status)
		require.Empty(t, h.body)
		require.Equal(t, a.header.Get("Content-Length"), h.header.Get("Content-Length"))
		require.Equal(t, 200, b.do("HEAD", "/live/x.m3u8").status)

		o := b.do("OPTIONS", video)
		require.Equal(t, 204, o.status)
		require.Contains(t, o.header.Get("Access-Control-Allow-Headers"), "Range")

		p, found := hlscheck.Media(a.body)
		require.Empty(t, found)
		seg := resolve(t, video, p.Segments[0].URI)
		whole := b.get(seg)
		require.Equal(t, "video/mp4", whole.header.Get("Content-Type"))
		require.Equal(t, 304, b.do("GET", seg, "If-None-Match", whole.header.Get("ETag")).status)
		require.Equal(t, whole.header.Get("Content-Length"), b.do("HEAD", seg).header.Get("Content-Length"))
		n := len(whole.body)
		for rng, want := range map[string]struct {
			status   int
			from, to int
		}{
			"bytes=0-0":                       {206, 0, 1},
			"bytes=10-19":                     {206, 10, 20},
			"bytes=10-":                       {206, 10, n},
			"bytes=-10":                       {206, n - 10, n},
			"bytes=-999999999":                {206, 0, n},
			"bytes=5-99999999999999999999999": {206, 5, n},
			fmt.Sprintf("bytes=%d-", n):       {416, 0, 0},
			"bytes=99999999999999999999-":     {416, 0, 0},
			"bytes=-0":                        {416, 0, 0},
			"bytes=0-0,2-3":                   {200, 0, n},
			"bytes=0-,0-,0-,0-,0-":            {200, 0, n},
			"bytes=5-4":                       {200, 0, n},
			"bytes=-":                         {200, 0, n},
			"bytes=+1-2":                      {200, 0, n},
			"bytes=a-b":                       {200, 0, n},
			"lines=1-2":                       {200, 0, n},
		} {
			a := b.do("GET", seg, "Range", rng)
			require.Equal(t, want.status, a.status, rng)
			if want.status == 416 {
				require.Equal(t, fmt.Sprintf("bytes */%d", n), a.header.Get("Content-Range"))
				continue
			}
			require.Equal(t, whole.body[want.from:want.to], a.body, rng)
			if want.status == 206 {
				require.Equal(t, fmt.Sprintf("bytes %d-%d/%d", want.from, want.to-1, n), a.header.Get("Content-Range"))
			}
		}
		require.Equal(t, 206, b.do("GET", seg, "Range", "bytes=0-1", "If-Range", whole.header.Get("ETag")).status)
		require.Equal(t, 200, b.do("GET", seg, "Range", "bytes=0-1", "If-Range", `"other"`).status)
	})
}

func FuzzParseRange(f *testing.F) {
	f.Add("bytes=0-1", int64(10))
	f.Add("bytes=-5", int64(3))
	f.Add("bytes=3-", int64(3))
	f.Add("bytes=99999999999999999999-1", int64(0))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		offset, length, status := parseRange(header, size)
		require.Contains(t, []int{200, 206, 416}, status)
		require.True(t, offset >= 0 && length >= 0 && offset <= size && length <= size-offset)
		require.True(t, status != 206 || length > 0)
	})
}

// Close ends those who wait, and does not say that the stream has ended.
func TestHLSClose(t *testing.T) {
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		video, _ := b.playlists("/live/x.m3u8")
		p, _ := hlscheck.Media(b.get(video).body)
		last := p.Segments[len(p.Segments)-1].Sequence
		time.AfterFunc(100*time.Millisecond, func() { _ = b.srv.Close() })
		require.Equal(t, 503, b.do("GET", fmt.Sprintf("%s?_HLS_msn=%d", video, last+1)).status)
		require.Equal(t, 503, b.do("GET", "/live/x.m3u8").status)
		synctest.Wait() // Close returns
		require.Empty(t, b.sessions())
	})
}

func TestHLSTooManyWaiters(t *testing.T) {
	inHLSBed(t, func(b *hlsBed) { b.srv.HLS.MaxWaitersPerAddr = 1 }, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		video, _ := b.playlists("/live/x.m3u8")
		p, _ := hlscheck.Media(b.get(video).body)
		ref := fmt.Sprintf("%s?_HLS_msn=%d", video, p.Segments[len(p.Segments)-1].Sequence+1)
		first := make(chan int, 1)
		go func() { first <- b.do("GET", ref).status }()
		synctest.Wait()
		a := b.do("GET", ref)
		require.Equal(t, 429, a.status)
		require.Equal(t, "1", a.header.Get("Retry-After"))
		require.Equal(t, 200, <-first)
	})
}

func TestDASH(t *testing.T) {
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		a := b.get("/live/x.mpd")
		require.Equal(t, "application/dash+xml", a.header.Get("Content-Type"))
		init := regexp.MustCompile(`initialization="([^"]*)"`).FindSubmatch(a.body)
		base := regexp.MustCompile(`<BaseURL>([^<]*)</BaseURL>`).FindSubmatch(a.body)
		require.NotNil(t, init, "%s", a.body)
		ref := string(init[1])
		if base != nil {
			ref = string(base[1]) + ref
		}
		require.NotEmpty(t, b.get(resolve(t, "/live/x.mpd", ref)).body)
		require.Equal(t, "dash", b.sessions()[0].Info().Protocol)
		b.sessions()[0].Kick(nil)
		require.Equal(t, 403, b.do("GET", "/live/x.mpd").status)
		require.Equal(t, 404, b.do("GET", "/live/nothing.mpd").status)
	})
}
