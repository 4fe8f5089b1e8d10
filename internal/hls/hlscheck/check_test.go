package hlscheck

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// playlist returns a low-latency playlist of segments of 2 s: those from first to
// last-1 complete, the last with so many parts of 0.5 s. Segment 3 comes after a
// discontinuity. So many of the oldest are skipped.
func playlist(first, last, parts, skipped int) string {
	var b strings.Builder
	version, disc := 6, 0
	if skipped > 0 {
		version = 9
	}
	if first > 3 {
		disc = 1
	}
	fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-VERSION:%d\n#EXT-X-TARGETDURATION:2\n", version)
	b.WriteString("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=1.5\n#EXT-X-PART-INF:PART-TARGET=0.5\n")
	fmt.Fprintf(&b, "#EXT-X-MEDIA-SEQUENCE:%d\n#EXT-X-DISCONTINUITY-SEQUENCE:%d\n", first, disc)
	if skipped > 0 {
		fmt.Fprintf(&b, "#EXT-X-SKIP:SKIPPED-SEGMENTS=%d\n", skipped)
	}
	b.WriteString("#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"k.key\"\n")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	part := func(n, i int) {
		independent := ""
		if i == 0 {
			independent = ",INDEPENDENT=YES"
		}
		fmt.Fprintf(&b, "#EXT-X-PART:DURATION=0.50000,URI=\"p%d.m4s\"%s\n", n*4+i, independent)
	}
	for n := first + skipped; n <= last; n++ {
		if n == last && parts == 0 {
			break
		}
		if n == 3 {
			b.WriteString("#EXT-X-DISCONTINUITY\n")
		}
		fmt.Fprintf(&b, "#EXT-X-PROGRAM-DATE-TIME:%s\n", at.Add(time.Duration(n)*2*time.Second).Format("2006-01-02T15:04:05.000Z"))
		if n < last {
			if n > last-4 {
				for i := range 4 {
					part(n, i)
				}
			}
			fmt.Fprintf(&b, "#EXTINF:2.00000,\ns%d.m4s\n", n)
			continue
		}
		for i := range parts {
			part(n, i)
		}
	}
	fmt.Fprintf(&b, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p%d.m4s\"\n", last*4+parts)
	fmt.Fprintf(&b, "#EXT-X-RENDITION-REPORT:URI=\"a.m3u8\",LAST-MSN=%d,LAST-PART=%d\n", last, parts)
	return b.String()
}

func TestMediaAccepts(t *testing.T) {
	p, found := Media([]byte(playlist(1, 9, 2, 0)))
	require.Empty(t, found)
	require.Equal(t, 2, p.TargetDuration)
	require.Len(t, p.Segments, 9)
	require.EqualValues(t, 9, p.Segments[8].Sequence)
	require.False(t, p.Segments[8].Complete())
	require.EqualValues(t, 0, p.Segments[1].DiscontinuitySequence)
	require.EqualValues(t, 1, p.Segments[2].DiscontinuitySequence)
	require.Equal(t, "init.mp4", p.Segments[8].Map)
	require.Equal(t, Key{}, p.Segments[8].MapKey)
	require.Equal(t, "k.key", p.Segments[8].Key.URI)
	require.InDelta(t, 16, p.Duration(), 1e-9)
	require.Equal(t, []Report{{URI: "a.m3u8", LastMSN: 9, LastPart: 2}}, p.Reports)
	_, found = Media([]byte(strings.ReplaceAll(playlist(1, 9, 0, 0), "\n", "\r\n")))
	require.Empty(t, found)
	_, found = Media([]byte(playlist(1, 9, 2, 2)))
	require.Empty(t, found)
	_, found = Media([]byte("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.5,title\na.ts\n# comment\n\n#EXTINF:2,\nb.ts\n#EXT-X-ENDLIST\n"))
	require.Empty(t, found)
}

