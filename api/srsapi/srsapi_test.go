package srsapi

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func newHandler(hub *stream.Hub) *Handler {
	return &Handler{Hub: hub, ServerID: "vid-test", Gate: &access.Gate{Log: slog.New(slog.DiscardHandler)}}
}

func ask(h http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host, r.RemoteAddr = "localhost:1985", "127.0.0.1:4000"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// get asks and checks the envelope.
func get(t *testing.T, h http.Handler, target string) map[string]any {
	t.Helper()
	w := ask(h, "GET", target)
	require.Equal(t, 200, w.Code, w.Body)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var v map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	if v["code"] == 0.0 {
		require.Equal(t, "vid-test", v["server"])
		require.Len(t, v["service"], 8)
		require.Equal(t, strconv.Itoa(os.Getpid()), v["pid"])
	}
	return v
}

// fields checks that an object has these fields and no others.
func fields(t *testing.T, v any, names string) map[string]any {
	t.Helper()
	m := v.(map[string]any)
	var got []string
	for name := range m {
		got = append(got, name)
	}
	require.ElementsMatch(t, strings.FieldsFunc(names, func(r rune) bool { return r == ',' }), got)
	return m
}

// TestShapes: the fields are SRS's, name by name.
func TestShapes(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	publisher := hub.OpenSession(stream.SessionInfo{
		Role: stream.RolePublish, Protocol: "rtmp", Stream: "live/cam", Remote: netip.MustParseAddrPort("192.0.2.1:5"),
	}, nil)
	publisher.AddIn(1000)
	require.NoError(t, publishPattern(t, hub, publisher))
	player := hub.OpenSession(stream.SessionInfo{
		Role: stream.RolePlay, Protocol: "hls", Stream: "live/cam", Remote: netip.MustParseAddrPort("[::ffff:192.0.2.2]:5"),
	}, nil)
	player.AddOut(500)
	h := newHandler(hub)

	v := get(t, h, "/api/v1/versions")
	require.Equal(t, Compatible, fields(t, v["data"], "major,minor,revision,version")["version"])

	v = get(t, h, "/api/v1/summaries")
	data := fields(t, v["data"], "ok,now_ms,self,system")
	fields(t, data["self"], "version,pid,ppid,argv,cwd,mem_kbyte,mem_percent,cpu_percent,srs_uptime")
	system := fields(t, data["system"], "cpu_percent,disk_read_KBps,disk_write_KBps,disk_busy_percent,mem_ram_kbyte,mem_ram_percent,"+
		"mem_swap_kbyte,mem_swap_percent,cpus,cpus_online,uptime,ilde_time,load_1m,load_5m,load_15m,net_sample_time,net_recv_bytes,"+
		"net_send_bytes,net_recvi_bytes,net_sendi_bytes,srs_sample_time,srs_recv_bytes,srs_send_bytes,conn_sys,conn_sys_et,conn_sys_tw,"+
		"conn_sys_udp,conn_srs")
	require.EqualValues(t, 2, system["conn_srs"])
	require.EqualValues(t, 500, system["srs_send_bytes"])

	v = get(t, h, "/api/v1/features")
	require.Equal(t, true, v["data"].(map[string]any)["features"].(map[string]any)["hls"])

	v = get(t, h, "/api/v1/vhosts/")
	vhost := fields(t, v["vhosts"].([]any)[0], "id,name,enabled,clients,streams,send_bytes,recv_bytes,kbps,hls")
	require.Equal(t, "__defaultVhost__", vhost["name"])
	require.EqualValues(t, 2, vhost["clients"])
	require.Equal(t, vhost["id"], get(t, h, "/api/v1/vhosts/"+vhost["id"].(string))["vhost"].(map[string]any)["id"])
	require.EqualValues(t, vhostNotFound, get(t, h, "/api/v1/vhosts/vid-x")["code"])

	v = get(t, h, "/api/v1/streams")
	s := fields(t, v["streams"].([]any)[0], "id,name,vhost,app,tcUrl,url,live_ms,clients,frames,audio_frames,video_frames,"+
		"send_bytes,recv_bytes,kbps,publish,video,audio")
	require.Equal(t, "cam", s["name"])
	require.Equal(t, "live", s["app"])
	require.Equal(t, "/live/cam", s["url"])
	require.Equal(t, vhost["id"], s["vhost"])
	require.EqualValues(t, 2, s["clients"])
	require.Equal(t, publisher.ID(), fields(t, s["publish"], "active,cid")["cid"])
	require.Equal(t, "H264", fields(t, s["video"], "codec,profile,level,width,height")["codec"])
	require.Equal(t, "LC", fields(t, s["audio"], "codec,sample_rate,channel,profile")["profile"])
	fields(t, s["kbps"], "recv_30s,send_30s")
	require.Equal(t, s["id"], get(t, h, "/api/v1/streams/"+s["id"].(string))["stream"].(map[string]any)["id"])
	require.Equal(t, map[string]any{"code": 2048.0}, get(t, h, "/api/v1/streams/vid-x"))

	v = get(t, h, "/api/v1/clients/")
	require.Len(t, v["clients"], 2)
	c := fields(t, get(t, h, "/api/v1/clients/"+player.ID())["client"], "id,vhost,stream,ip,pageUrl,swfUrl,tcUrl,url,name,type,publish,"+
		"alive,send_bytes,recv_bytes,kbps")
	require.Equal(t, s["id"], c["stream"])
	require.Equal(t, "192.0.2.2", c["ip"])
	require.Equal(t, "hls-play", c["type"])
	require.Equal(t, map[string]any{"code": 2049.0}, get(t, h, "/api/v1/clients/x"))

	for _, path := range []string{"/api/", "/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/../../etc/passwd", "/api/v1/%3Cscript%3E"} {
		require.Contains(t, get(t, h, path)["urls"], "streams", path)
	}
}

func publishPattern(t *testing.T, hub *stream.Hub, session *stream.Session) error {
	p, err := hub.Publish(t.Context(), "live/cam", &stream.PublishOptions{Session: session})
	require.NoError(t, err)
	var pattern streamtest.Pattern
	require.NoError(t, p.SetTracks(pattern.Tracks()...))
	for f := range pattern.Frames(50) {
		if err := p.Write(f); err != nil {
			return err
		}
	}
	return nil
}

// TestEmpty: lists of nothing are lists.
func TestEmpty(t *testing.T) {
	h := newHandler(&stream.Hub{})
	require.Equal(t, []any{}, get(t, h, "/api/v1/streams/")["streams"])
	require.Equal(t, []any{}, get(t, h, "/api/v1/clients/")["clients"])
}

func TestPages(t *testing.T) {
	hub := &stream.Hub{}
	for i := range 25 {
		hub.OpenSession(stream.SessionInfo{ID: fmt.Sprintf("c%02d", i), Role: stream.RolePlay, Started: time.Unix(int64(1000+i), 0)}, nil)
	}
	h := newHandler(hub)
	for query, want := range map[string][2]int{
		"": {0, 10}, "?count=3": {0, 10}, "?count=15": {0, 15}, "?start=20": {20, 5}, "?start=5&count=12": {5, 12}, "?start=99": {0, 0},
		"?start=-1&count=-1": {0, 10}, "?start=x&count=99999999999999999999": {0, 25},
	} {
		list := get(t, h, "/api/v1/clients"+query)["clients"].([]any)
		require.Len(t, list, want[1], query)
		if want[1] > 0 {
			require.Equal(t, fmt.Sprintf("c%02d", want[0]), list[0].(map[string]any)["id"], query)
		}
	}
}

func TestKick(t *testing.T) {
	hub := &stream.Hub{}
	kicked := make(chan error, 1)
	s := hub.OpenSession(stream.SessionInfo{Role: stream.RolePlay, Protocol: "http-flv", Stream: "live/cam"}, func(err error) { kicked <- err })
	h := newHandler(hub)
	require.Equal(t, 403, ask(h, "DELETE", "/api/v1/clients/"+s.ID(), "Origin", "https://evil.example").Code)
	require.Equal(t, 403, ask(h, "DELETE", "/api/v1/clients/"+s.ID(), "X-Forwarded-For", "127.0.0.1").Code)
	require.Equal(t, 405, ask(h, "DELETE", "/api/v1/clients/").Code)
	require.Equal(t, 405, ask(h, "DELETE", "/api/v1/streams/x").Code)
	require.Equal(t, 415, ask(h, "POST", "/api/v1/clients/"+s.ID()).Code)
	require.Empty(t, kicked)
	w := ask(h, "DELETE", "/api/v1/clients/"+s.ID())
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), `{"code":0,"server":"vid-test"`)
	require.ErrorIs(t, <-kicked, stream.ErrKicked)
	require.JSONEq(t, `{"code":2049}`, ask(h, "DELETE", "/api/v1/clients/x").Body.String())
}

