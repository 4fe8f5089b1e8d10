package srsapi

import (
	"log/slog"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// TestSystem: the figures have SRS's names, and on Linux are not zero.
func TestSystem(t *testing.T) {
	h := newHandler(&stream.Hub{})
	list := func(words ...string) string { return strings.Join(words, ",") }
	usage := fields(t, get(t, h, "/api/v1/rusages")["data"], "ok,sample_time,ru_utime,ru_stime,ru_maxrss,ru_ixrss,ru_idrss,ru_isrss,"+
		"ru_minflt,ru_majflt,ru_nswap,ru_inblock,ru_oublock,ru_msgsnd,ru_msgrcv,ru_nsignals,ru_nvcsw,ru_nivcsw")
	self := fields(t, get(t, h, "/api/v1/self_proc_stats")["data"], list(append([]string{"ok", "sample_time", "percent", "pid", "comm", "state"}, statFields...)...))
	system := fields(t, get(t, h, "/api/v1/system_proc_stats")["data"], list(append([]string{"ok", "sample_time", "percent"}, cpuFields...)...))
	memory := fields(t, get(t, h, "/api/v1/meminfos")["data"], "ok,sample_time,percent_ram,percent_swap,MemActive,RealInUse,NotInUse,"+
		"MemTotal,MemFree,Buffers,Cached,SwapTotal,SwapFree")
	fields(t, get(t, h, "/api/v1/authors")["data"], "license,contributors")
	if runtime.GOOS != "linux" {
		return
	}
	for _, f := range []map[string]any{usage, self, system, memory} {
		require.Equal(t, true, f["ok"])
	}
	require.Positive(t, usage["ru_maxrss"])
	require.Positive(t, self["num_threads"])
	require.Zero(t, self["startcode"], "where the memory is nobody is told")
	require.Positive(t, system["user"])
	require.Positive(t, memory["MemTotal"])
}

func TestParseProc(t *testing.T) {
	f := parseSelfStat([]byte("12 (a) b (c)) S 1 2 x 4"))
	require.Equal(t, "(a) b (c))", f["comm"])
	require.Equal(t, "S", f["state"])
	require.EqualValues(t, 1, f["ppid"])
	require.EqualValues(t, 0, f["session"])
	require.EqualValues(t, 4, f["tty_nr"])
	for _, bad := range []string{"", "12", ")(", "12 (a"} {
		require.Equal(t, false, parseSelfStat([]byte(bad))["ok"], bad)
	}
	f = parseSystemStat([]byte("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 9\n"))
	require.EqualValues(t, 9, f["guest"])
	require.Equal(t, false, parseSystemStat([]byte("cpu"))["ok"])
	f = parseMemInfos([]byte("MemTotal: 100 kB\nMemFree: 20 kB\nBuffers: 5 kB\nCached: 25 kB\nSwapTotal: 0 kB\nnoise\nx:\n"), true)
	require.EqualValues(t, 0.5, f["percent_ram"])
	require.EqualValues(t, 50, f["RealInUse"])
	require.Equal(t, false, parseMemInfos(nil, true)["ok"])
}

// TestOther: the request comes back without its secrets, settings are not changed,
// and nobody is sent elsewhere.
func TestOther(t *testing.T) {
	h := newHandler(&stream.Hub{})
	for _, path := range []string{"/api/v1/requests", "/api/v1/tests/requests"} {
		w := ask(h, "GET", path+"?token=secret", "X-Name", "value", "Authorization", "Bearer secret", "Cookie", "id=secret")
		require.Contains(t, w.Body.String(), `"X-Name":"value"`)
		require.NotContains(t, w.Body.String(), "secret")
	}
	require.Contains(t, get(t, h, "/api/v1/raw?rpc=raw")["http_api"], "raw_api")
	require.Equal(t, map[string]any{"code": 1061.0}, get(t, h, "/api/v1/raw?rpc=reload"))
	data := get(t, h, "/api/v1/clusters?vhost=v&app=live&stream=a&ip=192.0.2.1")["data"].(map[string]any)
	require.Equal(t, map[string]any{"ip": "192.0.2.1", "vhost": "v", "app": "live", "stream": "a"}, data["query"])
	require.Nil(t, data["origin"])
}

// TestVHosts: streams are those of the virtual host that their peers named, or whose
// name is known; "example.org/live" may be an app as well.
func TestVHosts(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	publish := func(key, vhost, app, name string) {
		s := hub.OpenSession(stream.SessionInfo{
			Role: stream.RolePublish, Protocol: "rtmp", Stream: key, VHost: vhost, App: app, Name: name,
			TCURL: "rtmp://h/live?token=secret", PageURL: "http://h/?secret",
		}, nil)
		_, err := hub.Publish(t.Context(), key, &stream.PublishOptions{Session: s})
		require.NoError(t, err)
	}
	publish("example.com/live/a", "example.com", "live", "a")
	publish("example.org/live/a", "", "example.org/live", "a")
	_, err := hub.Publish(t.Context(), "known.example/live/a", nil)
	require.NoError(t, err)
	h := newHandler(hub)
	h.VHosts, h.Fragment = []string{"known.example", "empty.example"}, 10*time.Second

	byName := map[string]map[string]any{}
	var names []string
	for _, v := range get(t, h, "/api/v1/vhosts")["vhosts"].([]any) {
		v := v.(map[string]any)
		names = append(names, v["name"].(string))
		byName[v["name"].(string)] = v
	}
	require.Equal(t, []string{"__defaultVhost__", "empty.example", "example.com", "known.example"}, names)
	require.EqualValues(t, 1, byName["__defaultVhost__"]["streams"])
	require.EqualValues(t, 0, byName["empty.example"]["streams"])
	require.EqualValues(t, 1, byName["example.com"]["clients"])
	require.EqualValues(t, 10, byName["example.com"]["hls"].(map[string]any)["fragment"])
	one := get(t, h, "/api/v1/vhosts/"+byName["example.com"]["id"].(string))["vhost"].(map[string]any)
	require.Equal(t, "example.com", one["name"])

	urls := map[string]any{}
	for _, s := range get(t, h, "/api/v1/streams")["streams"].([]any) {
		s := s.(map[string]any)
		urls[s["url"].(string)] = s["vhost"]
		require.Equal(t, s["url"], get(t, h, "/api/v1/streams/"+s["id"].(string))["stream"].(map[string]any)["url"])
	}
	require.Equal(t, map[string]any{
		"example.com/live/a": byName["example.com"]["id"], "/example.org/live/a": byName["__defaultVhost__"]["id"],
		"known.example/live/a": byName["known.example"]["id"],
	}, urls)
	w := ask(h, "GET", "/api/v1/clients")
	require.Contains(t, w.Body.String(), `"tcUrl":"rtmp://h/live"`)
	require.NotContains(t, w.Body.String(), "secret")
}

// TestBasicPassword: a user and a password, as SRS's http_api.auth.
func TestBasicPassword(t *testing.T) {
	h := &Handler{Hub: &stream.Hub{}, Gate: &access.Gate{Auth: Basic("admin", "a:b"), Basic: true, Log: slog.New(slog.DiscardHandler)}}
	for _, c := range []struct {
		user, password string
		status         int
	}{{"admin", "a:b", 200}, {"admin", "a", 401}, {"admin", "", 401}, {"", "a:b", 401}, {"other", "a:b", 401}} {
		r := httptest.NewRequest("GET", "/api/v1/versions", nil)
		r.SetBasicAuth(c.user, c.password)
		require.Equal(t, c.status, ask(h, "GET", "/api/v1/versions", "Authorization", r.Header.Get("Authorization")).Code, c)
	}
	_, err := Basic("", "").Authorize(t.Context(), &auth.Request{Action: auth.Admin})
	require.ErrorIs(t, err, auth.ErrDenied)
	_, err = Basic("u", "p").Authorize(t.Context(), &auth.Request{Action: auth.Play, User: "u", Password: "p"})
	require.ErrorIs(t, err, auth.ErrDenied)
}
