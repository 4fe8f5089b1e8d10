package declared

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

const key = "a key of 16 bytes or more"

func TestAuthorizer(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	soon := time.Now().Add(time.Hour)
	for name, d := range map[string]*stream.Declaration{
		"live/keyed":    {KeyHash: HashKey(key), MaxBitRate: 5e6, Expires: soon},
		"live/open":     {MaxBitRate: 5e6},
		"live/disabled": {Disabled: true},
		"live/over":     {KeyHash: HashKey(key), Expires: time.Now().Add(-time.Second)},
		"live/rtmp":     {Protocols: []string{"rtmp", "rtmps"}},
		"live/full":     {MaxViewers: 1},
	} {
		require.NoError(t, hub.Declare(name, d))
	}
	hub.OpenSession(stream.SessionInfo{Role: stream.RolePlay, Stream: "live/full"}, nil)
	hub.OpenSession(stream.SessionInfo{Role: stream.RolePublish, Stream: "live/keyed"}, nil)
	next := &auth.Grant{User: "next", Limits: auth.Limits{BitRate: 1e6}}
	a := &Authorizer{Hub: hub, Next: auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		if r.Token == "no" {
			return nil, auth.ErrDenied
		}
		return next, nil
	})}
	for _, c := range []struct {
		what     string
		r        auth.Request
		user     string
		rate     int64
		says     string
		expiring bool
	}{
		{"key", auth.Request{Action: auth.Publish, Stream: "live/keyed", Token: key}, "", 5e6, "", true},
		{"wrong key", auth.Request{Action: auth.Publish, Stream: "live/keyed", Token: key + "x"}, "", 0, "wrong publish key", false},
		{"no key", auth.Request{Action: auth.Publish, Stream: "live/keyed"}, "", 0, "wrong publish key", false},
		{"key to play", auth.Request{Action: auth.Play, Stream: "live/keyed"}, "next", 1e6, "", false},
		{"no key needed", auth.Request{Action: auth.Publish, Stream: "live/open"}, "next", 1e6, "", false},
		{"the next refuses", auth.Request{Action: auth.Publish, Stream: "live/open", Token: "no"}, "", 0, "denied", false},
		{"disabled", auth.Request{Action: auth.Publish, Stream: "live/disabled"}, "", 0, "disabled", false},
		{"disabled, to play", auth.Request{Action: auth.Play, Stream: "live/disabled"}, "next", 1e6, "", false},
		{"expired", auth.Request{Action: auth.Publish, Stream: "live/over", Token: key}, "", 0, "expired", false},
		{"protocol", auth.Request{Action: auth.Publish, Stream: "live/rtmp", Protocol: "rtmps"}, "next", 1e6, "", false},
		{"other protocol", auth.Request{Action: auth.Publish, Stream: "live/rtmp", Protocol: "srt"}, "", 0, "protocol", false},
		{"full", auth.Request{Action: auth.Play, Stream: "live/full"}, "", 0, "viewers", false},
		{"not declared", auth.Request{Action: auth.Publish, Stream: "live/x"}, "next", 1e6, "", false},
		{"something else", auth.Request{Action: auth.Admin, Stream: "live/disabled"}, "next", 1e6, "", false},
	} {
		g, err := a.Authorize(t.Context(), &c.r)
		if c.says != "" {
			require.ErrorIs(t, err, auth.ErrDenied, c.what)
			require.ErrorContains(t, err, c.says, c.what)
			require.NotContains(t, err.Error(), key)
			continue
		}
		require.NoError(t, err, c.what)
		require.Equal(t, c.user, g.User, c.what)
		require.Equal(t, c.rate, g.Limits.BitRate, c.what)
		require.Equal(t, c.expiring, g.Expires.Equal(soon), c.what)
	}
	require.Equal(t, &auth.Grant{User: "next", Limits: auth.Limits{BitRate: 1e6}}, next, "it is not ours to change")

	a.Only.Store(true)
	_, err := a.Authorize(t.Context(), &auth.Request{Action: auth.Publish, Stream: "live/x"})
	require.ErrorContains(t, err, "not declared")
	_, err = a.Authorize(t.Context(), &auth.Request{Action: auth.Play, Stream: "live/x"})
	require.NoError(t, err)
	a = &Authorizer{Hub: hub}
	_, err = a.Authorize(t.Context(), &auth.Request{Action: auth.Play, Stream: "live/x"})
	require.ErrorIs(t, err, auth.ErrDenied)
}

// TestFile: a restart keeps all of it, and no key is in the file.
func TestFile(t *testing.T) {
	f := &File{Path: filepath.Join(t.TempDir(), "streams.json")}
	hub := &stream.Hub{}
	require.NoError(t, f.Load(hub))
	want := &stream.Declaration{
		Title: "Café <b>", Labels: map[string]string{"a": "b"}, KeyHash: HashKey(key), Replace: true, Protocols: []string{"rtmp"},
		Expires: time.Now().UTC().Round(0), MaxViewers: 3, MaxBitRate: 4,
	}
	require.NoError(t, hub.Declare("live/a", want))
	require.NoError(t, hub.Declare("live/b", &stream.Declaration{}))
	require.NoError(t, f.Save(t.Context(), hub))
	text, err := os.ReadFile(f.Path)
	require.NoError(t, err)
	require.NotContains(t, string(text), key)

	again := &stream.Hub{}
	require.NoError(t, f.Load(again))
	got := *again.Declaration("live/a")
	require.True(t, got.Created.Equal(hub.Declaration("live/a").Created))
	got.Created, got.Changed = time.Time{}, time.Time{}
	require.Equal(t, want, &got)
	require.NotNil(t, again.Declaration("live/b"))

	for _, text := range []string{"[", `{"live/a": null}`, `{"live/a": {"key_hash": "AAAA"}}`, `{"../a": {}}`} {
		require.NoError(t, os.WriteFile(f.Path, []byte(text), 0o600))
		require.Error(t, f.Load(&stream.Hub{}), text)
	}
}

func ExampleAuthorizer() {
	hub := &stream.Hub{}
	defer hub.Close()
	if err := hub.Declare("live/cam", &stream.Declaration{Title: "The camera", KeyHash: HashKey(key)}); err != nil {
		fmt.Println(err)
	}
	a := &Authorizer{Hub: hub, Next: auth.AllowAll}
	a.Only.Store(true)
	for _, r := range []auth.Request{{Stream: "live/cam", Token: key}, {Stream: "live/cam"}, {Stream: "live/other"}} {
		r.Action = auth.Publish
		_, err := a.Authorize(context.Background(), &r)
		fmt.Println(r.Stream, errors.Is(err, auth.ErrDenied))
	}
	// Output:
	// live/cam false
	// live/cam true
	// live/other true
}
