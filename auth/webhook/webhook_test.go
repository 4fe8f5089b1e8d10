package webhook_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/webhook"
)

// serve starts a service.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestAnswers(t *testing.T) {
	denied, failed := auth.ErrDenied, errors.New("any other")
	for name, c := range map[string]struct {
		status int
		body   string
		err    error
		grant  auth.Grant
	}{
		"allowed": {200, `{"allow": true}`, nil, auth.Grant{User: "alice"}},
		"allowed with all": {200, `{"allow": true, "user": "bob", "expires": "2030-01-01T00:00:00Z", "realm": "r",
			"limits": {"bit_rate": 5, "sessions": 2}, "labels": {"a": "b"}}`, nil,
			auth.Grant{User: "bob", Expires: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), Realm: "r",
				Limits: auth.Limits{BitRate: 5, Sessions: 2}, Labels: map[string]string{"a": "b"}}},
		"refused":            {200, `{"allow": false, "user": "alice"}`, denied, auth.Grant{}},
		"401":                {401, "", denied, auth.Grant{}},
		"403":                {403, `{"allow": true}`, denied, auth.Grant{}},
		"says nothing of it": {200, `{}`, denied, auth.Grant{}},
		"empty":              {200, ``, failed, auth.Grant{}},
		"204":                {204, ``, failed, auth.Grant{}},
		"201":                {201, `{"allow": true}`, failed, auth.Grant{}},
		"500":                {500, `{"allow": true}`, failed, auth.Grant{}},
		"no JSON":            {200, `yes`, failed, auth.Grant{}},
		"a number for allow": {200, `{"allow": 1}`, failed, auth.Grant{}},
		"two answers":        {200, `{"allow": true}{"allow": true}`, failed, auth.Grant{}},
		"too long":           {200, `{"allow": true, "user": "` + strings.Repeat("x", 64<<10) + `"}`, failed, auth.Grant{}},
		"a limit below zero": {200, `{"allow": true, "limits": {"bit_rate": -1}}`, failed, auth.Grant{}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &webhook.Authorizer{URL: serve(t, say(c.status, c.body))}
			g, err := a.Authorize(t.Context(), &auth.Request{Action: auth.Play, Stream: "live/a", User: "alice"})
			switch c.err {
			case nil:
				require.NoError(t, err)
				require.Equal(t, c.grant, *g)
			case denied:
				require.ErrorIs(t, err, denied)
			default:
				require.Error(t, err)
				require.NotErrorIs(t, err, denied)
				require.Nil(t, g)
			}
		})
	}
	var to *auth.Redirect
	_, err := (&webhook.Authorizer{URL: serve(t, say(200, `{"redirect": "rtmp://other/live/a"}`))}).Authorize(t.Context(), &auth.Request{})
	require.ErrorAs(t, err, &to)
	require.Equal(t, "rtmp://other/live/a", to.Location)
}

func TestQuestion(t *testing.T) {
	key := []byte("shared")
	var mu sync.Mutex
	var asked []webhook.Question
	a := &webhook.Authorizer{Key: key, Header: http.Header{"Authorization": {"Bearer t"}}}
	a.URL = serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var q webhook.Question
		switch {
		case r.Method != http.MethodPost, r.Header.Get("Content-Type") != "application/json",
			r.Header.Get("Authorization") != "Bearer t", webhook.Verify(key, r.Header, body, time.Minute) != nil,
			webhook.Verify([]byte("other"), r.Header, body, time.Minute) == nil, json.Unmarshal(body, &q) != nil:
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		asked = append(asked, q)
		mu.Unlock()
		say(200, `{"allow": true}`)(w, r)
	})
	for _, r := range []*auth.Request{
		{Action: auth.Publish, Protocol: "rtmp", Remote: netip.MustParseAddrPort("192.0.2.1:5000"), Stream: "live/a\"<\n>", App: "live", Name: "a",
			RawQuery: "token=t", TCURL: "rtmp://h/live", Password: "pw", Token: "t", Accept: []string{"hvc1"}},
		{Action: auth.Relay, Protocol: "turns", Realm: "r", UserHash: []byte{1, 2}, Token: "\x00\xff", TLS: &tls.ConnectionState{Version: tls.VersionTLS13, ServerName: "h"}},
	} {
		_, err := a.Authorize(t.Context(), r)
		require.NoError(t, err)
	}
	require.Len(t, asked, 2)
	require.NotEqual(t, asked[0].ID, asked[1].ID)
	for i := range asked {
		require.WithinDuration(t, time.Now(), asked[i].Time, time.Minute)
		asked[i].ID, asked[i].Time = "", time.Time{}
	}
	require.Equal(t, webhook.Question{Action: auth.Publish, Protocol: "rtmp", Remote: "192.0.2.1:5000", Stream: "live/a\"<\n>", App: "live", Name: "a",
		RawQuery: "token=t", TCURL: "rtmp://h/live", Password: "pw", Token: "t", Accept: []string{"hvc1"}}, asked[0])
	require.Equal(t, webhook.Question{Action: auth.Relay, Protocol: "turns", Realm: "r", UserHash: "0102", RawToken: []byte{0, 0xff},
		TLS: &webhook.TLS{Version: "TLS 1.3", ServerName: "h"}}, asked[1])
}

