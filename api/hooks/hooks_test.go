package hooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/webhook"
	"github.com/runnel-media/runnel/stream"
)

func ask(action auth.Action, id string) *auth.Request {
	return &auth.Request{
		Action: action, Protocol: "rtmp", Session: id, Stream: "live/livestream", App: "live", Name: "livestream",
		Remote: netip.MustParseAddrPort("192.0.2.7:5000"), RawQuery: "token=abc&vhost=__defaultVhost__",
		TCURL: "rtmp://127.0.0.1:1935/live", PageURL: "http://example.org/player",
	}
}

// open is what a server does with a request that was granted.
func open(c *Callbacks, r *auth.Request) *stream.Session {
	role := stream.RolePlay
	if r.Action == auth.Publish {
		role = stream.RolePublish
	}
	return c.Hub.OpenSession(stream.SessionInfo{
		ID: r.Session, Role: role, Protocol: r.Protocol, Stream: r.Stream, Remote: r.Remote,
		VHost: r.VHost, App: r.App, Name: r.Name, RawQuery: r.RawQuery, TCURL: r.TCURL, PageURL: r.PageURL,
	}, nil)
}

const common = "server_id service_id action client_id ip vhost app tcUrl stream param "

// TestShapes: what SRS sends of a publisher's and a player's life, field by field.
func TestShapes(t *testing.T) {
	s := serve(t, nil)
	c := follow(t, &Callbacks{File: func(_, name string) string { return "./objs/" + name }}, s.URL+"/hook")
	r := ask(auth.Publish, "r71lue9u")
	_, err := c.Authorize(t.Context(), r)
	require.NoError(t, err)
	session := open(c, r)
	p, err := c.Hub.Publish(t.Context(), r.Stream, &stream.PublishOptions{Session: session})
	require.NoError(t, err)
	session.AddIn(1000)
	c.Hub.ReportSegment(stream.SegmentStored{
		Stream: r.Stream, Name: "live/livestream-7.ts", Playlist: "live/livestream.m3u8", Sequence: 7, Duration: 9500 * time.Millisecond,
	})
	c.Hub.ReportRecording(stream.RecordingEnded{Stream: r.Stream, Name: "live/livestream.1.flv"}) // without a byte
	require.NoError(t, p.Close())
	session.Close(nil)
	c.Hub.ReportRecording(stream.RecordingEnded{Stream: r.Stream, Name: "live/livestream.2.flv", Size: 10})
	s.wait(t, 6)
	r = ask(auth.Play, "player")
	_, err = c.Authorize(t.Context(), r)
	require.NoError(t, err)
	session = open(c, r)
	session.AddOut(2000)
	session.Close(nil)
	calls := s.wait(t, 10)

	extra := map[string]string{
		"on_connect": "pageUrl", "on_close": "send_bytes recv_bytes stream_url stream_id", "on_publish": "stream_url stream_id",
		"on_unpublish": "stream_url stream_id", "on_play": "pageUrl stream_url stream_id", "on_stop": "stream_url stream_id",
		"on_dvr": "cwd file stream_url stream_id", "on_hls": "duration cwd file url m3u8 m3u8_url seq_no stream_url stream_id",
	}
	var actions []string
	bodies := map[string]map[string]any{}
	for i, call := range calls {
		require.Equal(t, "POST /hook", call.method+" "+call.path)
		require.Equal(t, "application/json", call.header.Get("Content-Type"))
		require.Len(t, call.header.Get("Idempotency-Key"), 26)
		require.Empty(t, call.header.Get(webhook.SignatureHeader))
		action := call.action()
		actions = append(actions, action)
		var fields []string
		for name := range call.body {
			fields = append(fields, name)
		}
		require.ElementsMatch(t, strings.Fields(common+extra[action]), fields, action)
		for name, want := range map[string]string{
			"server_id": "vid-test", "service_id": "abcdefgh", "ip": "192.0.2.7", "vhost": "__defaultVhost__", "app": "live",
			"tcUrl": "rtmp://127.0.0.1:1935/live", "stream": "livestream", "param": "?token=abc&vhost=__defaultVhost__",
		} {
			require.Equal(t, want, call.body[name], "%s of %s", name, action)
		}
		want := "r71lue9u"
		if i >= 6 {
			want = "player"
		}
		require.Equal(t, want, call.body["client_id"], action)
		bodies[action] = call.body
	}
	require.Equal(t, []string{
		"on_connect", "on_publish", "on_hls", "on_unpublish", "on_close", "on_dvr", "on_connect", "on_play", "on_stop", "on_close",
	}, actions)
	cwd, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, "/live/livestream", bodies["on_publish"]["stream_url"])
	require.Equal(t, "http://example.org/player", bodies["on_play"]["pageUrl"])
	require.EqualValues(t, 2000, bodies["on_close"]["send_bytes"])
	require.EqualValues(t, 0, bodies["on_close"]["recv_bytes"])
	require.Equal(t, cwd, bodies["on_dvr"]["cwd"])
	require.Equal(t, "./objs/live/livestream.2.flv", bodies["on_dvr"]["file"])
	require.Equal(t, "./objs/live/livestream-7.ts", bodies["on_hls"]["file"])
	require.Equal(t, "live/livestream-7.ts", bodies["on_hls"]["url"])
	require.Equal(t, "./objs/live/livestream.m3u8", bodies["on_hls"]["m3u8"])
	require.Equal(t, "live/livestream.m3u8", bodies["on_hls"]["m3u8_url"])
	require.EqualValues(t, 9.5, bodies["on_hls"]["duration"])
	require.EqualValues(t, 7, bodies["on_hls"]["seq_no"])
}