// TestBasic: the password is a token, and its role counts.
func TestBasic(t *testing.T) {
	token, err := access.ParseToken("viewer:0123456789abcdef")
	require.NoError(t, err)
	h := &Handler{Hub: &stream.Hub{}, Gate: &access.Gate{Auth: access.Tokens{token}, Basic: true, Log: slog.New(slog.DiscardHandler)}}
	w := ask(h, "GET", "/api/v1/versions")
	require.Equal(t, 401, w.Code)
	require.Contains(t, w.Header().Get("WWW-Authenticate"), "Basic")
	require.JSONEq(t, `{"code":401}`, w.Body.String())
	r := httptest.NewRequest("GET", "/api/v1/versions", nil)
	r.SetBasicAuth("anyone", "0123456789abcdef")
	basic := r.Header.Get("Authorization")
	require.Equal(t, 200, ask(h, "GET", "/api/v1/versions", "Authorization", basic).Code)
	require.Equal(t, 403, ask(h, "DELETE", "/api/v1/clients/x", "Authorization", basic).Code)
}

// TestSafety: no JSONP, no CORS, no markup, no arguments of the process, and
// bodies that nobody reads do not keep a connection.
func TestSafety(t *testing.T) {
	hub := &stream.Hub{}
	hub.OpenSession(stream.SessionInfo{Role: stream.RolePlay, Protocol: "<b>", Stream: "live/<script>"}, nil)
	h := newHandler(hub)
	h.bodyTime = 100 * time.Millisecond
	w := ask(h, "GET", "/api/v1/clients?callback=alert", "Origin", "https://evil.example")
	require.NotContains(t, w.Body.String(), "alert")
	require.NotContains(t, w.Body.String(), "<")
	require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
	argv := get(t, h, "/api/v1/summaries")["data"].(map[string]any)["self"].(map[string]any)["argv"]
	require.Equal(t, os.Args[0], argv)

	srv := httptest.NewServer(h)
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = fmt.Fprint(c, "DELETE /api/v1/clients/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{")
	require.NoError(t, err)
	var all strings.Builder
	b := make([]byte, 4096)
	for err == nil {
		var n int
		n, err = c.Read(b)
		all.Write(b[:n])
	}
	require.Contains(t, all.String(), `{"code":2049}`)
	require.EqualError(t, err, "EOF")
}

