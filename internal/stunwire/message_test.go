package stunwire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var testID = TxID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

// raw makes a message of attributes as they are given: no rule is kept.
func raw(attrs ...[]byte) []byte {
	body := bytes.Join(attrs, nil)
	b := []byte{0, 1, byte(len(body) >> 8), byte(len(body)), 0x21, 0x12, 0xA4, 0x42}
	return append(append(b, testID[:]...), body...)
}

func attr(a Attr, value ...byte) []byte {
	b := []byte{byte(a >> 8), byte(a), byte(len(value) >> 8), byte(len(value))}
	b = append(b, value...)
	for len(b)&3 != 0 {
		b = append(b, 0xEE) // padding may be anything
	}
	return b
}

func TestType(t *testing.T) {
	require.EqualValues(t, 0x0001, NewType(Binding, Request))
	require.EqualValues(t, 0x0011, NewType(Binding, Indication))
	require.EqualValues(t, 0x0101, NewType(Binding, Success))
	require.EqualValues(t, 0x0111, NewType(Binding, Error))
	require.EqualValues(t, 0x0113, NewType(Allocate, Error))
	for m := range Method(0x1000) {
		for c := range Class(4) {
			typ := NewType(m, c)
			require.Less(t, typ, Type(0x4000))
			require.Equal(t, m, typ.Method())
			require.Equal(t, c, typ.Class())
		}
	}
	require.Equal(t, "CreatePermission success", NewType(CreatePermission, Success).String())
	require.Equal(t, "XOR-PEER-ADDRESS", AttrXORPeerAddress.String())
	require.Equal(t, "attribute 0x7fff", Attr(0x7FFF).String())
}

func TestParseRefuses(t *testing.T) {
	ok := raw(attr(AttrSoftware, 1, 2, 3))
	require.NoError(t, new(Message).Parse(ok))
	change := func(i int, v byte) []byte {
		b := bytes.Clone(ok)
		b[i] = v
		return b
	}
	for name, test := range map[string]struct {
		b   []byte
		err error
	}{
		"nothing":                {nil, ErrNotSTUN},
		"half a header":          {ok[:19], ErrNotSTUN},
		"cut":                    {ok[:len(ok)-1], ErrNotSTUN},
		"a byte too many":        {append(bytes.Clone(ok), 0), ErrNotSTUN},
		"first bits":             {change(0, 0x40), ErrNotSTUN},
		"cookie":                 {change(7, 0), ErrNotSTUN},
		"length not in words":    {change(3, 7), ErrNotSTUN},
		"attribute too long":     {change(23, 5), ErrAttribute},
		"attribute of 65535":     {raw([]byte{0, 6, 0xFF, 0xFF}), ErrAttribute},
		"attribute without data": {raw([]byte{0, 6, 0, 1}), ErrAttribute},
		"257 attributes":         {raw(bytes.Repeat(attr(AttrSoftware), 257)), ErrAttributes},
	} {
		m := Message{Raw: ok, end: len(ok)}
		require.ErrorIs(t, m.Parse(test.b), test.err, name)
		_, found := m.Get(AttrSoftware)
		require.False(t, found, name)
		require.Nil(t, m.Raw, name)
	}
	require.NoError(t, new(Message).Parse(raw(bytes.Repeat(attr(AttrSoftware), 256))))
}