// TestDecisions: 0 and {"code": 0} allow, all else refuses.
func TestDecisions(t *testing.T) {
	denied, failed := auth.ErrDenied, errors.New("any other")
	for name, test := range map[string]struct {
		status int
		body   string
		err    error
	}{
		"0":                 {200, "0", nil},
		"0 and a line":      {200, " 0\r\n", nil},
		"code 0":            {200, `{"code":0,"msg":"OK"}`, nil},
		"created":           {201, `{"code":0}`, nil},
		"1":                 {200, "1", denied},
		"code 1":            {200, `{"code":1}`, denied},
		"code -1":           {200, `{"code":-1}`, denied},
		"no code":           {200, `{"msg":"OK"}`, failed},
		"null":              {200, `null`, failed},
		"code null":         {200, `{"code":null}`, failed},
		"code of text":      {200, `{"code":"0"}`, failed},
		"text":              {200, `OK`, failed},
		"two":               {200, `0 1`, failed},
		"empty":             {200, ``, failed},
		"no content":        {204, ``, failed},
		"forbidden":         {403, `0`, failed},
		"trouble":           {500, `0`, failed},
		"elsewhere":         {302, `0`, failed},
		"elsewhere, really": {307, `0`, failed},
		"long":              {200, `{"code":0,"msg":"` + strings.Repeat("x", 70<<10) + `"}`, failed},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(int, call) (int, string) { return test.status, test.body })
			for _, e := range []Event{OnConnect, OnPlay} {
				before := len(s.all())
				c := &Callbacks{Hub: &stream.Hub{}, Auth: auth.AllowAll, URLs: URLs{e: {s.URL}}}
				grant, err := c.Authorize(t.Context(), ask(auth.Play, "x"))
				require.Equal(t, test.err == nil, grant != nil)
				require.Equal(t, test.err == nil, err == nil)
				require.Equal(t, test.err == denied, errors.Is(err, auth.ErrDenied), err)
				require.Len(t, s.all(), before+1, "no redirect is followed, no question asked again")
			}
		})
	}
}

// TestDecisionsFail: a service that is not there, or takes too long, refuses. So
// does a nil Auth, and nobody is called then.
func TestDecisionsFail(t *testing.T) {
	hang := make(chan struct{})
	s := serve(t, func(int, call) (int, string) { <-hang; return 200, "0" })
	defer close(hang)
	for _, u := range []string{s.URL, "http://127.0.0.1:1/?password=secret"} {
		c := &Callbacks{Hub: &stream.Hub{}, Auth: auth.AllowAll, URLs: URLs{OnPublish: {u}}, Timeout: 50 * time.Millisecond}
		_, err := c.Authorize(t.Context(), ask(auth.Publish, "x"))
		require.Error(t, err)
		require.NotErrorIs(t, err, auth.ErrDenied)
		require.NotContains(t, err.Error(), "secret")
	}
	n := len(s.all())
	c := &Callbacks{Hub: &stream.Hub{}, URLs: URLs{OnPublish: {s.URL}}}
	_, err := c.Authorize(t.Context(), ask(auth.Publish, "x"))
	require.ErrorIs(t, err, auth.ErrDenied)
	require.Len(t, s.all(), n)
	// What hooks do not decide, Auth does.
	c.Auth = auth.AllowAll
	_, err = c.Authorize(t.Context(), &auth.Request{Action: auth.Admin})
	require.NoError(t, err)
}