func TestCPUShares(t *testing.T) {
	h := newHandler(&stream.Hub{})
	h.setup.Do(h.prepare)
	_, busy := h.cpuShares(100)
	require.Zero(t, busy)
	h.cpu.at = time.Now().Add(-10 * time.Second)
	h.cpu.idle = 100
	_, busy = h.cpuShares(100.001)
	require.Greater(t, busy, 0.9)
	_, again := h.cpuShares(1e9) // too soon for another sample
	require.Equal(t, busy, again)
}

func FuzzPath(f *testing.F) {
	f.Add("GET", "/api/v1/streams/vid-aaaaaaaa", "start=1")
	f.Add("DELETE", "/api/v1/clients/../..", "count=-9")
	hub := &stream.Hub{}
	hub.OpenSession(stream.SessionInfo{Role: stream.RolePlay}, nil)
	h := newHandler(hub)
	f.Fuzz(func(t *testing.T, method, path, query string) {
		r := httptest.NewRequest("GET", "http://localhost/", nil)
		r.Method, r.URL.Path, r.URL.RawQuery, r.RemoteAddr = method, path, query, "127.0.0.1:1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) {
			t.Fatal(w.Body)
		}
	})
}

func ExampleHandler() {
	hub := &stream.Hub{}
	h := &Handler{Hub: hub, ServerID: "vid-example"}
	r := httptest.NewRequest("GET", "http://localhost:1985/api/v1/streams/vid-none", nil)
	r.RemoteAddr = "127.0.0.1:4000"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 200 {"code":2048}
}
