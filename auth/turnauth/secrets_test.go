package turnauth_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// The password was made with: printf 1767225600:alice | openssl dgst -sha1
// -hmac north -binary | base64, and with -sha256.
func TestCredentials(t *testing.T) {
	at := time.Unix(1767225600, 5)
	name, password := turnauth.Credentials("north", "alice", at)
	require.Equal(t, "1767225600:alice", name)
	require.Equal(t, "qnVCfmDqv+5N7tpxKH0liO/huIU=", password)
	_, password = turnauth.CredentialsSHA256("north", "alice", at)
	require.Equal(t, "eBR+DXpmuGE60w8P9gsvTgeZSsRp+XCSK780qBoyvLQ=", password)
	name, _ = turnauth.Credentials("north", "", at)
	require.Equal(t, "1767225600", name)
}

// TestSecrets runs at synctest's time, which begins in 2000.
func TestSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soon := time.Now().Add(time.Minute)
		s := &turnauth.Secrets{List: turnauth.Static("old", "", "new")}
		by := func(secret, user string, expires time.Time) *client {
			name, password := turnauth.Credentials(secret, user, expires)
			return &client{user: name, realm: "r", password: password}
		}
		g := requireUser(t, s, by("new", "alice", soon).request(t), "alice")
		require.Equal(t, soon, g.Expires)
		requireUser(t, s, by("old", "alice", soon).request(t), "alice")
		only := by("old", "", soon)
		requireUser(t, s, only.request(t), only.user)

		name, password := turnauth.CredentialsSHA256("new", "alice", soon)
		sha256 := &client{user: name, realm: "r", password: password}
		requireUser(t, s, sha256.request(t), "alice")
		strict := &turnauth.Secrets{List: s.List, SHA256Only: true}
		requireUser(t, strict, sha256.request(t), "alice")
		requireDenied(t, strict, by("new", "alice", soon).request(t))

		requireDenied(t, s, by("other", "alice", soon).request(t))
		requireDenied(t, s, by("", "alice", soon).request(t)) // an empty secret is none
		expired := by("new", "alice", time.Now())
		requireDenied(t, s, expired.request(t))
		require.Zero(t, expired.tried)
		later := by("new", "alice", soon)
		later.user = later.user[:len("946684860")-1] + "9:alice" // a later time, the password of the earlier
		requireDenied(t, s, later.request(t))

		noRealm := by("new", "alice", soon)
		noRealm.realm = ""
		requireDenied(t, s, noRealm.request(t))
		hash := by("new", "alice", soon).request(t)
		hash.User, hash.UserHash = "", make([]byte, 32)
		requireDenied(t, s, hash)
	})
}

func TestSecretsNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const soon = "946684801"
		for name, want := range map[string]string{
			soon + ":alice":                       "alice",
			soon + ":alice:bob":                   "alice:bob",
			"alice:" + soon:                       "alice",
			":" + soon:                            ":" + soon,
			soon + ":":                            soon + ":",
			soon:                                  soon,
			"99999999999:alice":                   "alice",
			"0946684801:alice":                    "alice",
			"alice":                               "",
			"alice:bob":                           "",
			soon + "x:alice":                      "",
			"-" + soon + ":alice":                 "",
			"+" + soon + ":alice":                 "",
			" " + soon + ":alice":                 "",
			"999999999999:alice":                  "",
			"9223372036854775808:alice":           "",
			"alice:" + soon + ":x":                "",
			"":                                    "",
			":":                                   "",
			soon + ":" + strings.Repeat("a", 512): "",
		} {
			c := &client{user: name, realm: "r"}
			_, c.password = credentialsOf("s", name)
			s := &turnauth.Secrets{List: turnauth.Static("s")}
			if want == "" {
				requireDenied(t, s, c.request(t))
			} else {
				requireUser(t, s, c.request(t), want)
			}
		}
		c := &client{user: soon + "|alice", realm: "r"}
		_, c.password = credentialsOf("s", c.user)
		requireUser(t, &turnauth.Secrets{List: turnauth.Static("s"), Separator: "|"}, c.request(t), "alice")
	})
}

func TestSecretsOfAStore(t *testing.T) {
	name, password := turnauth.Credentials("s", "alice", time.Now().Add(time.Hour))
	c := &client{user: name, realm: "r", password: password}
	down := errors.New("down")
	_, err := (&turnauth.Secrets{List: func(context.Context, string) ([]string, error) { return nil, down }}).Authorize(t.Context(), c.request(t))
	require.ErrorIs(t, err, down)
	_, err = (&turnauth.Secrets{List: turnauth.Static(strings.Split(strings.Repeat("s ", 65), " ")...)}).Authorize(t.Context(), c.request(t))
	require.Error(t, err)
	require.NotErrorIs(t, err, auth.ErrDenied)
	requireDenied(t, &turnauth.Secrets{}, c.request(t))
	requireDenied(t, &turnauth.Secrets{List: turnauth.Static()}, c.request(t))
}
