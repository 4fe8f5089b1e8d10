package turnauth_test

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// foreign is the token of coturn's own example script for RFC 7635.
func foreign(t testing.TB) (key *turnauth.OAuthKey, token []byte) {
	unbase64 := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	key = &turnauth.OAuthKey{ID: "1234", Secret: unbase64("SEdrajMyS0pHaXV5MDk4c2RmYXFiTmpPaWF6NzE5MjM=")}
	return key, unbase64("AAy1JBYVLo16iq9gFdHyyknmx5T/Lq9YlbxgUdLcStOFS0H8xhHceHOL2f49qxp4uBpGuuLeLqk+RcAa5uP2EQ==")
}

func TestForeignToken(t *testing.T) {
	key, sealed := foreign(t)
	token, err := key.Open(sealed, "example.com")
	require.NoError(t, err)
	require.Equal(t, "ZksjpweoixXmvn67534m", string(token.MACKey))
	require.Equal(t, int64(249231600), token.Issued.Unix())
	require.Equal(t, time.Hour, token.Lifetime)
	for i := range sealed {
		bad := append([]byte(nil), sealed...)
		bad[i] ^= 1
		_, err := key.Open(bad, "example.com")
		require.Error(t, err, "byte %d", i)
	}
	_, err = key.Open(sealed, "example.org")
	require.Error(t, err)
}

func TestSeal(t *testing.T) {
	for _, algorithm := range []string{"", "A256GCM", "A128GCM", " a128gcm"} {
		key := &turnauth.OAuthKey{ID: "k", Secret: []byte("01234567890123456789012345678901\n"), Algorithm: algorithm}
		require.NoError(t, key.Check())
		for _, size := range []int{1, 20, 32, 64} {
			in := &turnauth.Token{MACKey: make([]byte, size), Issued: time.Unix(1767225600, 500_000_000), Lifetime: 90 * time.Second}
			sealed, err := key.Seal(in, "turn.example")
			require.NoError(t, err)
			require.LessOrEqual(t, len(sealed), 2+12+2+64+8+4+16)
			out, err := key.Open(sealed, "turn.example")
			require.NoError(t, err)
			require.Equal(t, in, out)
			again, err := key.Seal(in, "turn.example")
			require.NoError(t, err)
			require.NotEqual(t, sealed, again, "a nonce is used once")
		}
		for name, bad := range map[string]turnauth.Token{
			"no key":                {Issued: time.Unix(1, 0), Lifetime: time.Second},
			"a long key":            {MACKey: make([]byte, 65), Issued: time.Unix(1, 0), Lifetime: time.Second},
			"no lifetime":           {MACKey: make([]byte, 20), Issued: time.Unix(1, 0), Lifetime: time.Millisecond},
			"no time":               {MACKey: make([]byte, 20), Lifetime: time.Second},
			"a long, long lifetime": {MACKey: make([]byte, 20), Issued: time.Unix(1, 0), Lifetime: 1 << 62},
		} {
			_, err := key.Seal(&bad, "turn.example")
			require.Error(t, err, name)
		}
	}
	for name, key := range map[string]turnauth.OAuthKey{
		"no id":         {Secret: make([]byte, 32)},
		"too short":     {ID: "k", Secret: make([]byte, 31)},
		"too short 128": {ID: "k", Secret: make([]byte, 15), Algorithm: "A128GCM"},
		"unknown":       {ID: "k", Secret: make([]byte, 32), Algorithm: "A192GCM"},
	} {
		require.Error(t, key.Check(), name)
	}
}

// TestOAuthTokenBounds is CVE-2026-43994 of coturn: a length that the token
// itself gives must not lead beyond it, whoever sealed it.
func TestOAuthTokenBounds(t *testing.T) {
	key, sealed := foreign(t)
	for n := range len(sealed) {
		_, err := key.Open(sealed[:n], "example.com")
		require.Error(t, err, "%d bytes", n)
	}
	for _, n := range []uint16{0, 1, 11, 13, 16, 255, 0x7fff, 0xffff} {
		bad := append([]byte(nil), sealed...)
		binary.BigEndian.PutUint16(bad, n)
		_, err := key.Open(bad, "example.com")
		require.Error(t, err, "nonce_length %d", n)
	}
	_, err := key.Open(make([]byte, 1<<16), "example.com")
	require.Error(t, err)
	for _, n := range []uint16{0, 19, 21, 0xffff} { // key_length, sealed by whoever has the key
		_, err := key.Open(sealRaw(t, key, n), "example.com")
		require.Error(t, err, "key_length %d", n)
	}
	_, err = key.Open(sealRaw(t, key, 20), "example.com")
	require.NoError(t, err)
}

