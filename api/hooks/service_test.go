package hooks

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// A call is what a service was called with.
type call struct {
	method, path string
	header       http.Header
	raw          []byte
	body         map[string]any
}

func (c call) action() string {
	if c.body == nil {
		return c.method + " " + c.path
	}
	return c.body["action"].(string)
}

// A service answers as answer says, and keeps what it was asked.
type webService struct {
	*httptest.Server
	mu     sync.Mutex
	calls  []call
	answer func(n int, c call) (status int, body string) // n counts from 0
}

func serve(t *testing.T, answer func(n int, c call) (int, string)) *webService {
	t.Helper()
	s := &webService{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := call{method: r.Method, path: r.URL.RequestURI(), header: r.Header}
		c.raw, _ = io.ReadAll(r.Body)
		_ = json.Unmarshal(c.raw, &c.body)
		s.mu.Lock()
		s.calls = append(s.calls, c)
		n := len(s.calls) - 1
		s.mu.Unlock()
		status, body := http.StatusOK, `{"code": 0, "data": null}`
		if s.answer != nil {
			status, body = s.answer(n, c)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *webService) all() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]call(nil), s.calls...)
}

func (s *webService) actions() (list []string) {
	for _, c := range s.all() {
		list = append(list, c.action())
	}
	return list
}

// wait waits until so many calls have come.
func (s *webService) wait(t *testing.T, n int) []call {
	t.Helper()
	require.Eventually(t, func() bool { return len(s.all()) >= n }, 20*time.Second, 2*time.Millisecond, "calls")
	return s.all()
}

// follow makes Callbacks for all events, and runs them until the test ends.
func follow(t *testing.T, c *Callbacks, urls ...string) *Callbacks {
	t.Helper()
	if len(urls) > 0 {
		var err error
		c.URLs, err = Parse(urls...)
		require.NoError(t, err)
	}
	if c.Hub == nil {
		c.Hub = &stream.Hub{}
	}
	if c.Auth == nil {
		c.Auth = auth.AllowAll
	}
	c.Log = slog.New(slog.DiscardHandler)
	c.ServerID, c.ServiceID = "vid-test", "abcdefgh"
	if c.Backoff == 0 {
		c.Backoff = time.Millisecond
	}
	events, err := c.listen(context.WithoutCancel(t.Context()))
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.run(context.WithoutCancel(t.Context()), events)
	}()
	t.Cleanup(func() {
		_ = c.Hub.Close()
		<-done
	})
	return c
}
