package rest

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
)

func ask(h http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host, r.RemoteAddr = "localhost", "127.0.0.1:4000"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestNames: a name has slashes, and what follows it in a route is not its part.
func TestNames(t *testing.T) {
	say := func(what string) func(*Call) {
		return func(c *Call) { c.Answer(what + " " + c.R.PathValue("name")) }
	}
	s := &Server{Gate: &access.Gate{Log: slog.New(slog.DiscardHandler)}, Routes: []Route{
		{"GET", "/x/{name}", access.Viewer, say("one")},
		{"DELETE", "/x/{name}", access.Viewer, say("deleted")},
		{"GET", "/x/{name}/y", access.Viewer, say("y of")},
		{"GET", "/x/{name}/z/y", access.Viewer, say("z of")},
	}}
	for target, want := range map[string]string{
		"/x/a": "one a", "/x/a/b": "one a/b", "/x/a/y": "y of a", "/x/a/b/y": "y of a/b", "/x/a/z/y": "z of a", "/x/y": "one y",
		"/x/z/y": "y of z", "/x/a%2Fy": "y of a",
	} {
		var got string
		require.NoError(t, json.Unmarshal(ask(s, "GET", target).Body.Bytes(), &got))
		require.Equal(t, want, got, target)
	}
	require.Equal(t, 200, ask(s, "DELETE", "/x/a").Code)
	w := ask(s, "DELETE", "/x/a/y")
	require.Equal(t, 405, w.Code)
	require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
	for _, target := range []string{"/", "/x", "/x//a", "/x/a/", "/x/../x/a"} {
		require.Equal(t, 404, ask(s, "GET", target).Code, target)
	}
}

// TestLocal: without a Gate this machine alone is let in.
func TestLocal(t *testing.T) {
	s := &Server{Routes: []Route{{"GET", "/x", access.Admin, func(c *Call) { c.Done() }}}}
	require.Equal(t, 204, ask(s, "GET", "/x").Code)
	require.Equal(t, 403, ask(s, "GET", "/x", "Forwarded", "for=127.0.0.1").Code)
}

func TestDecode(t *testing.T) {
	for text, says := range map[string]string{
		`{"a": 1}`: "", `{"a": 1} `: "", `{"a": 1}{}`: "more than one", `{"a": 1} x`: "invalid", `{"b": 1}`: "unknown field", `{"a": "x"}`: "cannot unmarshal", ``: "EOF",
	} {
		var v struct{ A int }
		err := Decode(strings.NewReader(text), &v)
		if says == "" {
			require.NoError(t, err, text)
			continue
		}
		require.ErrorContains(t, err, says, text)
	}
	require.ErrorIs(t, Decode(strings.NewReader(`{"a"`), &struct{ A int }{}), io.ErrUnexpectedEOF)
}

func TestPage(t *testing.T) {
	list := []string{"a", "b", "c"}
	same := func(s string) string { return s }
	for _, c := range []struct {
		after string
		limit int
		want  []string
		next  string
	}{
		{"", 2, []string{"a", "b"}, "b"}, {"b", 2, []string{"c"}, ""}, {"aa", 1, []string{"b"}, "b"}, {"", 3, list, ""}, {"c", 1, []string{}, ""}, {"z", 1, []string{}, ""},
	} {
		page, next := Page(list, same, c.after, c.limit)
		require.Equal(t, c.want, page)
		require.Equal(t, c.next, next)
	}
	page, next := Page(nil, same, "x", 1)
	require.Empty(t, page)
	require.Empty(t, next)
}

func TestMerge(t *testing.T) {
	const first = `{"openapi": "3.1.0", "info": {"title": "a", "version": "1"}, "tags": [{"name": "a"}], "paths": {"/a": {}}, "components": {"schemas": {"X": {"type": "null"}}}}`
	const second = `{"info": {"title": "b"}, "tags": [{"name": "b"}], "paths": {"/b": {}}, "components": {"schemas": {"X": {"type": "null"}, "Y": {}}, "responses": {"Z": {}}}}`
	text, err := Merge("both", Part{Text: []byte(first)}, Part{Prefix: "/t", Text: []byte(second)})
	require.NoError(t, err)
	require.JSONEq(t, `{"openapi": "3.1.0", "info": {"title": "both", "version": "1"}, "servers": null, "security": null, "tags": [{"name": "a"}, {"name": "b"}],
		"paths": {"/a": {}, "/t/b": {}}, "components": {"schemas": {"X": {"type": "null"}, "Y": {}}, "responses": {"Z": {}}}}`, string(text))
	_, err = Merge("twice", Part{Text: []byte(first)}, Part{Text: []byte(first)})
	require.ErrorContains(t, err, "/a")
	_, err = Merge("other", Part{Text: []byte(first)}, Part{Text: []byte(strings.Replace(second, "null", "object", 1))})
	require.ErrorContains(t, err, "X")
	_, err = Merge("none", Part{Text: []byte("{")})
	require.Error(t, err)
}
