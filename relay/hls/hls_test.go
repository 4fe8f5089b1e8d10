package hls

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A world is a server that packages HLS, and a hub that relays from it.
type world struct {
	origin, edge *stream.Hub
	out          *deliver.Server
	relay        *relay.Relay
	handler      http.Handler
}

// inWorld runs a test in a bubble, where time is exact and nothing may be left over.
func inWorld(t *testing.T, change func(*world), test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		quiet := slog.New(slog.DiscardHandler)
		network := &streamtest.Net{}
		defer network.Close()
		w := &world{origin: &stream.Hub{Log: quiet}, edge: &stream.Hub{Log: quiet}}
		w.out = &deliver.Server{Hub: w.origin, Auth: auth.AllowAll, Log: quiet}
		w.relay = &relay.Relay{Hub: w.edge, Log: quiet, Transports: map[string]relay.Transport{"hls": &Transport{DialContext: network.Dial}}}
		w.handler = w.out
		if change != nil {
			change(w)
		}
		l, err := network.Listen("origin:80")
		require.NoError(t, err)
		web := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.handler.ServeHTTP(rw, r) })}
		go web.Serve(l)
		defer func() {
			w.relay.Close()
			w.edge.Close()
			w.out.Close()
			w.origin.Close()
			web.Close()
		}()
		test(t, w)
	})
}

func (w *world) publish(t *testing.T, s *streamtest.Source) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx, w.origin, "live/cam")
	}()
	synctest.Wait()
	return func() { cancel(); <-done }
}

// pull pulls until the function that it returns is called, whose result is Pull's.
func (w *world) pull(url string) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.relay.Pull(ctx, "live/cam", url) }()
	return func() error { cancel(); return <-ended }
}

// read reads for some time from the first frame on.
func (w *world) read(t *testing.T, d time.Duration) (frames []*stream.Frame, at []time.Time) {
	sub, err := w.edge.Subscribe(t.Context(), "live/cam", &stream.SubscribeOptions{Wait: time.Minute})
	require.NoError(t, err)
	defer sub.Close()
	var end time.Time
	for f, err := range sub.Frames(t.Context()) {
		require.NoError(t, err)
		if end.IsZero() {
			end = time.Now().Add(d)
		}
		if time.Now().After(end) {
			return frames, at
		}
		frames, at = append(frames, f), append(at, time.Now())
	}
	return frames, at
}

// What a live server packages comes out whole, in order, and at its own pace.
func TestLive(t *testing.T) {
	for name, tt := range map[string]struct {
		query string
		hls   deliver.HLS
	}{
		"fragmented MP4": {},
		"encrypted":      {hls: deliver.HLS{Encrypt: true, KeySegments: 2}},
		"MPEG-TS":        {query: "?format=ts"},
		"encrypted TS":   {query: "?format=ts", hls: deliver.HLS{Encrypt: true, Part: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) { w.out.HLS = tt.hls }, func(t *testing.T, w *world) {
				defer w.publish(t, &streamtest.Source{})()
				stop := w.pull("hls://origin/live/cam.m3u8" + tt.query)
				frames, at := w.read(t, 20*time.Second)
				require.ErrorIs(t, stop(), context.Canceled)

				source := map[string]bool{}
				for f := range (&streamtest.Source{Duration: 8 * time.Second}).Frames() {
					source[string(f.Data)] = true
				}
				last, count := map[stream.Kind]time.Duration{}, map[stream.Kind]int{}
				for i, f := range frames {
					k := f.Track.Kind()
					if before, ok := last[k]; ok {
						step := map[stream.Kind]time.Duration{stream.Video: 40 * time.Millisecond, stream.Audio: 1024 * time.Second / 48000}[k]
						require.InDelta(t, step, f.DTS-before, float64(time.Millisecond), "%v", k)
					}
					last[k] = f.DTS
					count[k]++
					require.False(t, i > 0 && f.Discontinuity)
					require.True(t, k == stream.Video && strings.HasPrefix(tt.query, "?format") || source[string(f.Data)], "%v", k) // in a transport stream key frames have their parameter sets
					require.Less(t, time.Since(f.Time), time.Minute, "capture time")
				}
				require.InDelta(t, 20*25, count[stream.Video], 15)
				require.InDelta(t, 20*47, count[stream.Audio], 30)
				for i := range at[1:] {
					require.Less(t, at[i+1].Sub(at[i]), 250*time.Millisecond, "no bursts")
				}
			})
		})
	}
}