// TestAllMustAllow: of several services each is asked, up to the first that
// refuses; another virtual host has its own.
func TestAllMustAllow(t *testing.T) {
	yes, no, last := serve(t, nil), serve(t, func(int, call) (int, string) { return 200, "5" }), serve(t, nil)
	c := &Callbacks{
		Hub: &stream.Hub{}, Auth: auth.AllowAll, URLs: URLs{OnPlay: {yes.URL, no.URL, last.URL}},
		VHosts: map[string]URLs{"example.com": {OnPlay: {last.URL}}},
	}
	_, err := c.Authorize(t.Context(), ask(auth.Play, "x"))
	require.ErrorIs(t, err, auth.ErrDenied)
	require.Len(t, yes.all(), 1)
	require.Empty(t, last.all())
	r := ask(auth.Play, "y")
	r.VHost, r.Stream = "example.com", "example.com/live/livestream"
	_, err = c.Authorize(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, "example.com", last.all()[0].body["vhost"])
	require.Equal(t, "example.com/live/livestream", last.all()[0].body["stream_url"])
}

// TestRetry: what is told is told again until it is taken, in order, signed, and
// recognizable; what is refused is not.
func TestRetry(t *testing.T) {
	key := []byte("what both know")
	s := serve(t, func(n int, c call) (int, string) {
		if n < 3 {
			return []int{500, 429, 503}[n], ""
		}
		return 200, "0"
	})
	c := follow(t, &Callbacks{Key: key, Header: http.Header{"Authorization": {"Bearer x"}}},
		"on_unpublish="+s.URL+"/streams", "on_close="+s.URL+"/clients")
	open(c, ask(auth.Publish, "a")).Close(nil)
	calls := s.wait(t, 5)
	require.Equal(t, []string{"on_unpublish", "on_unpublish", "on_unpublish", "on_unpublish", "on_close"}, s.actions())
	for i, call := range calls {
		require.NoError(t, webhook.Verify(key, call.header, call.raw, time.Minute))
		require.Equal(t, "Bearer x", call.header.Get("Authorization"))
		require.Equal(t, i < 4, call.header.Get("Idempotency-Key") == calls[0].header.Get("Idempotency-Key"))
	}
	require.Zero(t, c.Dropped())

	refused := serve(t, func(n int, _ call) (int, string) {
		return []int{404, 200, 302, 200}[n%4], []string{"", "7", "", "?"}[n%4]
	})
	c = follow(t, &Callbacks{}, "on_stop="+refused.URL)
	for i := range 4 {
		open(c, ask(auth.Play, fmt.Sprint(i))).Close(nil)
	}
	require.Eventually(t, func() bool { return c.Dropped() == 4 }, 20*time.Second, time.Millisecond)
	require.Len(t, refused.all(), 4)
}

func TestGivesUp(t *testing.T) {
	s := serve(t, func(int, call) (int, string) { return 500, "" })
	c := follow(t, &Callbacks{Attempts: 3}, "on_stop="+s.URL)
	open(c, ask(auth.Play, "a")).Close(nil)
	require.Eventually(t, func() bool { return c.Dropped() == 1 }, 20*time.Second, time.Millisecond)
	require.Len(t, s.all(), 3)
}

// TestOrder: one stream's trouble is not another's, and a stream that is published
// again has been unpublished before.
func TestOrder(t *testing.T) {
	hold := make(chan struct{})
	s := serve(t, func(_ int, c call) (int, string) {
		if c.action() == "on_unpublish" && c.body["stream"] == "livestream" {
			<-hold
		}
		return 200, "0"
	})
	c := follow(t, &Callbacks{Timeout: 20 * time.Second}, s.URL)
	r := ask(auth.Publish, "a")
	_, err := c.Authorize(t.Context(), r)
	require.NoError(t, err)
	open(c, r).Close(nil)
	s.wait(t, 3)
	other := ask(auth.Publish, "b")
	other.Stream, other.Name = "live/other", "other"
	_, err = c.Authorize(t.Context(), other)
	require.NoError(t, err, "the other stream goes on")
	done := make(chan error, 1)
	go func() {
		_, err := c.Authorize(context.WithoutCancel(t.Context()), ask(auth.Publish, "c"))
		done <- err
	}()
	close(hold)
	require.NoError(t, <-done)
	var mine []string
	for _, call := range s.wait(t, 8) {
		if call.body["stream"] == "livestream" {
			mine = append(mine, call.action()+" "+call.body["client_id"].(string))
		}
	}
	require.Equal(t, []string{"on_connect a", "on_publish a", "on_unpublish a", "on_close a", "on_connect c", "on_publish c"}, mine)
}

