package console

import (
	"bytes"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// lab holds the programs that the tests share.
var lab *peer.Lab

func TestMain(m *testing.M) { os.Exit(peer.Main(m, &lab, 2)) }

// live is how long anything may take that happens at once on an idle machine.
const live = 40 * time.Second

// Tokens of the API, by role.
const (
	viewer   = "viewer-0123456789abcdef"
	operator = "operator-0123456789abcdef"
	admin    = "admin-0123456789abcdef"
)

// A mediaserver is examples/mediaserver as a process.
type mediaserver struct {
	*peer.Process
	http string // "http://…"
}

func program(t testing.TB) string {
	t.Helper()
	return lab.File(t, "mediaserver.exe", func(path string) {
		peer.Run(t, 5*time.Minute, "go", "build", "-C", "../../..", "-o", path, "./examples/mediaserver")
	})
}

func startMediaserver(t *testing.T, flags ...string) *mediaserver {
	t.Helper()
	web, media := peer.FreeAddr(t), peer.FreeAddr(t)
	for media == web {
		media = peer.FreeAddr(t)
	}
	m := &mediaserver{http: "http://" + web}
	m.Process = peer.StartIn(t, t.TempDir(), nil, program(t), append([]string{
		"-rtmp", "", "-srt", "", "-webrtc", media, "-http", web,
	}, flags...)...)
	peer.Eventually(t, live, "an answer at "+m.http, func() bool {
		if !m.Running() {
			t.Fatalf("mediaserver ended: %s", m.Log())
		}
		r, err := http.Get(m.http + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return m
}

func (m *mediaserver) call(t *testing.T, method, path, token, body string) int {
	t.Helper()
	req, err := http.NewRequest(method, m.http+path, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+token)
	r, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	r.Body.Close()
	return r.StatusCode
}

// play reads a stream until the test ends, and reports when it is ended from
// the other side.
func (m *mediaserver) play(t *testing.T, name string) (ended <-chan struct{}) {
	t.Helper()
	r, err := http.Get(m.http + "/" + name + ".flv")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, r.StatusCode)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var b [4096]byte
		for {
			if _, err := r.Body.Read(b[:]); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { r.Body.Close() })
	return done
}

func text(t *testing.T, p *peer.Page, selector string) string {
	t.Helper()
	return peer.Eval[string](t, p, `document.querySelector(`+"`"+selector+"`"+`)?.innerText ?? ""`)
}

// login types a token in and sends it.
func login(t *testing.T, p *peer.Page, token string) {
	t.Helper()
	p.Until(t, live, `!document.querySelector("#login").hidden`)
	peer.Eval[any](t, p, `document.querySelector("#token").value = "", document.querySelector("#token").focus(), null`)
	p.Press(t, token+"\r")
}

// in logs in, and waits until that is done.
func in(t *testing.T, p *peer.Page, token string) {
	t.Helper()
	login(t, p, token)
	p.Until(t, live, `!document.querySelector("#nav").hidden`)
}

// view opens a part of the console.
func view(t *testing.T, p *peer.Page, hash string) {
	t.Helper()
	peer.Eval[any](t, p, `location.hash = "`+hash+`", null`)
}