// The stream of an edge goes on when its source is back, and ends some time after
// that is gone for good; what had been packaged of it is not played again.
func TestEndAndReturn(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		stop := w.publish(t, &streamtest.Source{})
		w.edge.Source = w.relay
		w.relay.Origins = []string{"hls://origin"}
		sub, err := w.edge.Subscribe(t.Context(), "live/cam", &stream.SubscribeOptions{Wait: time.Minute})
		require.NoError(t, err)
		defer sub.Close()
		ended := time.Time{}
		go func() {
			time.Sleep(15 * time.Second)
			stop()
			time.Sleep(5 * time.Second)
			stop = w.publish(t, &streamtest.Source{})
			time.Sleep(20 * time.Second)
			stop()
			ended = time.Now()
		}()
		breaks, last := 0, time.Duration(0)
		for f, err := range sub.Frames(t.Context()) {
			if err != nil {
				break
			}
			if f.Discontinuity {
				breaks++
			}
			last = f.DTS
		}
		require.Equal(t, 1, breaks)
		require.InDelta(t, 37*time.Second, last, float64(3*time.Second))
		require.InDelta(t, 40*time.Second, time.Since(ended), float64(15*time.Second), "Relay.Hold, and what was behind")
	})
}

// files serves texts and bytes by path.
type files map[string]any

func (f files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch v := f[r.URL.Path].(type) {
	case string:
		_, _ = w.Write([]byte(v))
	case []byte:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(v))
	case http.HandlerFunc:
		v(w, r)
	default:
		http.NotFound(w, r)
	}
}

// segments makes media of so many seconds each.
func segments(t *testing.T, n int, f func(frames []*stream.Frame) []byte) (list [][]byte) {
	var frames [16][]*stream.Frame
	for frame := range (&streamtest.Source{Duration: time.Duration(n) * time.Second}).Frames() {
		i := int(frame.DTS / time.Second)
		frames[i] = append(frames[i], frame)
	}
	for i := range n {
		list = append(list, f(frames[i]))
	}
	return list
}

func mp4s(t *testing.T, n int) (init []byte, list [][]byte) {
	s := &streamtest.Source{}
	init, err := fmp4.Init(s.Tracks()...)
	require.NoError(t, err)
	return init, segments(t, n, func(frames []*stream.Frame) []byte {
		var runs [2]fmp4.Run
		for _, f := range frames {
			r := &runs[f.Track.Kind()-1]
			r.Track, r.Frames = f.Track, append(r.Frames, f)
		}
		return fmp4.AppendPart(nil, 1, runs[:]...)
	})
}

// A stored presentation is played from its beginning, also as ranges of one file,
// and a segment that cannot be had is left out.
func TestStored(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		init, list := mp4s(t, 5)
		whole := bytes.Clone(init)
		text := fmt.Sprintf("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"%d@0\"\n", len(init))
		for i, b := range list {
			if i == 3 {
				text += "#EXTINF:1,\nlost.m4s\n"
				continue
			}
			text += fmt.Sprintf("#EXTINF:1,\n#EXT-X-BYTERANGE:%d@%d\nall.mp4\n", len(b), len(whole))
			whole = append(whole, b...)
		}
		var fetched atomic.Int32
		w.handler = files{
			"/top.m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\nv/bad.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1000,CODECS=\"a,b\"\nv/list.m3u8\n",
			"/v/list.m3u8": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fetched.Add(1)
				_, _ = w.Write([]byte(text + "#EXT-X-ENDLIST\n"))
			}),
			"/v/all.mp4": whole,
		}
		stop := w.pull("hls://origin/top.m3u8")
		frames, _ := w.read(t, 5*time.Second)
		require.ErrorIs(t, stop(), context.Canceled)
		count := 0
		for _, f := range frames {
			if f.Track.Kind() == stream.Video {
				count++
			}
		}
		require.Equal(t, 4*25, count)
		require.NotZero(t, fetched.Load())
	})
}

