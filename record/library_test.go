package record

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// shelf returns a Dir with recordings of three streams: h of one hour each, n in a
// row from 2026-01-01 on, with four bytes.
func shelf(t *testing.T, n int) *Dir {
	t.Helper()
	d := &Dir{Path: t.TempDir()}
	t.Cleanup(func() { d.Close() })
	for _, name := range []string{"live/a", "live/b", "other"} {
		for i := range n {
			start := time.Date(2026, 1, 1, i, 0, 0, 0, time.UTC)
			info := &Info{Name: fmt.Sprintf("%s/%02d.mp4", name, i), Stream: name, Start: start, Duration: time.Hour}
			f, err := store(t.Context(), d, info.Name, func(w io.Writer) error { _, err := io.WriteString(w, "four"); return err })
			require.NoError(t, err)
			require.NoError(t, writeManifest(t.Context(), d, nil, info, []FileInfo{f}))
		}
	}
	return d
}

func names(list []*Info) (names []string) {
	for _, i := range list {
		names = append(names, i.Name)
	}
	return names
}

func TestLibraryList(t *testing.T) {
	l := &Library{Storage: shelf(t, 3), Log: silent}
	at := func(hour, minute int) time.Time { return time.Date(2026, 1, 1, hour, minute, 0, 0, time.UTC) }
	for _, tt := range []struct {
		q    Query
		want string
	}{
		{Query{}, "live/a/02.mp4 live/b/02.mp4 other/02.mp4 live/a/01.mp4 live/b/01.mp4 other/01.mp4 live/a/00.mp4 live/b/00.mp4 other/00.mp4"},
		{Query{Stream: "live/b"}, "live/b/02.mp4 live/b/01.mp4 live/b/00.mp4"},
		{Query{Prefix: "live/", Limit: 3}, "live/a/02.mp4 live/b/02.mp4 live/a/01.mp4"},
		{Query{Stream: "other", From: at(1, 30)}, "other/02.mp4 other/01.mp4"},
		{Query{Stream: "other", To: at(1, 0)}, "other/00.mp4"},
		{Query{Stream: "other", From: at(1, 10), To: at(1, 20)}, "other/01.mp4"},
		{Query{Stream: "none"}, ""},
	} {
		for range 2 { // the second from memory
			list, err := l.List(t.Context(), tt.q)
			require.NoError(t, err)
			require.Equal(t, tt.want, strings.Join(names(list), " "))
		}
	}
}

func TestRetain(t *testing.T) {
	for _, tt := range []struct {
		keep Retention
		want string // of live/a
	}{
		{Retention{}, "live/a/02.mp4 live/a/01.mp4 live/a/00.mp4"},
		{Retention{Count: 2}, "live/a/02.mp4 live/a/01.mp4"},
		{Retention{Age: time.Since(time.Date(2026, 1, 1, 1, 30, 0, 0, time.UTC))}, "live/a/02.mp4 live/a/01.mp4"},
		{Retention{Bytes: 4 * 4}, "live/a/02.mp4 live/a/01.mp4"},
		{Retention{Bytes: 1}, ""},
	} {
		l := &Library{Storage: shelf(t, 3), Log: silent}
		deleted, err := l.Retain(t.Context(), tt.keep)
		require.NoError(t, err)
		all, err := l.List(t.Context(), Query{})
		require.NoError(t, err)
		require.Equal(t, 9-len(all), deleted)
		list, err := l.List(t.Context(), Query{Stream: "live/a"})
		require.NoError(t, err)
		require.Equal(t, tt.want, strings.Join(names(list), " "))
		n := 0
		for range l.Storage.List(t.Context(), "") {
			n++
		}
		require.Equal(t, 2*len(all), n, "files and manifests go together")
	}
}