// TestBalance: each on_play that was allowed has its on_stop, and each on_connect
// its on_close.
func TestBalance(t *testing.T) {
	s := serve(t, func(_ int, c call) (int, string) {
		if c.action() == "on_play" && c.body["client_id"] == "refused" {
			return 200, "1"
		}
		return 200, "0"
	})
	c := follow(t, &Callbacks{}, s.URL)
	_, err := c.Authorize(t.Context(), ask(auth.Play, "refused"))
	require.ErrorIs(t, err, auth.ErrDenied)
	s.wait(t, 3)
	require.Equal(t, []string{"on_connect", "on_play", "on_close"}, s.actions())

	// Allowed, but the stream was not there.
	_, err = c.Authorize(t.Context(), ask(auth.Play, "nothing"))
	require.NoError(t, err)
	require.Empty(t, c.expired(time.Now()))
	for _, info := range c.expired(time.Now().Add(2 * pendingTime)) {
		c.over(info, stream.SessionStats{})
	}
	s.wait(t, 7)
	require.Equal(t, []string{"on_connect", "on_play", "on_stop", "on_close"}, s.actions()[3:])

	// A viewer who comes back, and asks again while it is there.
	r := ask(auth.Play, "viewer")
	_, err = c.Authorize(t.Context(), r)
	require.NoError(t, err)
	session := open(c, r)
	require.Eventually(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.open) == 1 }, 20*time.Second, time.Millisecond)
	_, err = c.Authorize(t.Context(), r)
	require.NoError(t, err)
	session.Close(nil)
	open(c, r).Close(nil)
	s.wait(t, 15)
	require.Equal(t, []string{"on_connect", "on_play", "on_stop", "on_close", "on_connect", "on_play", "on_stop", "on_close"}, s.actions()[7:])
}

// TestLostEvents: what was not heard of is told late, once.
func TestLostEvents(t *testing.T) {
	s := serve(t, nil)
	hub := &stream.Hub{}
	hub.OpenSession(stream.SessionInfo{ID: "before", Role: stream.RolePlay, Stream: "live/a", App: "live", Name: "a"}, nil)
	c := follow(t, &Callbacks{Hub: hub}, s.URL)
	c.mu.Lock()
	c.open["gone"] = stream.SessionInfo{ID: "gone", Role: stream.RolePlay, Stream: "live/b", App: "live", Name: "b"}
	c.mu.Unlock()
	c.compare(true)
	s.wait(t, 2)
	c.closed(stream.SessionInfo{ID: "gone"}, stream.SessionStats{})
	c.mu.Lock()
	delete(c.open, "before")
	c.mu.Unlock()
	c.compare(true)
	calls := s.wait(t, 4)
	require.Equal(t, []string{"on_stop", "on_close", "on_connect", "on_play"}, s.actions())
	require.Equal(t, "gone", calls[0].body["client_id"])
	require.Equal(t, "before", calls[3].body["client_id"])
}

// TestQueueIsBounded, and the end waits for what is in it, but not for ever.
func TestQueueIsBounded(t *testing.T) {
	hold := make(chan struct{})
	s := serve(t, func(int, call) (int, string) { <-hold; return 200, "0" })
	hub := &stream.Hub{}
	c := follow(t, &Callbacks{Hub: hub, MaxQueue: 10, Timeout: 20 * time.Second}, "on_stop="+s.URL)
	for i := range 25 {
		open(c, ask(auth.Play, fmt.Sprint(i))).Close(nil)
	}
	require.Eventually(t, func() bool { return c.Dropped() == 15 }, 20*time.Second, time.Millisecond)
	go func() {
		time.Sleep(20 * time.Millisecond)
		close(hold)
	}()
	require.NoError(t, hub.Close())
	calls := s.wait(t, 10)
	for i, call := range calls {
		require.Equal(t, fmt.Sprint(i), call.body["client_id"])
	}

	stuck := serve(t, func(int, call) (int, string) { return 500, "" })
	hub = &stream.Hub{}
	c = &Callbacks{Hub: hub, URLs: URLs{OnStop: {stuck.URL}}, Backoff: time.Hour, Drain: 10 * time.Millisecond}
	events, err := c.listen(t.Context())
	require.NoError(t, err)
	open(c, ask(auth.Play, "x")).Close(nil)
	require.NoError(t, hub.Close())
	require.ErrorIs(t, c.run(t.Context(), events), stream.ErrClosed)
	require.EqualValues(t, 1, c.Dropped())
}