// TestAttributesAfterIntegrity: what is appended to a protected message is
// not seen, whatever it is (RFC 8489 Sections 14.5 to 14.7).
func TestAttributesAfterIntegrity(t *testing.T) {
	lifetime, user := attr(AttrLifetime, 0, 0, 0, 9), attr(AttrUsername, 'a')
	mi, mi2 := attr(AttrMessageIntegrity, make([]byte, 20)...), attr(AttrMessageIntegritySHA256, make([]byte, 32)...)
	fp := attr(AttrFingerprint, 0, 0, 0, 0)
	for name, test := range map[string]struct {
		attrs   [][]byte
		visible []Attr
	}{
		"none":                       {[][]byte{user, lifetime}, []Attr{AttrUsername, AttrLifetime}},
		"after SHA-1":                {[][]byte{user, mi, lifetime}, []Attr{AttrUsername, AttrMessageIntegrity}},
		"after SHA-256":              {[][]byte{user, mi2, lifetime}, []Attr{AttrUsername, AttrMessageIntegritySHA256}},
		"both":                       {[][]byte{user, mi, mi2, fp}, []Attr{AttrUsername, AttrMessageIntegrity, AttrMessageIntegritySHA256, AttrFingerprint}},
		"between both":               {[][]byte{user, mi, lifetime, mi2, lifetime, fp}, []Attr{AttrUsername, AttrMessageIntegrity, AttrMessageIntegritySHA256, AttrFingerprint}},
		"SHA-1 after SHA-256":        {[][]byte{user, mi2, mi, lifetime}, []Attr{AttrUsername, AttrMessageIntegritySHA256}},
		"second SHA-1":               {[][]byte{mi, lifetime, mi}, []Attr{AttrMessageIntegrity}},
		"after the fingerprint":      {[][]byte{user, fp, lifetime, mi}, []Attr{AttrUsername, AttrFingerprint}},
		"before the fingerprint too": {[][]byte{user, mi, lifetime, fp, lifetime}, []Attr{AttrUsername, AttrMessageIntegrity, AttrFingerprint}},
	} {
		var m Message
		require.NoError(t, m.Parse(raw(test.attrs...)), name)
		var got []Attr
		for a, v := range m.Each {
			got = append(got, a)
			first, ok := m.Get(a)
			require.True(t, ok, name)
			require.Equal(t, first, v, name)
		}
		require.Equal(t, test.visible, got, name)
		require.Equal(t, slices.Contains(test.visible, AttrLifetime), m.Has(AttrLifetime), name)
		if !slices.Contains(test.visible, AttrLifetime) {
			require.NotContains(t, m.Unknown(nil, func(Attr) bool { return false }), AttrLifetime, name)
		}
		visible := m.AppendVisible([]byte("x"))[1:]
		var again Message
		require.NoError(t, again.Parse(visible), name)
		require.Len(t, visible, len(m.Raw)-hidden(&m), name)
		for a := range m.Each { // stops when told
			require.Equal(t, test.visible[0], a, name)
			break
		}
	}
}

// hidden is how many bytes of a message may not be seen.
func hidden(m *Message) int {
	n := len(m.Raw) - HeaderSize
	for _, v := range m.Each {
		n -= attrHeader + padded(len(v))
	}
	return n
}

// TestIntegrityStands: appended attributes neither break the check of what is
// before them nor get in.
func TestIntegrityStands(t *testing.T) {
	key := NewKey([]byte("secret"))
	b := Build(nil, NewType(Refresh, Request), testID)
	b.AddString(AttrUsername, "a")
	b.AddIntegrity(key)
	b.Add(AttrLifetime, []byte{0, 0, 0, 9})
	b.AddIntegritySHA256(key)
	b.AddFingerprint()
	var m Message
	require.NoError(t, m.Parse(b.Bytes()))
	require.True(t, m.CheckIntegrity(key))
	require.True(t, m.CheckIntegritySHA256(key))
	present, valid := m.Fingerprint()
	require.True(t, present && valid)
	require.False(t, m.Has(AttrLifetime))
	var visible Message
	require.NoError(t, visible.Parse(m.AppendVisible(nil)))
	require.True(t, visible.CheckIntegrity(key))
	require.False(t, visible.CheckIntegritySHA256(key), "it counted what is gone")

	extended := append(bytes.Clone(b.Bytes()), attr(AttrSoftware)...)
	binary.BigEndian.PutUint16(extended[2:], uint16(len(extended)-HeaderSize))
	require.NoError(t, m.Parse(extended))
	require.True(t, m.CheckIntegrity(key))
	present, valid = m.Fingerprint()
	require.True(t, present)
	require.False(t, valid, "it is not the last")
}