func TestDeleteAudit(t *testing.T) {
	var deletions []Deletion
	refuse := errors.New("legal hold")
	l := &Library{Storage: shelf(t, 1), Log: silent, Audit: func(_ context.Context, d Deletion) error {
		if d.Info.Stream == "live/b" {
			return refuse
		}
		deletions = append(deletions, d)
		return nil
	}}
	require.NoError(t, l.Delete(t.Context(), "live/a/00.mp4", "ann", "asked for"))
	require.ErrorIs(t, l.Delete(t.Context(), "live/b/00.mp4", "ann", ""), refuse)
	require.ErrorIs(t, l.Delete(t.Context(), "live/a/00.mp4", "ann", ""), fs.ErrNotExist)
	require.Len(t, deletions, 1)
	require.Equal(t, "ann", deletions[0].By)
	require.Equal(t, "asked for", deletions[0].Reason)

	// A manifest that names what is not its own deletes only what is.
	evil := Info{Name: "live/evil.mp4", Stream: "live/evil", Files: []FileInfo{{Name: "other/00.mp4"}, {Name: "../../x"}}}
	require.NoError(t, writeManifest(t.Context(), l.Storage, nil, &evil, evil.Files))
	require.NoError(t, l.Delete(t.Context(), "live/evil.mp4", "ann", ""))
	_, err := Verify(t.Context(), l.Storage, "other/00.mp4")
	require.NoError(t, err)
}

func TestVerify(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	other, _, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	inBed(t, func(r *Recorder) { r.Signer, r.Name = &Signer{"k1", private}, "live/a" }, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{}
		b.publish("live/a", p.Tracks(), until(p.Frames(-1), 2*sec))
		verify := func(keys ...ed25519.PublicKey) error {
			_, err := Verify(t.Context(), b.Storage, "live/a.mp4", keys...)
			return err
		}
		require.NoError(t, verify())
		require.NoError(t, verify(other, public))
		require.ErrorIs(t, verify(other), ErrTampered)

		manifest := filepath.Join(b.path, "live/a.mp4.json")
		good, err := os.ReadFile(manifest)
		require.NoError(t, err)
		require.Contains(t, string(good), `"signed": "k1"`)
		require.NoError(t, os.WriteFile(manifest, bytes.Replace(good, []byte(`"stream": "live/a"`), []byte(`"stream": "live/b"`), 1), 0o600))
		require.NoError(t, verify(), "the hashes hold")
		require.ErrorIs(t, verify(public), ErrTampered)
		require.NoError(t, os.WriteFile(manifest, good, 0o600))

		file := filepath.Join(b.path, "live/a.mp4")
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		content[len(content)/2] ^= 1
		require.NoError(t, os.WriteFile(file, content, 0o600))
		require.ErrorIs(t, verify(), ErrTampered)
		require.NoError(t, os.Remove(file))
		require.ErrorIs(t, verify(public), fs.ErrNotExist)
	})
}

// fetch asks a Handler.
func fetch(h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHandler(t *testing.T) {
	l := &Library{Storage: shelf(t, 2), Log: silent}
	var asked []*auth.Request
	h := &Handler{Library: l, Key: []byte("0123456789abcdef0123456789abcdef"), Auth: auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		asked = append(asked, r)
		if r.Token == "admin" || r.Token == "viewer" && r.Action == auth.Play && r.Stream == "live/a" {
			return &auth.Grant{User: r.Token}, nil
		}
		return nil, auth.ErrDenied
	})}
	valid := h.Sign("live/a/00.mp4", time.Now().Add(time.Minute))
	expired := h.Sign("live/a/00.mp4", time.Now().Add(-time.Second))
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/live/a/00.mp4", 403},
		{"GET", "/live/a/00.mp4?token=viewer", 200},
		{"HEAD", "/live/a/00.mp4?token=viewer", 200},
		{"GET", "/live/b/00.mp4?token=viewer", 403},
		{"GET", "/live/none.mp4?token=admin", 404},
		{"GET", "/live/none.mp4", 403},
		{"GET", "/live/a/00.mp4?" + valid, 200},
		{"GET", "/live/a/00.mp4.json?" + valid, 200},
		{"GET", "/live/a/01.mp4?" + valid, 403},
		{"GET", "/live/a/00.mp4?" + expired, 403},
		{"GET", "/live/a/00.mp4?" + strings.Replace(valid, "expires=", "expires=9", 1), 403},
		{"GET", "/live/a/00.mp4?expires=1&signature=x", 403},
		{"GET", "/../../etc/passwd?token=admin", 404},
		{"GET", "/live/a/../a/00.mp4?token=admin", 404},
		{"GET", "/.incoming/x?token=admin", 404},
		{"GET", "/", 403},
		{"GET", "/?token=viewer", 403},
		{"GET", "/?token=admin", 200},
		{"GET", "/?token=admin&from=yesterday", 400},
		{"GET", "/?token=admin&limit=-1", 400},
		{"DELETE", "/live/a/01.mp4?token=viewer", 403},
		{"DELETE", "/live/a/01.mp4?" + valid, 403},
		{"DELETE", "/live/a/01.mp4?token=admin", 204},
		{"DELETE", "/live/a/01.mp4?token=admin", 404},
		{"POST", "/live/a/00.mp4?token=admin", 405},
		{"GET", "/live/a/00.mp4/_hls/index.m3u8?token=admin", 500}, // four bytes are no MP4
	} {
		require.Equal(t, tt.want, fetch(h, tt.method, tt.path).Code, "%s %s", tt.method, tt.path)
	}
	require.Equal(t, "record", asked[0].Protocol)

	w := fetch(h, "GET", "/live/a/00.mp4?"+valid, "Range", "bytes=1-2")
	require.Equal(t, 206, w.Code)
	require.Equal(t, "ou", w.Body.String())
	require.Equal(t, "video/mp4", w.Header().Get("Content-Type"))

	var doc struct{ Recordings []*Info }
	w = fetch(h, "GET", "/?stream=live/b&to=2026-01-01T00:30:00Z", "Authorization", "Bearer admin")
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &doc))
	require.Equal(t, []string{"live/b/00.mp4"}, names(doc.Recordings))

	require.Equal(t, 403, fetch(&Handler{Library: l}, "GET", "/live/a/00.mp4").Code, "without Auth and Key nothing is served")
}