func TestOAuth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		secret := []byte("01234567890123456789012345678901")
		store := newFake()
		store.keys["north"] = &turnauth.OAuthKey{ID: "north", Secret: secret, Realm: "crinna.org"}
		store.keys["old"] = &turnauth.OAuthKey{ID: "old", Secret: secret, Issued: now.Add(-time.Hour), Lifetime: time.Hour - 5*time.Second}
		store.keys["bad"] = &turnauth.OAuthKey{ID: "bad", Secret: secret[:8]}
		oauth := &turnauth.OAuth{Key: store.OAuthKey, ServerName: "turn.example"}
		macKey := []byte("a session key of 20.")

		by := func(id string, issued time.Time, lifetime time.Duration, server string) *client {
			sealed, err := (&turnauth.OAuthKey{ID: id, Secret: secret}).Seal(&turnauth.Token{MACKey: macKey, Issued: issued, Lifetime: lifetime}, server)
			require.NoError(t, err)
			return &client{user: id, realm: "r", key: macKey, token: string(sealed)}
		}
		g := requireUser(t, oauth, by("north", now, time.Minute, "turn.example").request(t), "north")
		require.Equal(t, "crinna.org", g.Realm)
		require.Equal(t, now.Add(65*time.Second), g.Expires)
		coturn := by("north", now, time.Minute, "turn.example")
		coturn.key = macKey[:16] // as coturn's client signs
		requireUser(t, oauth, coturn.request(t), "north")
		requireUser(t, oauth, by("north", now.Add(-64*time.Second), time.Minute, "turn.example").request(t), "north")
		requireUser(t, oauth, by("north", now.Add(64*time.Second), time.Minute, "turn.example").request(t), "north")
		requireUser(t, &turnauth.OAuth{Key: store.OAuthKey}, by("north", now, time.Minute, "r").request(t), "north")

		requireDenied(t, oauth, by("north", now.Add(-65*time.Second), time.Minute, "turn.example").request(t))
		requireDenied(t, oauth, by("north", now.Add(65*time.Second), time.Minute, "turn.example").request(t))
		requireDenied(t, oauth, by("north", now, time.Minute, "other.example").request(t))
		requireDenied(t, oauth, by("unknown", now, time.Minute, "turn.example").request(t))
		requireDenied(t, oauth, by("old", now, time.Minute, "turn.example").request(t))
		thief := by("north", now, time.Minute, "turn.example")
		thief.key = []byte("another key of 20 b.")
		requireDenied(t, oauth, thief.request(t))
		long := by("north", now, time.Minute, "turn.example")
		long.token += string(make([]byte, 1000))
		requireDenied(t, oauth, long.request(t))
		requireDenied(t, oauth, (&client{user: "north", realm: "r", key: macKey}).request(t))
		requireDenied(t, &turnauth.OAuth{}, by("north", now, time.Minute, "turn.example").request(t))

		_, err := oauth.Authorize(t.Context(), by("bad", now, time.Minute, "turn.example").request(t))
		require.Error(t, err)
		require.NotErrorIs(t, err, auth.ErrDenied, "the operator is to hear of a key that is none")
		store.err = errors.New("down")
		_, err = oauth.Authorize(t.Context(), by("north", now, time.Minute, "turn.example").request(t))
		require.ErrorIs(t, err, store.err)
	})
}

func FuzzOpen(f *testing.F) {
	key, sealed := foreign(f)
	f.Add(sealed, "example.com")
	f.Add(sealed[:40], "example.com")
	f.Add([]byte{0, 12}, "")
	f.Add(sealRaw(f, key, 0xffff), "example.com")
	f.Fuzz(func(t *testing.T, b []byte, server string) {
		token, err := key.Open(b, server)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(token.MACKey), 64)
		token.Valid(time.Unix(0, 0))
	})
}