// Each rule is broken once, and found.
func TestMediaFinds(t *testing.T) {
	for _, tt := range []struct{ old, new, want string }{
		{"#EXTM3U\n", "", "begins with #EXTM3U"},
		{"VERSION:6", "VERSION:5", "EXT-X-MAP needs 6"},
		{"#EXT-X-VERSION:6\n", "#EXT-X-VERSION:6\n#EXT-X-VERSION:6\n", "comes once"},
		{"#EXT-X-TARGETDURATION:2\n", "", "EXT-X-TARGETDURATION is required"},
		{"TARGETDURATION:2", "TARGETDURATION:1", "rounded, is at most the target duration"},
		{"TARGETDURATION:2", "TARGETDURATION:two", "no decimal integer"},
		{"CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL=11.9", "at least six target durations"},
		{"HOLD-BACK=6.0", "HOLD-BACK=5.9", "HOLD-BACK is at least three"},
		{",PART-HOLD-BACK=1.5", "", "PART-HOLD-BACK is required"},
		{"PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.4", "PART-HOLD-BACK is at least"},
		{"CAN-BLOCK-RELOAD=YES,", "", "offers blocking reload"},
		{"#EXT-X-PART-INF:PART-TARGET=0.5\n", "", "EXT-X-PART-INF is required"},
		{"PART-TARGET=0.5", "PART-TARGET=0", "PART-TARGET is required"},
		{"PART-TARGET=0.5", "PART-TARGET=0.49", "lasts at most the part target duration"},
		{"DURATION=0.50000,URI=\"p33.m4s\"", "DURATION=0.40000,URI=\"p33.m4s\"", "at least 85 %"},
		{"DURATION=0.50000,URI=\"p33.m4s\"", "DURATION=0.45000,URI=\"p33.m4s\"", "the parts make up the segment"},
		{"DURATION=0.50000,URI=\"p33.m4s\"", "URI=\"p33.m4s\"", "DURATION is required"},
		{"URI=\"p33.m4s\"", "URI=p33.m4s", "URI is required and quoted"},
		{"#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:21.000Z\n#EXT-X-PART:DURATION=0.50000,URI=\"p32.m4s\",INDEPENDENT=YES\n",
			"#EXT-X-PART:DURATION=0.50000,URI=\"p32.m4s\",INDEPENDENT=YES\n#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:21.000Z\n", "before its first EXT-X-PART"},
		{"#EXTINF:2.00000,\ns1.m4s", "#EXT-X-PART:DURATION=0.5,URI=\"x\",INDEPENDENT=YES\n#EXTINF:2.00000,\ns1.m4s", "three target durations from the end are removed"},
		{"#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p38.m4s\"\n", "", "hints at its next part"},
		{"#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p38.m4s\"\n", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p37.m4s\"\n", "is listed already"},
		{"#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p38.m4s\"\n", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p38.m4s\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p39.m4s\"\n", "one EXT-X-PRELOAD-HINT"},
		{"#EXT-X-PRELOAD-HINT:TYPE=PART", "#EXT-X-PRELOAD-HINT:TYPE=KEY", "PART or MAP"},
		{"#EXT-X-RENDITION-REPORT", "#EXT-X-ENDLIST\n#EXT-X-RENDITION-REPORT", "ended hints at nothing"},
		{"URI=\"a.m3u8\"", "URI=\"https://x/a.m3u8\"", "relative to the playlist"},
		{"LAST-MSN=9", "LAST-MSN=x", "no decimal integer"},
		{"#EXT-X-MEDIA-SEQUENCE:1\n", "", ""}, // is 0 then
		{"#EXTINF:2.00000,\ns1.m4s\n", "#EXTINF:2.00000,\ns1.m4s\n#EXT-X-MEDIA-SEQUENCE:1\n", "comes before the first segment"},
		{"#EXT-X-DISCONTINUITY-SEQUENCE:0\n", "#EXT-X-DISCONTINUITY\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n", "comes before the first segment"},
		{"#EXT-X-MAP:URI=\"init.mp4\"\n", "", "fragmented MP4 needs EXT-X-MAP"},
		{"#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"k.key\"\n", "#EXT-X-KEY:METHOD=AES-128,URI=\"k.key\"\n#EXT-X-MAP:URI=\"init.mp4\"\n", "needs the IV"},
		{"METHOD=AES-128,URI=\"k.key\"", "METHOD=AES-128", "URI is required"},
		{"METHOD=AES-128,URI=\"k.key\"", "METHOD=NONE,URI=\"k.key\"", "no other attributes"},
		{"METHOD=AES-128,URI=\"k.key\"", "URI=\"k.key\"", "METHOD is required"},
		{"METHOD=AES-128,URI=\"k.key\"", "METHOD=AES-128,METHOD=AES-128", "given twice"},
		{"METHOD=AES-128,URI=\"k.key\"", "METHOD=AES-128,URI=\"k.key", "quote not closed"},
		{"METHOD=AES-128", "method=AES-128", "no attribute name"},
		{"#EXTINF:2.00000,\ns1.m4s", "s1.m4s", "EXTINF is required"},
		{"#EXTINF:2.00000,\ns1.m4s", "#EXTINF:2,00000\ns1.m4s", ""},
		{"#EXTINF:2.00000,\ns1.m4s", "#EXTINF:1e0,\ns1.m4s", "no decimal number"},
		{"2026-01-02T03:04:07.000Z", "2026-01-02T03:04:07Z", "milliseconds"},
		{"2026-01-02T03:04:07.000Z", "yesterday", "cannot parse"},
		{"2026-01-02T03:04:09.000Z", "2026-01-02T03:04:08.300Z", "dates do not overlap"},
		{"2026-01-02T03:04:09.000Z", "2026-01-02T03:04:09.700Z", "dates go on"},
		{"#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:11.000Z\n", "#EXT-X-DISCONTINUITY\n", "has a date if others have"},
		{"#EXTINF:2.00000,\ns8.m4s", "#EXT-X-GAP\n#EXTINF:2.00000,\ns8.m4s", "have GAP=YES"},
		{"#EXT-X-VERSION:6\n", "#EXT-X-VERSION:6\n#EXT-X-PLAYLIST-TYPE:LIVE\n", "is EVENT or VOD"},
		{"#EXT-X-VERSION:6\n", "#EXT-X-VERSION:6\n#EXT-X-STREAM-INF:BANDWIDTH=1\n", "no Multivariant Playlist tags"},
		{"#EXT-X-MAP", "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n#EXT-X-MAP", "EXT-X-SKIP needs 9"},
		{"#EXTINF:2.00000,\ns2.m4s", "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n#EXTINF:2.00000,\ns2.m4s", "stands for the oldest segments"},
	} {
		text := playlist(1, 9, 2, 0)
		require.Contains(t, text, tt.old)
		text = strings.Replace(text, tt.old, tt.new, 1)
		_, found := Media([]byte(text))
		if tt.want == "" {
			continue
		}
		require.True(t, contains(found, tt.want), "%q: %q is not in %v", tt.new, tt.want, found)
	}
	text := strings.Replace(playlist(1, 9, 2, 2), "CAN-SKIP-UNTIL=12.0,", "", 1)
	_, found := Media([]byte(text))
	require.True(t, contains(found, "says so by CAN-SKIP-UNTIL"), "%v", found)
	dates := regexp.MustCompile("#EXT-X-PROGRAM-DATE-TIME:.*\n")
	_, found = Media(dates.ReplaceAll([]byte(playlist(1, 9, 2, 0)), nil))
	require.True(t, contains(found, "has dates"), "%v", found)
}