// A recording plays as HLS, from the same file, with the same packets.
func TestVOD(t *testing.T) {
	var path string
	dir := t.TempDir()
	inBed(t, func(r *Recorder) { r.Storage, r.Name = &Dir{Path: dir}, "live/a" }, func(t *testing.T, b *bed) {
		src := &streamtest.Source{BFrames: true, Duration: 15 * sec}
		b.publish("live/a", src.Tracks(), src.Frames())
		path = filepath.Join(dir, "live/a.mp4")
	})
	d := &Dir{Path: dir}
	defer d.Close()
	h := &Handler{Library: &Library{Storage: d, Log: silent}, Key: []byte("secret")}
	server := httptest.NewServer(h)
	defer server.Close()
	query := "?" + h.Sign("live/a.mp4", time.Now().Add(time.Minute))
	w := fetch(h, "GET", "/live/a.mp4/_hls/index.m3u8"+query)
	require.Equal(t, 200, w.Code)
	text := w.Body.String()
	require.Equal(t, 4, strings.Count(text, ".m4s?"), text)
	_, length := playlistTimes([]byte(text))
	require.InDelta(t, 15*sec, length, float64(100*time.Millisecond))

	// All samples are in the segments, in order.
	x := scanFile(t, path)
	var file bytes.Buffer
	file.Write(fetch(h, "GET", "/live/a.mp4/_hls/init.mp4"+query).Body.Bytes())
	for n := range 4 {
		file.Write(fetch(h, "GET", fmt.Sprintf("/live/a.mp4/_hls/%d.m4s%s", n, query)).Body.Bytes())
	}
	y, err := scanMP4(bytes.NewReader(file.Bytes()), int64(file.Len()))
	require.NoError(t, err)
	require.False(t, y.plain)
	for i, want := range x.tracks {
		got := y.tracks[i]
		require.Equal(t, want.n, got.n)
		require.Equal(t, want.keys, got.keys)
		require.Equal(t, want.bytes, got.bytes)
		next, shift := got.reader(), got.first-want.first
		for s := range want.samples() {
			g, _ := next.next()
			require.Equal(t, s.size, g.size)
			require.InDelta(t, s.pts+shift, g.pts, 1)
		}
	}
	for _, bad := range []string{"4.m4s", "-1.m4s", "x.m4s", "init.mp3", "../a.mp4", ""} {
		require.Equal(t, 404, fetch(h, "GET", "/live/a.mp4/_hls/"+bad+query).Code, bad)
	}
	if _, err := exec.LookPath("ffprobe"); err != nil {
		return
	}
	want, got := packets(t, path), packets(t, server.URL+"/live/a.mp4/_hls/index.m3u8"+query)
	for kind := range want {
		require.Equal(t, len(want[kind]), len(got[kind]))
		for i := range want[kind] {
			require.Equal(t, want[kind][i].hash, got[kind][i].hash)
		}
	}
}

