package turnauth_test

import (
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
)

func TestCheckRow(t *testing.T) {
	key := strings.Repeat("a", 32)
	for name, c := range map[string]struct {
		table   turnauth.Table
		in, out turnauth.Row // no out: refused
	}{
		"user":                {turnauth.UserTable, turnauth.Row{"r", "al'ice %s", "0x" + key}, turnauth.Row{"r", "al'ice %s", key}},
		"user without a key":  {turnauth.UserTable, turnauth.Row{"r", "alice", "secret"}, turnauth.Row{}},
		"user without name":   {turnauth.UserTable, turnauth.Row{"r", "", key}, turnauth.Row{}},
		"a zero in a name":    {turnauth.UserTable, turnauth.Row{"r", "a\x00b", key}, turnauth.Row{}},
		"a name of no text":   {turnauth.UserTable, turnauth.Row{"r", "\xff", key}, turnauth.Row{}},
		"a long realm":        {turnauth.UserTable, turnauth.Row{strings.Repeat("r", 128), "a", key}, turnauth.Row{}},
		"secret":              {turnauth.SecretTable, turnauth.Row{"r", "s", ""}, turnauth.Row{"r", "s", ""}},
		"secret of no realm":  {turnauth.SecretTable, turnauth.Row{"", "s", ""}, turnauth.Row{}},
		"prefix":              {turnauth.DenyTable, turnauth.Row{"", "10.0.0.0/8", ""}, turnauth.Row{"", "10.0.0.0-10.255.255.255", ""}},
		"no range":            {turnauth.AllowTable, turnauth.Row{"", "10.0.0.0/99", ""}, turnauth.Row{}},
		"origin":              {turnauth.OriginTable, turnauth.Row{"r", "HTTPS://Example.org", ""}, turnauth.Row{"r", "https://example.org:443", ""}},
		"option":              {turnauth.OptionTable, turnauth.Row{"r", "max-bps", " 5 "}, turnauth.Row{"r", "max-bps", "5"}},
		"unknown option":      {turnauth.OptionTable, turnauth.Row{"r", "max-bpm", "5"}, turnauth.Row{}},
		"option of no number": {turnauth.OptionTable, turnauth.Row{"r", "max-bps", "5k"}, turnauth.Row{}},
		"negative option":     {turnauth.OptionTable, turnauth.Row{"r", "max-bps", "-1"}, turnauth.Row{}},
		"clear password":      {turnauth.AdminTable, turnauth.Row{"", "admin", "secret"}, turnauth.Row{}},
		"no table":            {turnauth.Table(99), turnauth.Row{"r", "a", ""}, turnauth.Row{}},
	} {
		got, err := c.table.Check(c.in)
		if c.out == (turnauth.Row{}) {
			require.Error(t, err, name)
			require.NotContains(t, err.Error(), "secret", name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, c.out, got, name)
	}
}

func rowsOf(list ...turnauth.Row) iter.Seq2[turnauth.Row, error] {
	return func(yield func(turnauth.Row, error) bool) {
		for _, r := range list {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestOptions(t *testing.T) {
	o, err := turnauth.Options(rowsOf(turnauth.Row{"r", "max-bps", "1000"}, turnauth.Row{"r", "user-quota", "2"},
		turnauth.Row{"r", "total-quota", " 3"}, turnauth.Row{"r", "of-somebody-else", "4"}))
	require.NoError(t, err)
	require.Equal(t, auth.RealmOptions{BitRate: 8000, UserQuota: 2, TotalQuota: 3}, o)
	_, err = turnauth.Options(rowsOf(turnauth.Row{"r", "max-bps", "lots"}))
	require.Error(t, err)
	down := errors.New("down")
	_, err = turnauth.Options(func(yield func(turnauth.Row, error) bool) { yield(turnauth.Row{}, down) })
	require.ErrorIs(t, err, down)
}

func TestRanges(t *testing.T) {
	list, err := turnauth.Ranges(rowsOf(turnauth.Row{"", "172.17.13.133-172.17.14.56", ""}, turnauth.Row{"r", "123::45", ""}))
	require.NoError(t, err)
	require.Len(t, list, 2)
	_, err = turnauth.Ranges(rowsOf(turnauth.Row{"r", "172.17.14.56-172.17.13.133", ""}))
	require.Error(t, err)
}

func TestCanonicalOrigin(t *testing.T) {
	for in, want := range map[string]string{
		"http://crinna.org":          "http://crinna.org:80",
		"HTTPS://Example.ORG/path?q": "https://example.org:443",
		"https://example.org:8443":   "https://example.org:8443",
		"https://[2001:DB8::1]":      "https://[2001:db8::1]:443",
		"chrome-extension://abc":     "chrome-extension://abc",
		"null":                       "null",
		"":                           "",
		"http://%zz":                 "http://%zz",
		"http://a' OR '1'='1:80":     "http://a' OR '1'='1:80",
	} {
		require.Equal(t, want, turnauth.CanonicalOrigin(in), in)
		require.Equal(t, want, turnauth.CanonicalOrigin(want), in)
	}
}

// The stored passwords are those of coturn's sample database.
func TestAdminPassword(t *testing.T) {
	const skarling = "$5$6fc35c3b0c7d4633$27fca7574f9b79d0cb93ae03e45379470cbbdfcacdd6401f97ebc620f31f54f2"
	require.True(t, turnauth.CheckAdminPassword(skarling, "hoodless"))
	require.True(t, turnauth.CheckAdminPassword(skarling+"   ", "hoodless"))
	require.False(t, turnauth.CheckAdminPassword(skarling, "hoodles"))
	require.False(t, turnauth.CheckAdminPassword(skarling[:50], "hoodless"))
	require.False(t, turnauth.CheckAdminPassword("hoodless", "hoodless"))
	require.False(t, turnauth.CheckAdminPassword("", ""))
	require.False(t, turnauth.CheckAdminPassword("$5$$", ""))
	made := turnauth.AdminPassword("x")
	require.True(t, turnauth.CheckAdminPassword(made, "x"))
	require.NotEqual(t, made, turnauth.AdminPassword("x"))
}

func TestDecodeOAuthKey(t *testing.T) {
	k := turnauth.DecodeOAuthKey("union", "MTIzNDU2Nzg5MDEyMzQ1Ngo=", 0, 0, "A128GCM ", "north.gov")
	require.NoError(t, k.Check())
	require.Zero(t, k.Lifetime)
	require.True(t, k.Issued.IsZero())
	secret, issued, lifetime, err := k.Encode()
	require.NoError(t, err)
	require.Equal(t, []any{"MTIzNDU2Nzg5MDEyMzQ1Ngo=", int64(0), int64(0)}, []any{secret, issued, lifetime})
	k = turnauth.DecodeOAuthKey("k", "%%%", 5, 7, "", "")
	require.Error(t, k.Check())
	require.Equal(t, time.Unix(5, 0), k.Issued)
	require.Equal(t, 7*time.Second, k.Lifetime)
}
