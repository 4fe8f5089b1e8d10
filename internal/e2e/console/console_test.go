package console

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

func start(t *testing.T) *mediaserver {
	t.Helper()
	return startMediaserver(t, "-record", "live/*", "-api-token", "viewer:"+viewer, "-api-token", "operator:"+operator, "-api-token", "admin:"+admin)
}

// problems says what a screen reader, or somebody who does not see well, would
// stumble over on the page as it is.
const problems = `(() => {
	const found = [];
	const visible = e => e.checkVisibility({visibilityProperty: true}) && !e.closest(".visually-hidden, [aria-hidden=true]");
	const name = e => e.getAttribute("aria-label") || (e.labels?.length ? e.labels[0].textContent : "") || e.textContent ||
		(e.getAttribute("aria-labelledby") && document.getElementById(e.getAttribute("aria-labelledby"))?.textContent) || "";
	for (const e of document.querySelectorAll("button, a, input, select, video, dialog, nav, [role=img], section")) {
		if (!visible(e) || e.matches("video[controls], section:not([aria-label]):not([aria-labelledby])")) continue;
		if (!name(e).trim()) found.push("no name: " + e.outerHTML.slice(0, 120));
	}
	const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
	for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) found.push("id twice: " + id);
	for (const e of document.querySelectorAll("[aria-labelledby], [aria-describedby], label[for]")) {
		for (const id of [e.getAttribute("aria-labelledby"), e.getAttribute("aria-describedby"), e.getAttribute("for")].filter(Boolean)) {
			if (!document.getElementById(id)) found.push("names nothing: " + id);
		}
	}
	let level = 0;
	for (const e of document.querySelectorAll("h1, h2, h3, h4")) {
		if (!visible(e)) continue;
		const n = Number(e.tagName[1]);
		if (n > level + 1) found.push("a heading of level " + n + " after one of " + level);
		level = n;
	}
	if (document.querySelectorAll("main").length !== 1 || !document.documentElement.lang || !document.title) found.push("no main, lang or title");
	if (document.documentElement.scrollWidth > innerWidth + 1) found.push("wider than the screen: " + document.documentElement.scrollWidth);

	const parse = c => c.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => {
		const f = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
		return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
	};
	const ground = e => {
		for (; e; e = e.parentElement) {
			const c = parse(getComputedStyle(e).backgroundColor);
			if (c.length < 4 || c[3] === 1) return c;
		}
		return [255, 255, 255];
	};
	for (const e of document.querySelectorAll("body *")) {
		if (!visible(e) || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
		const style = getComputedStyle(e), a = light(parse(style.color)), b = light(ground(e));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.6 && style.fontWeight >= 700;
		if (ratio < (large ? 3 : 4.5) - 0.005) found.push("contrast " + ratio.toFixed(2) + ": " + e.tagName + " " + e.textContent.slice(0, 40));
	}
	for (const e of document.querySelectorAll("button, select, input, nav a")) {
		if (!visible(e)) continue;
		const r = e.getBoundingClientRect();
		if (r.height < 24 || r.width < 24) found.push("small target " + r.width + "×" + r.height + ": " + e.outerHTML.slice(0, 80));
	}
	return found.join("\n");
})()`

func accessible(t *testing.T, p *peer.Page, what string) {
	t.Helper()
	require.Empty(t, peer.Eval[string](t, p, problems), what)
}

// parts are the views of the console, and what is in them when they are filled.
var parts = []struct{ hash, name, filled string }{
	{"#/overview", "overview", `document.querySelector(".plot .line-0")?.getAttribute("d")?.length > 20 && document.querySelector(".facts dd")`},
	{"#/streams", "streams", `document.querySelectorAll("#view tbody tr").length === 2`},
	{"#/streams/live/demo", "stream", `document.querySelectorAll("#view tbody tr").length >= 2 && document.querySelector(".facts dd")`},
	{"#/sessions", "sessions", `document.querySelectorAll("#view tbody tr").length >= 1`},
	{"#/events", "events", `document.querySelectorAll(".events li").length >= 1`},
}