func TestWithQuery(t *testing.T) {
	require.Equal(t, "#EXTM3U\n#EXT-X-MAP:URI=\"vi0.mp4?q\"\nv0.m4s?q\n\n", withQuery("#EXTM3U\n#EXT-X-MAP:URI=\"vi0.mp4\"\nv0.m4s\n\n", "?q"))
}

func TestTemplate(t *testing.T) {
	start := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, tt := range []struct{ template, stream, want string }{
		{"{app}/{name}/{start:2006-01-02T15-04-05}", "live/cam", "live/cam/2026-03-04T05-06-07"},
		{"{app}/{name}/{start:2006/01/02/15:04}", "a/b/cam", "a/b/cam/2026/03/04/05-06"},
		{"{app}/{name}", "cam", "cam"},
		{"{stream}-{segment:4}-{session}", "live/cam", "live/cam-0012-xyz"},
		{"{name}.{unix}", "live/cam", "cam.1772600767000"},
		{"/{stream}//x/", "live/cam", "live/cam/x"},
		{"x/{name}", "live/../../etc", ""}, // the hub takes no such name
		{"{stream}", "..", ""},
		{"{stream}", "/etc/passwd", "etc/passwd"},
		{"{name}", "a/_b", ""},
		{"{name}", "a/b\x00c", ""},
	} {
		parsed, err := parseTemplate(tt.template)
		require.NoError(t, err)
		name, err := parsed.expand(&Info{Stream: tt.stream, Start: start, Segment: 12, Session: "xyz"}, time.UTC)
		if tt.want == "" && err != nil {
			require.ErrorIs(t, err, stream.ErrName)
			continue
		}
		require.NoError(t, err)
		require.NoError(t, stream.CheckStorageName(name))
		if tt.want != "" {
			require.Equal(t, tt.want, name)
		}
	}
	for _, bad := range []string{"", "{", "}", "{x}", "{stream:x}", "../{name}", "{name}/../..", "{name}/.x", "a*{name}", "{start:_2}/"} {
		_, err := parseTemplate(bad)
		require.Error(t, err, bad)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("{app}/{name}/{start:2006-01-02T15-04-05}", "live/cam")
	f.Add("{stream}{segment:3}", "../..")
	f.Fuzz(func(t *testing.T, text, name string) {
		parsed, err := parseTemplate(text)
		if err != nil {
			return
		}
		path, err := parsed.expand(&Info{Stream: name}, time.UTC)
		if err == nil && (stream.CheckStorageName(path) != nil || strings.Contains("/"+path+"/", "/../") || path[0] == '/') {
			t.Fatalf("%q", path)
		}
	})
}

func TestPattern(t *testing.T) {
	match, err := Pattern("live/*", "deep/**", "one")
	require.NoError(t, err)
	for name, want := range map[string]bool{
		"live/a": true, "live": false, "live/a/b": false, "deep/a/b": true, "deep": false, "one": true, "two": false, "xdeep/a": false,
	} {
		require.Equal(t, want, match(name), name)
	}
	all, err := Pattern("**")
	require.NoError(t, err)
	require.True(t, all("a") && all("a/b/c"))
	_, err = Pattern("[")
	require.Error(t, err)
}

// TestKeep: a Recorder deletes what is too old, and says so to Audit.
func TestKeep(t *testing.T) {
	var deleted []Deletion // of the Recorder's goroutine
	configure := func(r *Recorder) {
		r.Keep = Retention{Age: time.Hour}
		r.Audit = func(_ context.Context, d Deletion) error {
			deleted = append(deleted, d)
			return nil
		}
	}
	inBed(t, configure, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{}
		b.publish("live/cam", p.Tracks(), until(p.Frames(-1), 3*sec))
		time.Sleep(50 * time.Minute)
		require.Len(t, b.list(), 1)
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		require.Empty(t, b.list())
		require.Len(t, deleted, 1)
		require.Equal(t, "retention", deleted[0].By)
		require.Equal(t, "age", deleted[0].Reason)
		require.Equal(t, "live/cam", deleted[0].Info.Stream)
	})
}
