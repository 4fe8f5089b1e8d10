package turnauth_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// A client is a TURN client that knows a password, or the key itself, and
// proves it as MESSAGE-INTEGRITY does.
type client struct {
	user, realm, password string
	key                   []byte
	short, sha256         bool
	token                 string
	tried                 int // how often a proof was asked for
}

// request is what a server makes of a message of the client.
func (c *client) request(t testing.TB) *auth.Request {
	t.Helper()
	const message = "what is signed"
	sign := func(key []byte) []byte {
		mac := hmac.New(sha1.New, key)
		mac.Write([]byte(message))
		return mac.Sum(nil)
	}
	derive := func(password string) []byte {
		switch {
		case c.short:
			return []byte(password)
		case c.sha256:
			return turnauth.KeySHA256(c.user, c.realm, password)
		}
		return turnauth.Key(c.user, c.realm, password)
	}
	key := c.key
	if key == nil {
		key = derive(c.password)
	}
	sent := sign(key)
	r := &auth.Request{Action: auth.Relay, Protocol: "turn", User: c.user, Realm: c.realm, Token: c.token}
	r.Proof = func(s auth.Secret) bool {
		c.tried++
		switch {
		case s.Plain != "":
			return bytes.Equal(sign(derive(s.Plain)), sent)
		case c.sha256:
			return s.KeySHA256 != nil && bytes.Equal(sign(s.KeySHA256), sent)
		}
		return s.Key != nil && bytes.Equal(sign(s.Key), sent)
	}
	return r
}

func hashed(user, realm string) []byte {
	sum := sha256.Sum256([]byte(user + ":" + realm))
	return sum[:]
}

func requireDenied(t testing.TB, a auth.Authorizer, r *auth.Request) {
	t.Helper()
	g, err := a.Authorize(t.Context(), r)
	require.ErrorIs(t, err, auth.ErrDenied)
	require.Nil(t, g)
}

func requireUser(t testing.TB, a auth.Authorizer, r *auth.Request, user string) *auth.Grant {
	t.Helper()
	g, err := a.Authorize(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, user, g.User)
	return g
}

// credentialsOf signs a name as it is, with HMAC-SHA1.
func credentialsOf(secret, name string) (string, string) {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(name))
	return name, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// sealRaw seals a block with a key of 20 bytes that claims another length.
func sealRaw(t testing.TB, key *turnauth.OAuthKey, length uint16) []byte {
	t.Helper()
	block, err := aes.NewCipher(key.Secret[:32])
	require.NoError(t, err)
	aead, err := cipher.NewGCM(block)
	require.NoError(t, err)
	plain := binary.BigEndian.AppendUint16(nil, length)
	plain = append(plain, make([]byte, 20+8+4)...)
	nonce := make([]byte, 12)
	return aead.Seal(append([]byte{0, 12}, nonce...), nonce, plain, []byte("example.com"))
}