func TestTruncatedSHA256(t *testing.T) {
	key := NewKey([]byte("secret"))
	for n := range 40 {
		b := Build(nil, NewType(Binding, Request), testID)
		b.AddString(AttrUsername, "a")
		at := b.Len()
		b.Add(AttrMessageIntegritySHA256, make([]byte, n))
		full := b.Bytes()
		sum := new(hasher).macOf(key, full[:at], at+attrHeader+n)
		copy(full[at+attrHeader:], sum[:min(n, len(sum))])
		var m Message
		require.NoError(t, m.Parse(full))
		require.Equal(t, n >= 16 && n <= 32 && n%4 == 0, m.CheckIntegritySHA256(key), n)
	}
}

func TestUnknown(t *testing.T) {
	var m Message
	require.NoError(t, m.Parse(raw(
		attr(AttrUsername, 'a'), attr(0x7FFF), attr(AttrSoftware), attr(0x00FF), attr(0x7FFF), attr(0xC0DE),
		attr(AttrMessageIntegrity, make([]byte, 20)...), attr(0x7FFE))))
	known := func(a Attr) bool { return a == AttrUsername }
	require.Equal(t, []Attr{0x7FFF, 0x00FF}, m.Unknown(nil, known))

	b := Build(nil, NewType(Binding, Error), testID)
	b.AddUnknown(m.Unknown(nil, known))
	b.AddError(420, "Unknown Attribute")
	require.NoError(t, m.Parse(b.Bytes()))
	v, _ := m.Get(AttrUnknownAttributes)
	require.Equal(t, []byte{0x7F, 0xFF, 0, 0xFF}, v)
	v, _ = m.Get(AttrErrorCode)
	code, reason, ok := ErrorCode(v)
	require.True(t, ok)
	require.Equal(t, 420, code)
	require.Equal(t, "Unknown Attribute", string(reason))
}

func TestErrorCode(t *testing.T) {
	for _, v := range [][]byte{nil, {0, 0, 4}, {0, 0, 2, 99}, {0, 0, 7, 0}, {0, 0, 4, 100}} {
		_, _, ok := ErrorCode(v)
		require.False(t, ok, v)
	}
	code, _, ok := ErrorCode([]byte{0xFF, 0xFF, 0xFC, 37}) // reserved bits are ignored
	require.True(t, ok)
	require.Equal(t, 437, code)
}

func TestAddresses(t *testing.T) {
	for _, test := range []struct{ in, out string }{
		{"192.0.2.1:1", "192.0.2.1:1"}, {"0.0.0.0:65535", "0.0.0.0:65535"},
		{"[2001:db8::1]:3478", "[2001:db8::1]:3478"}, {"[::ffff:192.0.2.1]:7", "192.0.2.1:7"},
	} {
		b := Build(nil, NewType(Binding, Success), testID)
		b.AddAddr(AttrMappedAddress, netip.MustParseAddrPort(test.in))
		b.AddXORAddr(AttrXORMappedAddress, netip.MustParseAddrPort(test.in))
		require.NoError(t, b.Err())
		var m Message
		require.NoError(t, m.Parse(b.Bytes()))
		plain, _ := m.Get(AttrMappedAddress)
		mixed, _ := m.Get(AttrXORMappedAddress)
		ap, err := m.Addr(plain)
		require.NoError(t, err)
		require.Equal(t, test.out, ap.String())
		ap, err = m.XORAddr(mixed)
		require.NoError(t, err)
		require.Equal(t, test.out, ap.String())
		require.NotEqual(t, plain, mixed)
	}
	// On the wire, IPv4-mapped stays what it is: canonicalising is the reader's.
	mapped := append([]byte{0, FamilyIPv6, 0, 7}, netip.MustParseAddr("::ffff:192.0.2.1").AsSlice()...)
	ap, err := new(Message).Addr(mapped)
	require.NoError(t, err)
	require.True(t, ap.Addr().Is4In6())
	for _, v := range [][]byte{nil, {0, 1, 0}, make([]byte, 8), {0, 1, 0, 7, 1, 2, 3, 4, 5}, {0, 2, 0, 7, 1, 2, 3, 4}, make([]byte, 20)} {
		_, err := new(Message).XORAddr(v)
		require.ErrorIs(t, err, ErrAttribute, v)
	}
	b := Build(nil, NewType(Binding, Success), testID)
	b.AddAddr(AttrMappedAddress, netip.AddrPort{})
	require.ErrorIs(t, b.Err(), ErrAttribute)
	require.Empty(t, b.Bytes())
}