func contains(found []error, text string) bool {
	for _, err := range found {
		if strings.Contains(err.Error(), text) && strings.Contains(err.Error(), "(bis ") {
			return true
		}
	}
	return false
}

func TestReloads(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var r Reloads
	for n := 5; n < 20; n++ {
		for parts := range 4 {
			first, skipped := max(0, n-10), 0
			if n > 8 && parts > 0 {
				skipped = n - first - 7
			}
			msn, part := n, parts-1
			if parts == 0 {
				msn-- // all of the one before
			}
			require.Empty(t, r.Asked(at, uint64(msn), part, []byte(playlist(first, n, parts, max(skipped, 0)))))
			at = at.Add(500 * time.Millisecond)
			if skipped > 0 {
				require.Len(t, r.Playlist().Segments, n-first+1)
			}
		}
	}
	require.EqualValues(t, 1, r.Playlist().Segments[0].DiscontinuitySequence)
}

func TestReloadsFind(t *testing.T) {
	base := playlist(0, 9, 2, 0)
	change := func(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }
	for _, tt := range []struct{ before, after, want string }{
		{base, change(playlist(0, 9, 3, 0), "TARGETDURATION:2", "TARGETDURATION:3", "12.0", "18.0", "HOLD-BACK=6", "HOLD-BACK=9"), "target duration does not change"},
		{base, change(playlist(0, 9, 3, 0), "PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.6"), "do not change"},
		{base, change(playlist(0, 9, 3, 0), "PART-TARGET=0.5", "PART-TARGET=0.51"), "do not change"},
		{playlist(1, 9, 2, 0), playlist(0, 9, 2, 0), "EXT-X-MEDIA-SEQUENCE does not decrease"},
		{change(playlist(1, 9, 2, 0), "#EXT-X-TARGET", "#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-TARGET"), playlist(2, 9, 2, 0), "loses no segments"},
		{change(playlist(4, 12, 2, 0)), change(playlist(4, 12, 2, 0), "DISCONTINUITY-SEQUENCE:1", "DISCONTINUITY-SEQUENCE:0"), "EXT-X-DISCONTINUITY-SEQUENCE does not decrease"},
		{playlist(0, 9, 3, 0), base, "only grows at its end"},
		{playlist(0, 9, 2, 0), playlist(0, 8, 3, 0), "only grows at its end"},
		{base, playlist(7, 9, 2, 0), "less than three target durations"},
		{base, change(playlist(0, 9, 3, 0), "s1.m4s", "x1.m4s"), "what is listed does not change"},
		{base, change(playlist(0, 9, 3, 0), "EXTINF:2.00000,\ns1", "EXTINF:1.90000,\ns1"), "what is listed does not change"},
		{base, change(playlist(0, 9, 3, 0), "03:04:07.000Z", "03:04:07.100Z"), "date"},
		{base, change(playlist(0, 9, 3, 0), "init.mp4", "other.mp4"), "what is listed does not change"},
		{base, change(playlist(0, 9, 3, 0), "k.key", "l.key"), "what is listed does not change"},
		{base, change(playlist(4, 9, 3, 0), "DISCONTINUITY-SEQUENCE:1", "DISCONTINUITY-SEQUENCE:0"), "what is listed does not change"},
		{base, change(playlist(0, 9, 3, 0), "p33.m4s", "x33.m4s"), "parts that are listed do not change"},
		{base, change(playlist(0, 9, 3, 0), "#EXT-X-PART:DURATION=0.50000,URI=\"p33.m4s\"\n", ""), "removed with all"},
		{change(base, "#EXT-X-PART:DURATION=0.50000,URI=\"p33.m4s\"\n", ""), base, "parts that are listed do not change"},
		{change(base, "#EXT-X-PART:DURATION=0.50000,URI=\"p35.m4s\"\n", ""), base, "gets no more parts"},
		{base, change(playlist(0, 9, 3, 0), "p38.m4s", "x38.m4s"), "URI that was hinted at"},
		{change(base, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p38.m4s\"\n", "#EXT-X-ENDLIST\n"), playlist(0, 9, 3, 0), "has ended does not change"},
		{base, playlist(0, 9, 3, 4), "only what is beyond the Skip Boundary"},
		{playlist(2, 9, 2, 0), change(playlist(1, 10, 3, 2)), "can be merged"},
	} {
		var r Reloads
		r.Add(time.Time{}, []byte(tt.before))
		found := r.Add(time.Time{}, []byte(tt.after))
		require.True(t, contains(found, tt.want), "%q is not in %v", tt.want, found)
	}
	var grows Reloads
	grows.Grows = true
	grows.Add(time.Time{}, []byte(base))
	require.Empty(t, grows.Add(time.Time{}, []byte(change(playlist(0, 9, 3, 0), "TARGETDURATION:2", "TARGETDURATION:3", "12.0", "18.0", "HOLD-BACK=6", "HOLD-BACK=9"))))

	var first Reloads
	require.True(t, contains(first.Add(time.Time{}, []byte(playlist(0, 9, 2, 2))), "can be merged"))
	require.True(t, contains(first.Add(time.Time{}, []byte("junk")), "begins with"))
}