// TestLooks opens everything on a large screen, on a phone, in the dark.
func TestLooks(t *testing.T) {
	t.Parallel()
	m := start(t)
	require.Equal(t, 201, m.call(t, "POST", "/api/v2/streams", admin, `{"name": "live/roof", "title": "The camera on the roof", "labels": {"site": "roof"}}`))
	m.play(t, "live/demo")
	for _, c := range []struct {
		name     string
		switches []string
	}{
		{"light", nil},
		{"dark", []string{"blink-settings=preferredColorScheme=0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := peer.StartBrowser(t, c.switches...).Open(t, m.http+"/console/")
			look := func(what string) {
				for _, size := range []struct {
					name          string
					width, height int64
				}{{"phone", 390, 844}, {"desktop", 1280, 900}} {
					page.Resize(t, size.width, size.height)
					accessible(t, page, what+" "+size.name)
					page.Screenshot(t, "console-"+what+"-"+size.name+"-"+c.name)
				}
			}
			page.Until(t, live, `!document.querySelector("#login").hidden`)
			require.Equal(t, c.name == "dark", peer.Eval[bool](t, page, `matchMedia("(prefers-color-scheme: dark)").matches`))
			look("login")
			in(t, page, admin)
			m.play(t, "live/demo") // an event
			for _, part := range parts {
				view(t, page, part.hash)
				page.Until(t, live, part.filled)
				look(part.name)
			}
			require.NotContains(t, page.Console(), "exception")
			require.NotContains(t, page.Console(), "Content Security Policy")
		})
	}
}

// TestLogin: what a wrong token says, what each role may press, and that a
// token leaves with its tab.
func TestLogin(t *testing.T) {
	t.Parallel()
	m := start(t)
	browser := peer.StartBrowser(t)
	page := browser.Open(t, m.http+"/console")
	login(t, page, "wrong-0123456789abcdef")
	page.Until(t, live, `document.querySelector("#login-error").textContent.includes("not valid")`)
	require.Equal(t, "token", peer.Eval[string](t, page, `document.activeElement.id`))
	require.True(t, peer.Eval[bool](t, page, `sessionStorage.length === 0 && localStorage.length === 0 && !document.cookie`))
	login(t, page, "two words")
	page.Until(t, live, `document.querySelector("#login-error").textContent.includes("without spaces")`)

	m.play(t, "live/demo")
	buttons := func() int {
		return peer.Eval[int](t, page, `[...document.querySelectorAll("#view button")].filter(b => b.checkVisibility()).length`)
	}
	for _, c := range []struct {
		token string
		role  string
		kick  bool
		level bool
	}{{viewer, "viewer", false, false}, {operator, "operator", true, false}, {admin, "admin", true, true}} {
		in(t, page, c.token)
		require.Contains(t, text(t, page, "#who"), c.role)
		view(t, page, "#/overview")
		page.Until(t, live, `document.querySelector("#log-level")?.checkVisibility()`)
		require.Equal(t, c.level, peer.Eval[bool](t, page, `!document.querySelector("#log-level").disabled`), c.role)
		view(t, page, "#/sessions")
		page.Until(t, live, `document.querySelectorAll("#view tbody tr").length >= 1`)
		require.Equal(t, c.kick, buttons() > 0, c.role)
		view(t, page, "#/streams/live/demo")
		page.Until(t, live, `document.querySelectorAll("#view tbody tr").length >= 2`)
		require.Equal(t, c.kick, strings.Contains(text(t, page, "#view"), "End the stream"), c.role)
		peer.Eval[any](t, page, `document.querySelector("#logout").click(), null`)
		require.True(t, peer.Eval[bool](t, page, `sessionStorage.length === 0 && document.querySelector("#view").childElementCount === 0`))
	}
	in(t, page, viewer)
	peer.Eval[any](t, page, `window.before = true, location.reload(), null`)
	page.Until(t, live, `!window.before && document.querySelector("#who-text").textContent.includes("viewer")`)
	require.NotContains(t, peer.Eval[string](t, page, `document.documentElement.outerHTML + location.href`), viewer)
	other := browser.Open(t, m.http+"/console/")
	other.Until(t, live, `!document.querySelector("#login").hidden`)
}

// TestKick ends a session by the keyboard alone.
func TestKick(t *testing.T) {
	t.Parallel()
	m := start(t)
	page := peer.StartBrowser(t).Open(t, m.http+"/console/#/sessions")
	in(t, page, operator)
	ended := m.play(t, "live/demo")
	page.Until(t, live, `document.querySelectorAll("#view tbody tr").length === 1`)

	focused := func() string {
		return peer.Eval[string](t, page, `document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent`)
	}
	for range 30 {
		if strings.HasPrefix(focused(), "Kick") {
			break
		}
		page.Press(t, "\t")
	}
	require.Contains(t, focused(), "live/demo")
	page.Press(t, "\r")
	page.Until(t, live, `document.querySelector("#confirm").open`)
	require.Equal(t, "Cancel", focused(), "what does no harm has the focus")
	accessible(t, page, "dialog")
	page.Screenshot(t, "console-kick")
	page.Press(t, "\u001b")
	page.Until(t, live, `!document.querySelector("#confirm").open`)
	require.Contains(t, focused(), "Kick", "the focus comes back")
	select {
	case <-ended:
		t.Fatal("ended though nobody said yes")
	default:
	}
	page.Press(t, "\r\t")
	require.Equal(t, "End it", focused())
	page.Press(t, "\r")
	select {
	case <-ended:
	case <-time.After(live):
		t.Fatal("the player was not ended")
	}
	page.Until(t, live, `document.querySelector("#status").textContent.includes("ended") && document.querySelectorAll("#view tbody tr").length === 0`)
	require.NotEqual(t, "", focused(), "the focus is somewhere still")
}