// TestProof: a peer that sends no password is allowed only if it proves one
// that the service told us.
func TestProof(t *testing.T) {
	proof := func(s auth.Secret) bool {
		return s.Plain == "right" || len(s.Key) == 16 && s.Key[0] == 0xab || len(s.KeySHA256) == 32
	}
	for body, want := range map[string]bool{
		`{"allow": true, "password": "right"}`:                              true,
		`{"allow": true, "password": "wrong"}`:                              false,
		`{"allow": true, "key": "0xab000000000000000000000000000000"}`:      true,
		`{"allow": true, "key": "00000000000000000000000000000000"}`:        false,
		`{"allow": true, "key": "ab"}`:                                      false,
		`{"allow": true, "key_sha256": "` + strings.Repeat("00", 32) + `"}`: true,
		`{"allow": true, "key_sha256": "` + strings.Repeat("00", 16) + `"}`: false,
		`{"allow": true}`:                       false,
		`{"allow": false, "password": "right"}`: false,
	} {
		a := &webhook.Authorizer{URL: serve(t, say(200, body))}
		g, err := a.Authorize(t.Context(), &auth.Request{Action: auth.Relay, User: "alice", Proof: proof})
		require.Equal(t, want, err == nil, body)
		require.Equal(t, want, g != nil, body)
	}
}

// TestNoRedirect: an answer leads the server nowhere, least of all inside.
func TestNoRedirect(t *testing.T) {
	inside := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	for _, status := range []int{301, 302, 303, 307, 308} {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inside, status) })
		for _, client := range []*http.Client{nil, {}} {
			_, err := (&webhook.Authorizer{URL: url, Client: client}).Authorize(t.Context(), &auth.Request{Password: "pw"})
			require.ErrorContains(t, err, "redirects are not followed")
			require.NotErrorIs(t, err, auth.ErrDenied)
		}
	}
}

func TestTimeout(t *testing.T) {
	end := make(chan struct{})
	defer close(end)
	for name, h := range map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-end:
			case <-r.Context().Done():
			}
		},
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"allow": true`)
			w.(http.Flusher).Flush()
			select {
			case <-end:
			case <-r.Context().Done():
			}
		},
	} {
		url := serve(t, h)
		_, err := (&webhook.Authorizer{URL: url, Timeout: 50 * time.Millisecond}).Authorize(t.Context(), &auth.Request{})
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		_, err = (&webhook.Authorizer{URL: url, Timeout: time.Hour}).Authorize(ctx, &auth.Request{})
		require.ErrorIs(t, err, context.Canceled, name)
	}
}

// TestErrorsHoldNoSecret: what is logged does not have the URL's query or
// user, nor what was asked or answered.
func TestErrorsHoldNoSecret(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, url := range []string{
		strings.Replace(gone.URL, "http://", "http://user:hunter2@", 1) + "/?key=hunter2",
		"http://user:hunter2@host:port/", "hunter2://x",
		serve(t, say(200, `{"allow": true, "password": "hunter2`)),
		serve(t, say(200, `{"allow": true, "expires": "hunter2"}`)),
		serve(t, say(500, `hunter2`)),
	} {
		_, err := (&webhook.Authorizer{URL: url}).Authorize(t.Context(), &auth.Request{Password: "hunter2"})
		require.Error(t, err)
		if !strings.HasPrefix(url, "hunter2") {
			require.NotContains(t, err.Error(), "hunter2")
		}
	}
}

func TestVerify(t *testing.T) {
	key, body := []byte("k"), []byte(`{"a":1}`)
	sign := func(at time.Time) http.Header {
		return http.Header{webhook.SignatureHeader: {webhook.Sign(key, at, body)}}
	}
	require.NoError(t, webhook.Verify(key, sign(time.Now()), body, time.Minute))
	for name, err := range map[string]error{
		"another body":  webhook.Verify(key, sign(time.Now()), []byte(`{"a":2}`), time.Minute),
		"another key":   webhook.Verify([]byte("l"), sign(time.Now()), body, time.Minute),
		"no key":        webhook.Verify(nil, sign(time.Now()), body, time.Minute),
		"too old":       webhook.Verify(key, sign(time.Now().Add(-2*time.Minute)), body, time.Minute),
		"of the future": webhook.Verify(key, sign(time.Now().Add(2*time.Minute)), body, time.Minute),
		"none":          webhook.Verify(key, http.Header{}, body, time.Minute),
		"of no time":    webhook.Verify(key, http.Header{webhook.SignatureHeader: {"v1=00"}}, body, time.Minute),
		"of no digits":  webhook.Verify(key, http.Header{webhook.SignatureHeader: {"t=1,v1=x"}}, body, time.Minute),
		"time not signed": webhook.Verify(key, http.Header{webhook.SignatureHeader: {
			strings.Replace(webhook.Sign(key, time.Unix(1, 0), body), "t=1,", "t=2,", 1)}}, body, 100*365*24*time.Hour),
	} {
		require.ErrorIs(t, err, webhook.ErrSignature, name)
	}
	// printf '1767225600.{"a":1}' | openssl dgst -sha256 -hmac k
	require.Equal(t, "t=1767225600,v1=6ae64a4b295c0172152e96208272092ca0f841124a6b70b4a384d70a318b0276", webhook.Sign(key, time.Unix(1767225600, 0), body))
}

func FuzzVerify(f *testing.F) {
	f.Add("t=1,v1=00", []byte("x"))
	f.Add("v1=,t=", []byte{})
	f.Add(",,,=", []byte{})
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		err := webhook.Verify([]byte("key"), http.Header{webhook.SignatureHeader: {header}}, body, time.Hour)
		require.ErrorIs(t, err, webhook.ErrSignature)
	})
}
