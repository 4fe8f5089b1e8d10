package stunwire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// The messages of RFC 5769 Sections 2.1 to 2.4.
var (
	rfc5769Request = unhex(`00010058 2112a442 b7e7a701bc34d686fa87dfae
		80220010 5354554e207465737420636c69656e74
		00240004 6e0001ff 80290008 932ff9b151263b36
		00060009 6576746a3a68367659202020
		00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
		80280004 e57a3bcf`)
	rfc5769IPv4 = unhex(`0101003c 2112a442 b7e7a701bc34d686fa87dfae
		8022000b 7465737420766563746f7220 00200008 0001a147e112a643
		00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7
		80280004 c07d4c96`)
	rfc5769IPv6 = unhex(`01010048 2112a442 b7e7a701bc34d686fa87dfae
		8022000b 7465737420766563746f7220
		00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9
		00080014 a382954e4be67bf11784c97c8292c275bfe3ed41
		80280004 c8fb0b4c`)
	rfc5769LongTerm = unhex(`00010060 2112a442 78ad3433c6ad72c029da412e
		00060012 e3839ee38388e383aae38383e382afe382b90000
		0015001c 662f2f3439396b39353464364f4c33346f4c39465354767936347341
		0014000b 6578616d706c652e6f726700
		00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666`)
)

const (
	matrix      = "マトリックス"
	shortSecret = "VOkJxbRl1RmTxUk/WvJxBt"
)

func TestRFC5769(t *testing.T) {
	short := NewKey([]byte(shortSecret))
	long := NewKey(LongTermKey(matrix, "example.org", "TheMatrIX", MD5))
	for _, test := range []struct {
		name        string
		raw         []byte
		typ         Type
		key         *Key
		attr        Attr
		text        string
		addr        string
		fingerprint bool
	}{
		{"2.1 request", rfc5769Request, NewType(Binding, Request), short, AttrUsername, "evtj:h6vY", "", true},
		{"2.2 IPv4 response", rfc5769IPv4, NewType(Binding, Success), short, AttrSoftware, "test vector", "192.0.2.1:32853", true},
		{"2.3 IPv6 response", rfc5769IPv6, NewType(Binding, Success), short, AttrSoftware, "test vector", "[2001:db8:1234:5678:11:2233:4455:6677]:32853", true},
		{"2.4 long-term request", rfc5769LongTerm, NewType(Binding, Request), long, AttrUsername, matrix, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var m Message
			require.NoError(t, m.Parse(test.raw))
			require.Equal(t, test.typ, m.Type)
			v, ok := m.Get(test.attr)
			require.True(t, ok)
			require.Equal(t, test.text, string(v))
			if test.addr != "" {
				v, _ := m.Get(AttrXORMappedAddress)
				ap, err := m.XORAddr(v)
				require.NoError(t, err)
				require.Equal(t, netip.MustParseAddrPort(test.addr), ap)
			}
			present, valid := m.Fingerprint()
			require.Equal(t, test.fingerprint, present)
			require.Equal(t, test.fingerprint, valid)
			require.True(t, m.CheckIntegrity(test.key))
			require.False(t, m.CheckIntegrity(NewKey([]byte("another"))))
			require.False(t, m.CheckIntegritySHA256(test.key), "there is none")

			for i := range test.raw { // every bit of it counts
				changed := append([]byte(nil), test.raw...)
				changed[i] ^= 1
				if m.Parse(changed) != nil {
					continue
				}
				_, valid := m.Fingerprint()
				require.False(t, valid && m.CheckIntegrity(test.key), "byte %d", i)
			}
		})
	}
}

// rfc8489B1 is the message of RFC 8489 Appendix B.1, as printed but for its
// length, without MESSAGE-INTEGRITY-SHA256.
const rfc8489B1 = ` 2112a442 78ad3433c6ad72c029da412e
	001e0020 4a3cf38fef6992bda952c6780417da0f2481941556 9e60b205c46e41407f1704
	00150029 6f624d61744a6f7332414141 43662f2f3439396b39353464364f4c33346f4c39465354767936347341 000000
	0014000b 6578616d706c652e6f726700`

// TestRFC8489B1: the message of the appendix says it is 0x9c bytes long and is
// 0x88; its HMAC is right for what it says. The corrected message (erratum
// 6268) has PASSWORD-ALGORITHM too and passes as a whole.
func TestRFC8489B1(t *testing.T) {
	hash := UserHash(matrix, "example.org")
	secret := LongTermKey(matrix, "example.org", "TheMatrIX", SHA256)
	key := NewKey(secret)

	const printed = "e4686c8f0edeb59013e07090010a93efccbccc544c0a45d9f830aa6d6f735a01"
	raw := unhex("0001009c" + rfc8489B1)
	mac := hmac.New(sha256.New, secret)
	mac.Write(raw)
	require.Equal(t, printed, hex.EncodeToString(mac.Sum(nil)), "the key is right")
	require.Equal(t, printed, hex.EncodeToString(new(hasher).macOf(key, raw, 20+0x9c)), "so are the cached states")
	raw = append(raw, unhex("001c0020"+printed)...)
	require.ErrorIs(t, new(Message).Parse(raw), ErrNotSTUN, "what is not as long as it says is refused")

	raw = unhex("00010090" + rfc8489B1 + "001d000400020000" +
		"001c0020 b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65")
	var m Message
	require.NoError(t, m.Parse(raw))
	v, _ := m.Get(AttrUserHash)
	require.Equal(t, hash[:], v)
	v, _ = m.Get(AttrNonce)
	require.Equal(t, "obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA", string(v))
	require.True(t, m.CheckIntegritySHA256(key))
	require.False(t, m.CheckIntegrity(key))
	require.False(t, m.CheckIntegritySHA256(NewKey(LongTermKey(matrix, "example.org", "TheMatrIX", MD5))))

	b := Build(nil, m.Type, m.TxID)
	b.Add(AttrUserHash, hash[:])
	b.AddString(AttrNonce, "obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA")
	b.AddString(AttrRealm, "example.org")
	b.AddUint32(AttrPasswordAlgorithm, uint32(SHA256)<<16)
	b.AddIntegritySHA256(key)
	require.Equal(t, raw, b.Bytes())
}

// macOf is mac with SHA-256 for a message that ends elsewhere than it says.
func (h *hasher) macOf(k *Key, raw []byte, end int) []byte {
	return h.mac(sha256.New(), &k.sha256, k.secret, raw, len(raw), end)
}

// The example of RFC 8489 Section 9.2.2.
func TestLongTermKey(t *testing.T) {
	require.Equal(t, "8493fbc53ba582fb4c044c456bdc40eb", hex.EncodeToString(LongTermKey("user", "realm", "pass", MD5)))
	require.Len(t, LongTermKey("user", "realm", "pass", SHA256), 32)
	require.Nil(t, LongTermKey("user", "realm", "pass", 3))
}