// TestPaddingIsZero: memory that held something else does not get out
// (CVE-2020-4067).
func TestPaddingIsZero(t *testing.T) {
	dirty := bytes.Repeat([]byte{0xEE}, 256)
	b := Build(dirty[:3], NewType(Binding, Error), testID)
	b.AddString(AttrSoftware, "a")
	b.Add(AttrNonce, []byte("bb"))
	b.AddError(401, "ccc")
	b.AddUnknown([]Attr{1})
	got := b.Bytes()
	require.Equal(t, dirty[:3], got[:3])
	require.Equal(t, 2, bytes.Count(got, []byte{0xEE})-1)
	require.NoError(t, new(Message).Parse(got[3:]))
}

func TestBuilderIsBounded(t *testing.T) {
	b := Build([]byte("before"), NewType(Send, Indication), testID)
	b.Add(AttrData, make([]byte, maxBody-attrHeader))
	require.NoError(t, b.Err())
	require.NoError(t, new(Message).Parse(b.Bytes()[6:]))
	b.AddUint32(AttrLifetime, 1)
	b.AddIntegrity(NewKey(nil))
	b.AddIntegritySHA256(NewKey(nil))
	b.AddFingerprint()
	b.AddAddr(AttrMappedAddress, netip.MustParseAddrPort("1.2.3.4:5"))
	b.AddError(400, "")
	b.AddUnknown(nil)
	b.AddString(AttrSoftware, "")
	require.ErrorIs(t, b.Err(), ErrTooLong)
	require.Equal(t, "before", string(b.Bytes()))

	b = Build(nil, NewType(Binding, Error), testID)
	b.AddError(400, strings.Repeat("x", 1000))
	var m Message
	require.NoError(t, m.Parse(b.Bytes()))
	v, _ := m.Get(AttrErrorCode)
	require.Len(t, v, 4+maxReason)
}

func TestChannelData(t *testing.T) {
	msg := append(AppendChannelHeader([]byte("x"), 0x4001, 3), "abc"...)[1:]
	for name, b := range map[string][]byte{"bare": msg, "padded": append(bytes.Clone(msg), 0), "more": append(bytes.Clone(msg), 1, 2, 3, 4, 5)} {
		number, data, ok := ChannelData(b)
		require.True(t, ok, name)
		require.EqualValues(t, 0x4001, number, name)
		require.Equal(t, "abc", string(data), name)
		require.Equal(t, 3, cap(data), name)
	}
	for _, b := range [][]byte{nil, msg[:3], msg[:6], {0x80, 0, 0, 0}, {0x3F, 0xFF, 0, 0}, {0x40, 0, 0xFF, 0xFF}} {
		_, _, ok := ChannelData(b)
		require.False(t, ok, b)
	}
}

func TestFrameSize(t *testing.T) {
	for _, test := range []struct {
		h            []byte
		total, frame int
		err          error
	}{
		{nil, 0, 0, nil},
		{[]byte{0, 1, 0}, 0, 0, nil},
		{[]byte{0, 1, 0, 8}, 28, 28, nil},
		{[]byte{0, 1, 0xFF, 0xFC}, 65552, 65552, nil},
		{[]byte{0, 1, 0, 7}, 0, 0, ErrFrame},
		{[]byte{0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42}, 28, 28, nil},
		{[]byte{0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x43}, 0, 0, ErrFrame},
		{[]byte{0x40, 0, 0, 3}, 7, 8, nil},
		{[]byte{0x7F, 0xFF, 0xFF, 0xFF}, 65539, 65540, nil},
		{[]byte{0x80, 0, 0, 0}, 0, 0, ErrFrame},
		{[]byte("GET / HTTP/1.1"), 4 + 'T'<<8 + ' ', 4 + 'T'<<8 + ' ', nil}, // as much a channel as anything
		{[]byte{0x16, 0x03, 0x01, 0x02}, 0, 0, ErrFrame},                    // TLS
	} {
		total, frame, err := FrameSize(test.h)
		require.ErrorIs(t, err, test.err, test.h)
		require.Equal(t, test.total, total, test.h)
		require.Equal(t, test.frame, frame, test.h)
	}
}