// TestEvil: what peers and callers say stays text.
func TestEvil(t *testing.T) {
	t.Parallel()
	m := start(t)
	const name, title = `live/a'&amp;b${1}`, `<img src=x onerror=\"window.evil=1\"><script>window.evil=1</script>`
	require.Equal(t, 201, m.call(t, "POST", "/api/v2/streams", admin, `{"name": "`+name+`", "title": "`+title+`", "labels": {"x": "<b onclick=evil()>"}}`))
	page := peer.StartBrowser(t).Open(t, m.http+"/console/#/streams")
	in(t, page, admin)
	page.Until(t, live, `document.querySelector("#view tbody").innerText.includes("a'&amp;b")`)
	require.Contains(t, text(t, page, "#view tbody"), "<img src=x")
	page.Screenshot(t, "console-evil")
	peer.Eval[any](t, page, `[...document.querySelectorAll("#view tbody a")].find(a => a.textContent.includes("amp")).click(), null`)
	page.Until(t, live, `document.querySelector(".facts")?.innerText.includes("<b onclick")`)
	require.Equal(t, name, text(t, page, "#view .title"))
	require.Equal(t, "undefined", peer.Eval[string](t, page, `typeof evil`))
	require.Zero(t, peer.Eval[int](t, page, `document.querySelectorAll("#view img, #view script, #view b").length`))
	// What got in by another way could not run either.
	require.Equal(t, "undefined", peer.Eval[string](t, page, `(() => {
		const div = document.createElement("div");
		div["inner" + "HTML"] = "<img src=x onerror='window.evil=1'>";
		document.body.append(div);
		return new Promise(done => setTimeout(() => done(typeof evil), 500));
	})()`))
	require.Contains(t, page.Console(), "Content Security Policy")
}

// TestBelowPrefix: behind a proxy that serves everything below a path, the
// console logs in, plays by WebRTC, then by HTTP, and a recording.
func TestBelowPrefix(t *testing.T) {
	t.Parallel()
	m := start(t)
	target, err := url.Parse(m.http)
	require.NoError(t, err)
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	forward.FlushInterval = -1
	proxy := httptest.NewServer(http.StripPrefix("/media/x", forward))
	t.Cleanup(func() { // when the browser is gone; events have no end
		proxy.CloseClientConnections()
		proxy.Close()
	})
	page := peer.StartBrowser(t).Open(t, proxy.URL+"/media/x/console")
	in(t, page, admin)
	require.Equal(t, "/media/x/console/", peer.Eval[string](t, page, `location.pathname`))
	view(t, page, "#/watch/live/demo")
	playing := func(label string) {
		page.Until(t, live, `document.querySelector(".watch .facts")?.innerText.includes("`+label+`")`)
		page.WaitPlayback(t, "#video", live, func(p peer.Playback) bool { return p.Frames > 2*peer.FPS && p.Width > 0 })
		page.Until(t, live, `/Latency\n[\d.]+ m?s/.test(document.querySelector(".watch .facts").innerText)`)
		t.Log(text(t, page, ".watch .facts"))
	}
	playing("WebRTC")
	accessible(t, page, "watch")
	page.Screenshot(t, "console-watch-webrtc")
	page.Resize(t, 390, 844)
	accessible(t, page, "watch on a phone")
	page.Screenshot(t, "console-watch-phone")
	page.Resize(t, 1280, 900)
	for _, c := range [][2]string{{"http", "fMP4 over HTTP"}, {"hls", "LL-HLS"}} {
		peer.Eval[any](t, page, `(() => {
			const select = document.querySelector("#protocol");
			select.value = "`+c[0]+`";
			select.dispatchEvent(new Event("change"));
			return null;
		})()`)
		playing(c[1])
	}
	// Away from the player the viewer is gone.
	require.Equal(t, 204, m.call(t, "DELETE", "/api/v2/streams/live/demo", admin, ""))
	view(t, page, "#/recordings")
	page.Until(t, live, `document.querySelectorAll("#view tbody tr").length >= 1`)
	accessible(t, page, "recordings")
	peer.Eval[any](t, page, `[...document.querySelectorAll("#view tbody button")].find(b => b.textContent === "Play").click(), null`)
	page.WaitPlayback(t, "#view video", live, func(p peer.Playback) bool { return p.Frames > 5 && p.Width > 0 })
	page.Screenshot(t, "console-recordings")
	require.NotContains(t, page.Console(), "exception")
	require.NotContains(t, page.Console(), "Content Security Policy")
}