func TestAskedFinds(t *testing.T) {
	for _, tt := range []struct {
		msn   uint64
		part  int
		parts int // of segment 9
		ok    bool
	}{
		{8, -1, 2, true}, {9, -1, 2, false}, {9, 1, 2, true}, {9, 2, 2, false}, {8, 3, 0, true},
		{8, 4, 0, false}, {8, 4, 1, true}, {10, 0, 2, false}, {0, 99, 2, true},
	} {
		var r Reloads
		found := r.Asked(time.Time{}, tt.msn, tt.part, []byte(playlist(0, 9, tt.parts, 0)))
		require.Equal(t, !tt.ok, contains(found, "waits for what was asked for"), "%+v: %v", tt, found)
	}
}

func TestTimes(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var r Reloads
	require.Empty(t, r.Add(at, []byte(playlist(0, 9, 1, 0))))
	require.Empty(t, r.Add(at.Add(900*time.Millisecond), []byte(playlist(0, 9, 2, 0))))
	require.True(t, contains(r.Add(at.Add(2*time.Second), []byte(playlist(0, 9, 3, 0))), "a new part within"))
	require.True(t, contains(r.Add(at.Add(4*time.Second), []byte(playlist(0, 10, 0, 0))), "a new segment within"))
}

func TestSiblings(t *testing.T) {
	a, _ := Media([]byte(playlist(0, 9, 2, 0)))
	b, _ := Media([]byte(playlist(1, 9, 1, 0)))
	require.Empty(t, Siblings(a, b))
	require.Empty(t, Siblings(a))
	require.Empty(t, Siblings())
	c, _ := Media([]byte(strings.Replace(playlist(0, 9, 2, 0), "TARGETDURATION:2", "TARGETDURATION:1", 1)))
	require.True(t, contains(Siblings(a, c), "same target duration"))
	c, _ = Media([]byte(strings.Replace(playlist(0, 9, 2, 0), "PART-HOLD-BACK=1.5", "PART-HOLD-BACK=2.5", 1)))
	require.True(t, contains(Siblings(a, c), "same EXT-X-SERVER-CONTROL"))
	c, _ = Media([]byte(strings.Replace(playlist(0, 9, 2, 0), "#EXT-X-DISCONTINUITY\n", "", 1)))
	require.True(t, contains(Siblings(a, c), "matching Discontinuity Sequence"))
}

