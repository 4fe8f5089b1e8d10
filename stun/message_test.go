package stun

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	pion "github.com/pion/stun/v2"
	"github.com/stretchr/testify/require"
)

// protected is a message of pion's with something appended behind its
// integrity, by which pion alone is fooled.
func protected(t testing.TB) (raw, appended []byte) {
	m, err := pion.Build(pion.BindingRequest, pion.TransactionID, pion.NewUsername("user"), pion.NewShortTermIntegrity("pass"))
	require.NoError(t, err)
	raw = bytes.Clone(m.Raw)
	m.Add(pion.AttrLifetime, []byte{0, 0, 0, 9})
	return raw, m.Raw
}

func TestDecode(t *testing.T) {
	raw, appended := protected(t)
	fooled := &Message{Raw: bytes.Clone(appended)}
	require.NoError(t, fooled.Decode())
	require.NoError(t, pion.NewShortTermIntegrity("pass").Check(fooled))
	require.True(t, fooled.Contains(pion.AttrLifetime), "why Decode is there")

	for _, b := range [][]byte{raw, appended} {
		m, err := Decode(b)
		require.NoError(t, err)
		require.False(t, m.Contains(pion.AttrLifetime))
		require.NoError(t, pion.NewShortTermIntegrity("pass").Check(m))
		var user pion.Username
		require.NoError(t, user.GetFrom(m))
		require.Equal(t, "user", user.String())
		require.Equal(t, raw, m.Raw)
		b[len(raw)-30] ^= 1
		require.Equal(t, "user", user.String(), "it is a copy")
		b[len(raw)-30] ^= 1
	}
	for _, b := range [][]byte{nil, raw[:20], append(bytes.Clone(raw), 0)} {
		_, err := Decode(b)
		require.ErrorIs(t, err, ErrNotSTUN)
	}
}

func FuzzDecode(f *testing.F) {
	raw, appended := protected(f)
	f.Add(raw)
	f.Add(appended)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		after := false
		for _, a := range m.Attributes {
			switch a.Type {
			case pion.AttrMessageIntegrity:
				after = true
			case pion.AttrMessageIntegritySHA256, pion.AttrFingerprint:
			default:
				require.False(t, after, "%v", a.Type)
			}
		}
		require.Equal(t, int(binary.BigEndian.Uint16(m.Raw[2:])), len(m.Raw)-20)
		MappedAddress(m)
	})
}

func TestOpaqueString(t *testing.T) {
	for in, want := range map[string]string{
		"TheMatrIX":    "TheMatrIX",
		"マトリックス":       "マトリックス",  // RFC 8489 B.1
		"foo\u1680bar": "foo bar", // RFC 8265 Section 4.3
		"Jack of ♦s":   "Jack of ♦s",
		"π ß å":        "π ß å",
		"a\u030A":      "å", // NFC
		" !\"~":        " !\"~",
	} {
		got, err := OpaqueString(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"", "my cat is a \tby", "\x00", "a\x7F", "\xFF", "The\u00ADM\u00AAtr\u2168"} {
		_, err := OpaqueString(in)
		require.Error(t, err, "%q", in)
		_, err = LongTermKey("user", "realm", in, MD5)
		require.Error(t, err)
		_, err = LongTermKey("user", in, "pass", MD5)
		require.Error(t, err)
		_, err = UserHash(in, "realm")
		require.Error(t, err)
		_, err = UserHash("user", in)
		require.Error(t, err)
	}
}

func TestKeys(t *testing.T) {
	key, err := LongTermKey("user", "realm", "pass", MD5) // RFC 8489 Section 9.2.2
	require.NoError(t, err)
	require.Equal(t, "8493fbc53ba582fb4c044c456bdc40eb", hex.EncodeToString(key))
	_, err = LongTermKey("user", "realm", "pass", 3)
	require.Error(t, err)
	hash, err := UserHash("マトリックス", "example.org") // RFC 8489 B.1
	require.NoError(t, err)
	require.Equal(t, "4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704", hex.EncodeToString(hash))
}

func TestNonceFeatures(t *testing.T) {
	f, ok := NonceFeatures("obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA") // RFC 8489 B.1: a bit that nobody knows
	require.True(t, ok)
	require.EqualValues(t, 2, f)
	for _, f := range []Features{0, PasswordAlgorithms, UsernameAnonymity, PasswordAlgorithms | UsernameAnonymity, 1<<24 - 1} {
		require.Len(t, f.Cookie(), 13)
		got, ok := NonceFeatures(f.Cookie() + "whatever")
		require.True(t, ok)
		require.Equal(t, f, got)
	}
	require.Equal(t, "obMatJos2gAAA", PasswordAlgorithms.Cookie())
	for _, nonce := range []string{"", "obMatJos2", "obMatJos2AA", "obMatJos2====", "obMatJos2AAA\n", "ObMatJos2AAAA"} {
		_, ok := NonceFeatures(nonce)
		require.False(t, ok, "%q", nonce)
	}
}

func TestNonces(t *testing.T) {
	n := nonces{secret: testSecret, features: PasswordAlgorithms, algorithms: []byte{0, 2, 0, 0}, life: time.Minute}
	from, now := netip.MustParseAddrPort("192.0.2.1:1000"), time.Now().Truncate(time.Millisecond)
	nonce := n.append(nil, from, now)
	require.Len(t, nonce, nonceSize)
	require.Less(t, len(nonce), 128)
	require.True(t, n.valid(nonce, from, now.Add(time.Minute)))
	require.True(t, n.valid(nonce, netip.MustParseAddrPort("[::ffff:192.0.2.1]:1000"), now))
	require.False(t, n.valid(nonce, from, now.Add(time.Minute+2*time.Millisecond)))
	require.False(t, n.valid(nonce, from, now.Add(-2*time.Minute)), "of the future")
	require.False(t, n.valid(nonce, netip.MustParseAddrPort("192.0.2.2:1000"), now))
	for i := range nonce {
		changed := bytes.Clone(nonce)
		changed[i] ^= 1
		require.False(t, n.valid(changed, from, now), i)
	}
	other := n
	other.features |= UsernameAnonymity
	require.False(t, other.valid(nonce, from, now))
}

func FuzzAlgorithms(f *testing.F) {
	f.Add([]byte{0, 2, 0, 0, 0, 1, 0, 0})
	f.Add([]byte{0, 9, 0, 3, 1, 2, 3, 0, 0, 2, 0, 0})
	f.Add([]byte{0, 9, 0, 3, 1, 2, 3})
	f.Add([]byte{0, 9, 255, 255})
	f.Fuzz(func(t *testing.T, v []byte) {
		list, err := parseAlgorithms(v)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(list), 16)
		again, err := parseAlgorithms(appendAlgorithms(nil, list...))
		require.NoError(t, err)
		require.Equal(t, list, again)
	})
}

func TestAlgorithms(t *testing.T) {
	list, err := parseAlgorithms([]byte{0, 9, 0, 3, 1, 2, 3, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0})
	require.NoError(t, err)
	require.Equal(t, []Algorithm{SHA256, MD5}, list)
	for _, v := range [][]byte{{0}, {0, 2, 0}, {0, 2, 0, 1}, {0, 2, 0, 0, 0}} {
		_, err := parseAlgorithms(v)
		require.Error(t, err, v)
	}
}
