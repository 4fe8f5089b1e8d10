package stunwire

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	pion "github.com/pion/stun/v2"
	"github.com/stretchr/testify/require"
)

// FuzzParse holds Parse against pion/stun: both take and refuse the same
// messages, see the same attributes (but for those behind the integrity,
// which pion shows) and agree on integrity and fingerprint.
func FuzzParse(f *testing.F) {
	for _, b := range [][]byte{rfc5769Request, rfc5769IPv4, rfc5769IPv6, rfc5769LongTerm, raw(),
		raw(attr(AttrSoftware, 1, 2, 3), attr(AttrMessageIntegrity, make([]byte, 20)...), attr(AttrLifetime, 0, 0, 0, 1)),
		raw(attr(AttrMessageIntegritySHA256, make([]byte, 16)...), attr(AttrFingerprint, 1, 2, 3, 4), attr(AttrMessageIntegrity)),
		raw([]byte{0, 6, 0xFF, 0xFF}), raw(attr(0x8020, 0, 1, 0, 7, 1, 2, 3, 4))} {
		f.Add(b)
	}
	key := NewKey([]byte(shortSecret))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		var m Message
		err := m.Parse(b)
		require.Equal(t, before, b)
		p := &pion.Message{Raw: bytes.Clone(b)}
		perr := p.Decode()
		if !Is(b) {
			require.ErrorIs(t, err, ErrNotSTUN)
			return
		}
		if perr == nil && len(p.Attributes) <= maxAttributes {
			require.NoError(t, err)
		}
		if err != nil {
			require.False(t, perr == nil && len(p.Attributes) <= maxAttributes, "%v", err)
			return
		}
		require.NoError(t, perr)
		require.EqualValues(t, p.Type.Method, m.Type.Method())
		require.EqualValues(t, p.Type.Class, m.Type.Class())
		require.EqualValues(t, p.TransactionID, m.TxID)
		require.EqualValues(t, p.Type.Value(), m.Type)

		// pion's attributes by the rule.
		var want []pion.RawAttribute
		var mi, mi2, fp bool
		for _, a := range p.Attributes {
			switch {
			case fp, mi2 && a.Type != pion.AttrFingerprint,
				mi && a.Type != pion.AttrFingerprint && a.Type != pion.AttrMessageIntegritySHA256:
				continue
			}
			mi, mi2, fp = mi || a.Type == pion.AttrMessageIntegrity, mi2 || a.Type == pion.AttrMessageIntegritySHA256, fp || a.Type == pion.AttrFingerprint
			want = append(want, a)
		}
		for a, v := range m.Each {
			require.NotEmpty(t, want)
			if a == 0x8020 { // pion takes it for the XOR-MAPPED-ADDRESS that it was in a draft
				a = AttrXORMappedAddress
			}
			require.EqualValues(t, want[0].Type, a)
			require.Equal(t, want[0].Value, bytes.Clone(v))
			want = want[1:]
			m.Addr(v)
			m.XORAddr(v)
			ErrorCode(v)
			m.Get(a)
		}
		require.Empty(t, want)
		m.Unknown(nil, func(Attr) bool { return false })

		if v, ok := m.Get(AttrMessageIntegrity); ok && len(v) == 20 {
			require.Equal(t, pion.MessageIntegrity(shortSecret).Check(p) == nil, m.CheckIntegrity(key))
		}
		m.CheckIntegritySHA256(key)
		if _, valid := m.Fingerprint(); valid {
			require.NoError(t, pion.Fingerprint.Check(p))
		}
	})
}

// FuzzBuild builds the same message with pion/stun.
func FuzzBuild(f *testing.F) {
	f.Add(uint16(1), []byte("value"), uint16(0x20), []byte{192, 0, 2, 1}, uint16(3478), "secret", "reason")
	f.Add(uint16(0x8022), []byte{}, uint16(0x7FFF), make([]byte, 16), uint16(0), "", "")
	f.Fuzz(func(t *testing.T, method uint16, v []byte, a uint16, ip []byte, port uint16, secret, reason string) {
		addr, ok := netip.AddrFromSlice(ip)
		// pion knows 0x8020 as another, and does not add what follows a fingerprint.
		if !ok || len(v) > 1000 || len(reason) > maxReason || a == 0x8020 || Attr(a) == AttrFingerprint || Attr(a) == AttrMessageIntegrity {
			return
		}
		key := NewKey([]byte(secret))
		b := Build([]byte("before"), NewType(Method(method&0xFFF), Error), testID)
		b.Add(Attr(a), v)
		b.AddXORAddr(AttrXORMappedAddress, netip.AddrPortFrom(addr, port))
		b.AddAddr(AttrMappedAddress, netip.AddrPortFrom(addr, port))
		b.AddError(438, reason)
		b.AddUnknown([]Attr{Attr(method), Attr(a), 7})
		b.AddIntegrity(key)
		b.AddFingerprint()
		require.NoError(t, b.Err())
		require.Equal(t, "before", string(b.Bytes()[:6]))
		got := b.Bytes()[6:]
		require.Equal(t, len(got), b.Len())

		ap := pion.MappedAddress{IP: net.IP(addr.Unmap().AsSlice()), Port: int(port)}
		xor := pion.XORMappedAddress{IP: ap.IP, Port: ap.Port}
		p := new(pion.Message)
		p.Type = pion.NewType(pion.Method(method&0xFFF), pion.ClassErrorResponse)
		p.TransactionID = testID
		p.WriteHeader()
		p.Add(pion.AttrType(a), v)
		require.NoError(t, xor.AddTo(p))
		require.NoError(t, ap.AddTo(p))
		require.NoError(t, pion.ErrorCodeAttribute{Code: 438, Reason: []byte(reason)}.AddTo(p))
		// pion's UnknownAttributes takes four bytes for each; RFC 8489 has two.
		p.Add(pion.AttrUnknownAttributes, []byte{byte(method >> 8), byte(method), byte(a >> 8), byte(a), 0, 7})
		require.NoError(t, pion.MessageIntegrity(secret).AddTo(p))
		require.NoError(t, pion.Fingerprint.AddTo(p))
		require.Equal(t, p.Raw, got)

		var m Message
		require.NoError(t, m.Parse(got))
		present, valid := m.Fingerprint()
		require.True(t, present && valid)
		if Attr(a) != AttrMessageIntegritySHA256 {
			require.True(t, m.CheckIntegrity(key))
		}
	})
}

// FuzzChannelData: a frame of a stream and the same bytes as a datagram say
// the same.
func FuzzChannelData(f *testing.F) {
	f.Add([]byte{0x40, 0, 0, 3, 'a', 'b', 'c', 0})
	f.Add([]byte{0x7F, 0xFF, 0xFF, 0xFF})
	f.Add(raw())
	f.Fuzz(func(t *testing.T, b []byte) {
		number, data, ok := ChannelData(b)
		total, padded, err := FrameSize(b)
		require.GreaterOrEqual(t, padded, total)
		require.LessOrEqual(t, padded, 65552)
		if ok {
			require.NoError(t, err)
			require.Equal(t, total, ChannelHeader+len(data))
			require.Equal(t, b[:total], append(AppendChannelHeader(nil, number, len(data)), data...))
		}
		if Is(b) {
			require.NoError(t, err)
			require.False(t, ok)
			require.Equal(t, len(b), total)
		}
	})
}