func TestHLSNotify(t *testing.T) {
	s := serve(t, func(int, call) (int, string) { return 200, strings.Repeat("x", 1<<20) })
	c := follow(t, &Callbacks{}, "on_hls_notify="+s.URL+"/[server_id]/[app]/[stream]/[ts_url][param]")
	r := ask(auth.Publish, "p")
	_, err := c.Hub.Publish(t.Context(), r.Stream, &stream.PublishOptions{Session: open(c, r)})
	require.NoError(t, err)
	c.Hub.ReportSegment(stream.SegmentStored{Stream: r.Stream, Name: "live/a b-1.ts"})
	calls := s.wait(t, 1)
	require.Equal(t, "GET /vid-test/live/livestream/live/a%20b-1.ts?token=abc&vhost=__defaultVhost__", calls[0].action())
	require.Empty(t, calls[0].raw)
	require.Zero(t, c.Dropped())
}

func TestForward(t *testing.T) {
	answers := []string{
		`{"code":0,"data":{"urls":["rtmp://192.0.2.1/live/a","rtmp://192.0.2.2/live/a"]}}`, `0`, `{"code":0,"data":null}`,
		`{"code":3}`, `{"code":0,"data":{"urls":["x"]}}`, `{"code":0,"data":{"urls":"x"}}`,
		`{"code":0,"data":{"urls":[` + strings.Repeat(`"rtmp://h/a/b",`, 64) + `"rtmp://h/a/b"]}}`,
	}
	s := serve(t, func(n int, _ call) (int, string) { return 200, answers[n] })
	c := &Callbacks{URLs: URLs{OnForwardBackend: {s.URL}}}
	info := stream.SessionInfo{ID: "p", Stream: "live/a", App: "live", Name: "a"}
	urls, err := c.Forward(t.Context(), info)
	require.NoError(t, err)
	require.Equal(t, []string{"rtmp://192.0.2.1/live/a", "rtmp://192.0.2.2/live/a"}, urls)
	require.Equal(t, "on_forward", s.all()[0].body["action"])
	for range 2 {
		urls, err = c.Forward(t.Context(), info)
		require.NoError(t, err)
		require.Empty(t, urls)
	}
	for range 4 {
		_, err = c.Forward(t.Context(), info)
		require.Error(t, err)
	}
}

func TestParse(t *testing.T) {
	all, err := Parse("http://h/?a=b", "on_play=https://p/", "on_hls_notify=http://h/[app]/[ts_url]", "on_play=http://[::1]:80/x")
	require.NoError(t, err)
	require.Equal(t, []string{"http://h/?a=b", "https://p/", "http://[::1]:80/x"}, all[OnPlay])
	require.Equal(t, []string{"http://h/?a=b"}, all[OnHLS])
	require.Len(t, all[OnHLSNotify], 1)
	require.Empty(t, all[OnForwardBackend])
	for _, bad := range []string{
		"", "on_play", "on_play=", "on_nothing=http://h/", "ftp://h/", "on_play=h", "http://", "on_hls_notify=http://[app]/", "on_hls_notify=http://h[stream]",
		"on_play=http://user:secret@%zz/",
	} {
		_, err := Parse(bad)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "secret")
	}
	require.Error(t, (&Callbacks{Hub: &stream.Hub{}, URLs: URLs{OnPlay: {"x"}}}).Run(t.Context()))
	require.Error(t, (&Callbacks{Hub: &stream.Hub{}, VHosts: map[string]URLs{"v": {"on_x": {"http://h/"}}}}).Run(t.Context()))
}

// FuzzAnswer: nothing but a clear yes is one.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"0", `{"code":0}`, `{"code":1}`, "", "null", "0.0", "-0", `{"code":0,"code":1}`, `[0]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if codeOf(b) == nil && !strings.ContainsRune(string(b), '0') {
			t.Fatalf("%q is taken for a yes", b)
		}
	})
}

// FuzzNotifyURL: whatever a publisher sends, the host stays.
func FuzzNotifyURL(f *testing.F) {
	f.Add("http://h/[app]/[stream]/[ts_url][param]", "live", "cam", "token=x", "live/cam-1.ts")
	f.Add("http://h[param]", "..", "a/b", "@evil/", "//evil")
	f.Add("http://h/?x=[app][param]", "", "#", "a b\r\n#", "?")
	f.Fuzz(func(t *testing.T, template, app, name, query, ts string) {
		if checkURL(OnHLSNotify, template) != nil {
			return
		}
		c := &Callbacks{ServerID: "vid"}
		got := c.notifyURL(template, &stream.SessionInfo{App: app, Name: name, RawQuery: query}, ts)
		host, _ := cutHost(template)
		if !strings.HasPrefix(got, host) {
			t.Fatalf("%q became %q", template, got)
		}
		rest := got[len(host):]
		if rest != "" && !strings.ContainsRune("/?#", rune(rest[0])) {
			t.Fatalf("%q became %q", template, got)
		}
	})
}
