package relay

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

func TestExpand(t *testing.T) {
	for _, tt := range []struct{ template, key, want string }{
		{"rtmp://host", "live/cam", "rtmp://host/live/cam"},
		{"rtmp://host:1936/", "live/cam", "rtmp://host:1936/live/cam"},
		{"rtmp://host?token=a/b", "live/cam", "rtmp://host/live/cam?token=a/b"},
		{"rtmp://host/app/KEY", "live/cam", "rtmp://host/app/KEY"},
		{"rtmp://host/{app}/x-{name}?vhost=v", "a/b/cam", "rtmp://host/a/b/x-cam?vhost=v"},
		{"rtmp://host/all/{name}", "cam", "rtmp://host/all/cam"},
		{"https://host", "live/a cam", "https://host/live/a%20cam.flv"},
		{"http://host/{stream}.flv?s={stream}", "live/a+b", "http://host/live/a+b.flv?s=live%2Fa%2Bb"},
		{"runnels://host", "live/ä", "runnels://host/live/%C3%A4"},
		{"hlss://host", "live/a cam", "hlss://host/live/a%20cam.m3u8"},
		{"hls://host/x.m3u8", "live/cam", "hls://host/x.m3u8"},
		{"wheps://host?token=t", "live/cam", "wheps://host/whep/live/cam?token=t"},
		{"whip://host/{name}", "live/cam", "whip://host/cam"},
		{"srt://host:1", "live/cam", "srt://host:1/live/cam"},
		{"srt://host:1?streamid={name}", "live/cam", "srt://host:1/?streamid=cam"},
		{"nonsense", "live/cam", "nonsense"},
	} {
		require.Equal(t, tt.want, expand(tt.template, tt.key), tt.template)
	}
}

func TestRedact(t *testing.T) {
	for _, tt := range []struct{ url, key, want string }{
		{"rtmp://user:pw@host/live/cam?token=secret", "live/cam", "rtmp://host/live/cam"},
		{"rtmp://a.platform.example/live2/abcd-efgh-secret", "live/cam", "rtmp://a.platform.example/live2/…"},
		{"https://host/live/cam.flv", "live/cam", "https://host/live/cam.flv"},
		{"rtmp://host/secret", "live/cam", "rtmp://host/…"},
	} {
		require.Equal(t, tt.want, redact(tt.url, tt.key))
	}
}

func TestHopLists(t *testing.T) {
	for query, want := range map[string][]string{
		"":                          nil,
		"token=x":                   nil,
		"runnel-hops=":              nil,
		"runnel-hops=a":             {"a"},
		"token=x&runnel-hops=a,b-1": {"a", "b-1"},
	} {
		got, err := parseHops(query)
		require.NoError(t, err)
		require.Equal(t, want, got, query)
	}
	for _, query := range []string{"runnel-hops=a,,b", "runnel-hops=a%2F", "runnel-hops=a%00", "runnel-hops=" + strings.Repeat("a,", 16) + "a", "runnel-hops=" + strings.Repeat("a", 65)} {
		_, err := parseHops(query)
		require.ErrorIs(t, err, errHops, query)
	}
	require.Equal(t, "a=1&token=t", credentials("runnel-hops=x&a=1&vhost=v", "t"))
	require.Equal(t, "token=u", credentials("token=u", "t"))
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m memory
		for i := range 3 * maxAskings {
			m.note(strings.Repeat("x", i%7)+string(rune(i)), asking{hops: []string{"a"}, at: time.Now()})
		}
		require.LessOrEqual(t, len(m.m), maxAskings)
		m.note("s", asking{hops: []string{"a"}, at: time.Now()})
		m.note("s", asking{hops: []string{"b"}, at: time.Now()})
		require.Equal(t, []string{"b", "a"}, m.of("s").hops)
		time.Sleep(together)
		m.note("s", asking{at: time.Now()})
		require.Empty(t, m.of("s").hops)
	})
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Relay{MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Second}
		b := r.backoff()
		most := 100 * time.Millisecond
		for range 10 {
			start := time.Now()
			require.NoError(t, b.wait(t.Context()))
			took := time.Since(start)
			require.GreaterOrEqual(t, took, most/2)
			require.LessOrEqual(t, took, most+1)
			most = min(2*most, time.Second)
		}
		b.reset()
		start := time.Now()
		require.NoError(t, b.wait(t.Context()))
		require.LessOrEqual(t, time.Since(start), 100*time.Millisecond+1)
	})
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h health
		servers := []string{"a", "b", "c", "d"}
		first := map[string]int{}
		for i := range 4000 {
			name := "live/" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)
			list := h.order(servers, name)
			require.ElementsMatch(t, servers, list)
			first[list[0]]++
		}
		for _, s := range servers {
			require.InDelta(t, 1000, first[s], 250, "the streams spread: %v", first)
		}
		list := h.order(servers, "live/cam")
		h.failed(list[0])
		require.Equal(t, append(list[1:len(list):len(list)], list[0]), h.order(servers, "live/cam"))
		time.Sleep(minSick + 1)
		require.Equal(t, list, h.order(servers, "live/cam"), "it is tried again")
		for range 20 {
			h.failed(list[0])
		}
		time.Sleep(maxSick - time.Second)
		require.NotEqual(t, list[0], h.order(servers, "live/cam")[0])
		h.answered(list[0])
		require.Equal(t, list[0], h.order(servers, "live/cam")[0])
	})
}