func TestMultivariant(t *testing.T) {
	const good = `#EXTM3U
#EXT-X-VERSION:6
#EXT-X-INDEPENDENT-SEGMENTS
# a comment
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="English",DEFAULT=YES,AUTOSELECT=YES,URI="a.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Norsk",AUTOSELECT=YES,URI="n.m3u8"

#EXT-X-STREAM-INF:BANDWIDTH=1000,AVERAGE-BANDWIDTH=900,CODECS="avc1.4d400c,mp4a.40.2",RESOLUTION=320x180,FRAME-RATE=25.000,AUDIO="audio"
v.m3u8
`
	variants, media, found := Multivariant([]byte(good))
	require.Empty(t, found)
	require.Len(t, media, 2)
	require.Equal(t, "v.m3u8", variants[0].URI)
	require.Equal(t, "avc1.4d400c,mp4a.40.2", variants[0].Attributes["CODECS"])
	for _, tt := range []struct{ old, new, want string }{
		{"#EXTM3U", "", "begins with"},
		{"BANDWIDTH=1000,AVERAGE-", "AVERAGE-", "BANDWIDTH is required"},
		{"AVERAGE-BANDWIDTH=900", "AVERAGE-BANDWIDTH=1001", "at most BANDWIDTH"},
		{",CODECS=\"avc1.4d400c,mp4a.40.2\"", "", "CODECS should"},
		{"320x180", "320", "two integers"},
		{"25.000", "25.0001", "three decimals"},
		{"AUDIO=\"audio\"", "AUDIO=\"other\"", "group exists"},
		{"Norsk", "English", "different names"},
		{"NAME=\"Norsk\"", "NAME=\"Norsk\",DEFAULT=YES", "one default"},
		{"AUTOSELECT=YES,URI=\"a", "AUTOSELECT=NO,URI=\"a", "selected automatically"},
		{"GROUP-ID=\"audio\",NAME=\"E", "NAME=\"E", "GROUP-ID is required"},
		{"TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"E", "TYPE=SOUND,GROUP-ID=\"audio\",NAME=\"E", "TYPE is required"},
		{"v.m3u8\n", "", "there is a variant"},
		{"v.m3u8\n", "#EXT-X-VERSION:6\nv.m3u8\n", "the URI follows"},
		{"v.m3u8\n", "v.m3u8\nw.m3u8\n", "a URI follows"},
		{"#EXT-X-VERSION:6\n", "#EXT-X-VERSION:6\n#EXT-X-VERSION:6\n", "comes once"},
		{"#EXT-X-VERSION:6\n", "#EXT-X-TARGETDURATION:6\n", "no media playlist tags"},
		{"BANDWIDTH=1000", "BANDWIDTH=", "syntax"},
	} {
		require.Contains(t, good, tt.old)
		_, _, found := Multivariant([]byte(strings.Replace(good, tt.old, tt.new, 1)))
		require.True(t, contains(found, tt.want), "%q is not in %v", tt.want, found)
	}
}

// What a broken server sends does not break the check.
func FuzzMedia(f *testing.F) {
	f.Add([]byte(playlist(0, 9, 2, 0)), []byte(playlist(1, 10, 1, 2)))
	f.Add([]byte("#EXTM3U\n"), []byte(""))
	f.Fuzz(func(_ *testing.T, a, b []byte) {
		var r Reloads
		r.Add(time.Time{}, a)
		r.Asked(time.Unix(1, 0), 3, 1, b)
		r.Add(time.Unix(2, 0), a)
		Multivariant(a)
		if r.Playlist() != nil {
			Siblings(r.Playlist(), r.Playlist())
		}
	})
}