func TestRefused(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		})
		media := func(lines string) string { return "#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + lines + "#EXT-X-ENDLIST\n" }
		w.handler = files{
			"/denied":  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }),
			"/endless": endless, "/text": "hello",
			"/drm":    media("#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"x\"\n#EXTINF:1,\nseg\n"),
			"/aac":    media("#EXTINF:1,\ntext\n"),
			"/large":  media("#EXTINF:1,\nendless\n"),
			"/file":   media("#EXTINF:1,\nfile:///etc/passwd\n"),
			"/gopher": media("#EXTINF:1,\ngopher://origin/x\n"),
			"/badkey": media("#EXT-X-KEY:METHOD=AES-128,URI=\"text\"\n#EXTINF:1,\ntext\n"),
			"/nested": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nnested\n",
			"/over":   "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:1,\nx\n#EXT-X-ENDLIST\n",
			"/loop":   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) }),
			"/inwards": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
			}),
		}
		tr := w.relay.Transports["hls"].(*Transport)
		tr.MaxSegment = 1 << 20
		for path, want := range map[string]error{
			"/none": stream.ErrNotFound, "/denied": auth.ErrDenied, "/endless": errSize, "/text": errPlaylist,
			"/drm": stream.ErrUnsupported, "/aac": stream.ErrUnsupported, "/file": errReference, "/gopher": errReference,
			"/loop": errReference, "/inwards": errReference, "/nested": errPlaylist, "/over": stream.ErrNotFound,
		} {
			require.ErrorIs(t, tr.Pull(t.Context(), "hls://origin"+path+"?token=secret", nil, &relay.Options{}), want, path)
		}
		for _, path := range []string{"/large", "/badkey"} { // what is wrong with a segment is tried again and left out
			require.NoError(t, tr.Pull(t.Context(), "hls://origin"+path, nil, &relay.Options{}), path)
		}
		require.ErrorIs(t, tr.Push(t.Context(), "hls://origin/x", nil, &relay.Options{}), ErrPush)
		require.ErrorIs(t, tr.Pull(t.Context(), "rtmp://origin/x", nil, &relay.Options{}), errURL)
		require.ErrorIs(t, tr.Probe(t.Context(), "hls://origin/none", &relay.Options{}), stream.ErrNotFound)
		require.NoError(t, tr.Probe(t.Context(), "hls://origin/over", &relay.Options{}))
	})
}

// A playlist leads to no address that it has no business with.
func TestAddresses(t *testing.T) {
	inside := httptest.NewServer(files{"/x.m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n", "/v.m3u8": "#EXTM3U\n#EXT-X-ENDLIST\n"})
	defer inside.Close()
	outside := httptest.NewServer(files{
		"/refers.m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n" + inside.URL + "/v.m3u8\n",
		"/redirects.m3u8": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inside.URL+"/v.m3u8", http.StatusFound)
		}),
		"/own.m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n",
		"/v.m3u8":   "#EXTM3U\n#EXT-X-ENDLIST\n",
	})
	defer outside.Close()
	at := "hls" + strings.TrimPrefix(outside.URL, "http")
	for _, path := range []string{"/refers.m3u8", "/redirects.m3u8"} {
		require.ErrorIs(t, (&Transport{}).Pull(t.Context(), at+path, nil, &relay.Options{}), errReference, path)
		open := &Transport{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
		require.ErrorIs(t, open.Pull(t.Context(), at+path, nil, &relay.Options{}), stream.ErrNotFound, path)
	}
	require.ErrorIs(t, (&Transport{}).Pull(t.Context(), at+"/own.m3u8", nil, &relay.Options{}), stream.ErrNotFound, "the server itself is fine")
}

func TestChoose(t *testing.T) {
	p, err := parse([]byte("#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"g\",URI=\"a,1.m3u8\"\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"g\",DEFAULT=YES,URI=\"b.m3u8\"\n" +
		"#EXT-X-STREAM-INF:BANDWIDTH=500\nlow\n#EXT-X-STREAM-INF:BANDWIDTH=2000,AUDIO=\"g\"\nhigh\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nmiddle\n"))
	require.NoError(t, err)
	require.Equal(t, "a,1.m3u8", p.sounds[0].uri)
	for most, want := range map[int64]string{0: "high", 1500: "middle", 1000: "middle", 700: "low", 100: "low"} {
		video, _ := p.choose(most)
		require.Equal(t, want, video, most)
	}
	_, audio := p.choose(0)
	require.Equal(t, "b.m3u8", audio)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:3\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x00112233445566778899aabbccddeeff\n#EXT-X-MAP:URI=\"i\",BYTERANGE=\"3@4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.6Z\n#EXT-X-BYTERANGE:5@6\n#EXTINF:2.0,title\ns\n#EXT-X-BYTERANGE:5\n#EXTINF:2,\ns\n#EXT-X-ENDLIST"))
	f.Add([]byte("#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"g\",URI=\"a\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"g\"\nv"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(b)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(p.segments), maxEntries)
		for _, s := range p.segments {
			require.GreaterOrEqual(t, s.offset, int64(0))
			require.GreaterOrEqual(t, s.length, int64(0))
			require.LessOrEqual(t, s.duration, time.Hour)
		}
		if len(p.variants) > 0 {
			p.choose(5)
		}
	})
}

var _ mpegts.Sink = (*chunk)(nil)