func TestMark(t *testing.T) {
	f := &stream.Frame{DTS: 100 * time.Hour, PTS: 100*time.Hour + 33366667, Time: time.UnixMicro(1795000000123456)}
	b := appendMark(nil, f)
	require.Len(t, b, markSize)
	m, ok := parseMark(b)
	require.True(t, ok)
	require.Equal(t, mark{f.DTS, f.PTS, f.Time}, m)
	for _, bad := range [][]byte{nil, b[:len(b)-1], append(b[:len(b):len(b)], 0), append(b[:len(markHead):len(markHead)], make([]byte, 26)...)} {
		_, ok := parseMark(bad)
		require.False(t, ok)
	}
	for _, x := range []float64{math.NaN(), math.Inf(1), -1e300} {
		nan := appendMark(nil, f)
		bits := math.Float64bits(x)
		for i := range 8 {
			nan[len(markHead)+1+i] = byte(bits >> (56 - 8*i))
		}
		_, ok := parseMark(nan)
		require.False(t, ok, x)
	}
}

func TestMarkCostsNothingMuch(t *testing.T) {
	f := &stream.Frame{Time: time.Now()}
	b := make([]byte, 0, 2*markSize)
	require.Zero(t, testing.AllocsPerRun(100, func() { b = appendMark(b[:0], f) }))
}

// FuzzMarked feeds what a server may send: nothing of it may panic, and no
// frame that comes out may have a time that its tag did not have, by far.
func FuzzMarked(f *testing.F) {
	s := stream.Frame{Track: &stream.Track{ID: 3, Codec: stream.AMF0}, Time: time.UnixMicro(1)}
	mark := appendMark(nil, &s)
	tag := func(typ byte, body []byte) []byte { b, _ := flv.AppendTag(nil, typ, 7, body, nil); return b }
	head := flv.AppendFileHeader(nil, true, true)
	audio := []byte{0x2f, 0xff, 0xfb, 0x90, 0x44, 0}
	f.Add(append(append(head, tag(flv.TagData, mark)...), tag(flv.TagAudio, audio)...))
	f.Add(append(append(head[:len(head):len(head)], tag(flv.TagData, mark[:30])...), tag(flv.TagAudio, audio)...))
	f.Add(append(head[:len(head):len(head)], tag(flv.TagData, append([]byte{2, 0, 1, 'x'}, 5))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		sink := &checkSink{t: t}
		_ = (&flv.Reader{R: strings.NewReader(string(b)), Demuxer: &flv.Demuxer{Sink: &marked{Sink: sink}}}).ReadAll()
	})
}

type checkSink struct {
	t      *testing.T
	tracks []*stream.Track
}

func (s *checkSink) SetTracks(tracks ...*stream.Track) error { s.tracks = tracks; return nil }
func (s *checkSink) SetMetadata(stream.Metadata)             {}
func (s *checkSink) Write(f *stream.Frame) error {
	require.True(s.t, in(s.tracks, f.Track), "a frame of a track that was not stated")
	require.Less(s.t, f.DTS.Abs(), 1<<33*time.Millisecond)
	return nil
}

func FuzzHops(f *testing.F) {
	f.Add("runnel-hops=a,b")
	f.Add("runnel-hops=%zz&token=1")
	f.Fuzz(func(t *testing.T, query string) {
		hops, err := parseHops(query)
		require.True(t, err == nil || hops == nil)
		for _, id := range hops {
			require.True(t, validID(id))
		}
		require.NotContains(t, credentials(query, ""), hopsKey+"=")
	})
}
