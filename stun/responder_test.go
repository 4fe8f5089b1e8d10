package stun

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

var (
	testFrom  = netip.MustParseAddrPort("192.0.2.1:40000")
	testFrom6 = netip.MustParseAddrPort("[2001:db8::1]:40000")
	testAddrs = [4]netip.AddrPort{
		netip.MustParseAddrPort("198.51.100.1:3478"), netip.MustParseAddrPort("198.51.100.1:3479"),
		netip.MustParseAddrPort("198.51.100.2:3478"), netip.MustParseAddrPort("198.51.100.2:3479"),
	}
)

func binding(add func(b *stunwire.Builder)) []byte {
	b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), stunwire.TxID{1, 2, 3})
	if add != nil {
		add(&b)
	}
	return b.Bytes()
}

func parse(t *testing.T, b []byte) *stunwire.Message {
	t.Helper()
	m := new(stunwire.Message)
	require.NoError(t, m.Parse(b))
	require.Equal(t, stunwire.TxID{1, 2, 3}, m.TxID)
	return m
}

func TestResponder(t *testing.T) {
	for _, from := range []netip.AddrPort{testFrom, testFrom6} {
		m := parse(t, new(Responder).Append(nil, binding(nil), from))
		require.Equal(t, stunwire.NewType(stunwire.Binding, stunwire.Success), m.Type)
		ap, err := mapped(m)
		require.NoError(t, err)
		require.Equal(t, from, ap)
		count := 0
		for range m.Each {
			count++
		}
		require.Equal(t, 1, count, "SOFTWARE and FINGERPRINT are off")
	}
	r := Responder{Software: "Runnel", Fingerprint: true}
	m := parse(t, r.Append(nil, binding(nil), testFrom))
	v, _ := m.Get(stunwire.AttrSoftware)
	require.Equal(t, "Runnel", string(v))
	_, valid := m.Fingerprint()
	require.True(t, valid)

	// Who sends a fingerprint gets one; a wrong one means that it is not STUN.
	asked := binding(func(b *stunwire.Builder) { b.AddFingerprint() })
	m = parse(t, new(Responder).Append(nil, asked, testFrom))
	_, valid = m.Fingerprint()
	require.True(t, valid)
	asked[len(asked)-1]++
	require.Empty(t, new(Responder).Append(nil, asked, testFrom))

	require.Equal(t, "before", string(new(Responder).Append([]byte("before"), asked, testFrom)))
	require.Equal(t, "before", string(new(Responder).Append([]byte("before"), binding(nil), testFrom)[:6]))
	for name, typ := range map[string]stunwire.Type{
		"indication": stunwire.NewType(stunwire.Binding, stunwire.Indication), "success": stunwire.NewType(stunwire.Binding, stunwire.Success),
		"error": stunwire.NewType(stunwire.Binding, stunwire.Error), "Allocate": stunwire.NewType(stunwire.Allocate, stunwire.Request),
	} {
		b := stunwire.Build(nil, typ, stunwire.TxID{})
		require.Empty(t, new(Responder).Append(nil, b.Bytes(), testFrom), name)
	}
}

// TestUnknownAttributes: 420 lists what was not understood; known ones that
// mean nothing here are ignored (RFC 8489 Section 6.3.1).
func TestUnknownAttributes(t *testing.T) {
	m := parse(t, new(Responder).Append(nil, binding(func(b *stunwire.Builder) {
		b.AddString(stunwire.AttrUsername, "user")
		b.AddUint32(0x7F01, 1)
		b.AddUint32(0xC001, 1)
		b.AddUint32(stunwire.AttrLifetime, 1)
	}), testFrom))
	require.Equal(t, stunwire.NewType(stunwire.Binding, stunwire.Error), m.Type)
	v, _ := m.Get(stunwire.AttrUnknownAttributes)
	require.Equal(t, []byte{0x7F, 0x01, 0, 0x0D}, v)
	require.Equal(t, 420, code(t, m))

	m = parse(t, new(Responder).Append(nil, binding(func(b *stunwire.Builder) {
		b.AddString(stunwire.AttrUsername, "user")
		b.AddIntegrity(stunwire.NewKey([]byte("unknown")))
	}), testFrom))
	require.Equal(t, stunwire.Success, m.Type.Class())

	// A check of ICE, by who is to make it and by others.
	ice := binding(func(b *stunwire.Builder) {
		b.AddString(stunwire.AttrUsername, "user")
		b.AddUint32(stunwire.AttrPriority, 1)
		b.Add(stunwire.AttrUseCandidate, nil)
		b.AddIntegrity(stunwire.NewKey([]byte("pass")))
	})
	m = parse(t, (&Responder{Verifier: &Verifier{Key: users("user")}}).Append(nil, ice, testFrom))
	require.Equal(t, stunwire.Success, m.Type.Class())
	require.True(t, m.CheckIntegrity(stunwire.NewKey([]byte("pass"))))
	require.Equal(t, 420, code(t, parse(t, new(Responder).Append(nil, ice, testFrom))))

	many := parse(t, new(Responder).Append(nil, binding(func(b *stunwire.Builder) {
		for i := range stunwire.Attr(200) {
			b.Add(0x7000+i, nil)
		}
	}), testFrom))
	v, _ = many.Get(stunwire.AttrUnknownAttributes)
	require.Len(t, v, 32)
}

func code(t *testing.T, m *stunwire.Message) int {
	t.Helper()
	v, _ := m.Get(stunwire.AttrErrorCode)
	c, _, ok := stunwire.ErrorCode(v)
	require.True(t, ok)
	return c
}

func addrOf(t *testing.T, m *stunwire.Message, a stunwire.Attr) netip.AddrPort {
	t.Helper()
	v, ok := m.Get(a)
	require.True(t, ok, a)
	ap, err := m.Addr(v)
	require.NoError(t, err)
	return ap
}

// TestChangeRequest is the table of RFC 5780 Section 6.1, for all four
// sockets.
func TestChangeRequest(t *testing.T) {
	r := Responder{Addrs: testAddrs}
	for through := range Socket(4) {
		for flags, flip := range map[uint32]Socket{0: 0, changePort: AlternatePort, changeAddress: AlternateAddress, changePort | changeAddress: Alternate} {
			out, a := r.Answer(nil, binding(func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrChangeRequest, flags) }), testFrom, through)
			require.Equal(t, Answer{To: testFrom, From: through ^ flip}, a)
			m := parse(t, out)
			require.Equal(t, testFrom, addrOf(t, m, stunwire.AttrMappedAddress))
			require.Equal(t, testAddrs[through^flip], addrOf(t, m, stunwire.AttrResponseOrigin))
			require.Equal(t, testAddrs[through^3], addrOf(t, m, stunwire.AttrOtherAddress))
		}
	}
	// Off, it is not understood, nor are the others.
	for _, attr := range []stunwire.Attr{stunwire.AttrChangeRequest, stunwire.AttrResponsePort, stunwire.AttrPadding} {
		out, a := new(Responder).Answer(nil, binding(func(b *stunwire.Builder) { b.AddUint32(attr, changePort) }), testFrom, Primary)
		require.Equal(t, 420, a.Code, attr)
		m := parse(t, out)
		require.Equal(t, 420, code(t, m))
		require.False(t, m.Has(stunwire.AttrOtherAddress))
	}
	// Append has one socket: so it is off there too.
	require.Equal(t, 420, code(t, parse(t, r.Append(nil, binding(func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrChangeRequest, 0) }), testFrom))))
}

func TestResponsePort(t *testing.T) {
	r := Responder{Addrs: testAddrs}
	for _, v := range [][]byte{{0x10, 0x01}, {0x10, 0x01, 0, 0}} {
		out, a := r.Answer(nil, binding(func(b *stunwire.Builder) { b.Add(stunwire.AttrResponsePort, v) }), testFrom, Primary)
		require.Equal(t, Answer{To: netip.MustParseAddrPort("192.0.2.1:4097")}, a)
		ap, err := mapped(parse(t, out))
		require.NoError(t, err)
		require.Equal(t, testFrom, ap, "where it came from, not where it goes")
	}
	for name, add := range map[string]func(b *stunwire.Builder){
		"port 0":   func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrResponsePort, 0) },
		"one byte": func(b *stunwire.Builder) { b.Add(stunwire.AttrResponsePort, []byte{1}) },
		"with padding": func(b *stunwire.Builder) {
			b.AddUint32(stunwire.AttrResponsePort, 1<<16)
			b.AddUint32(stunwire.AttrPadding, 0)
		},
		"short change": func(b *stunwire.Builder) { b.Add(stunwire.AttrChangeRequest, []byte{2}) },
	} {
		_, a := r.Answer(nil, binding(add), testFrom, Primary)
		require.Equal(t, Answer{To: testFrom, Code: 400}, a, name)
	}
}

// TestAmplification: whatever is asked, the answer is not much larger.
func TestAmplification(t *testing.T) {
	full := Responder{Addrs: [4]netip.AddrPort{testFrom6, testFrom6, testFrom6, testFrom6}}
	for _, test := range []struct {
		r    *Responder
		from netip.AddrPort
		more int
	}{{new(Responder), testFrom, 12}, {new(Responder), testFrom6, 24}, {&Responder{Addrs: testAddrs}, testFrom, 48}, {&full, testFrom6, 96}} {
		for _, padding := range []int{-1, 0, 4, 1499, 1500, 1900} {
			if padding >= 0 && !test.r.nat() {
				continue
			}
			raw := binding(func(b *stunwire.Builder) {
				if padding >= 0 {
					b.Add(stunwire.AttrPadding, make([]byte, padding))
				}
			})
			out, a := test.r.Answer(nil, raw, test.from, Primary)
			require.Zero(t, a.Code)
			require.LessOrEqual(t, len(out), len(raw)+test.more)
			v, ok := parse(t, out).Get(stunwire.AttrPadding)
			require.Equal(t, padding > 0, ok)
			require.Equal(t, max(0, min(padding&^3, maxPadding)), len(v))
		}
	}
	challenge := Responder{Verifier: &Verifier{Realm: "realm", NonceSecret: testSecret, Key: users()}}
	require.Less(t, len(challenge.Append(nil, binding(nil), testFrom)), 128)
}

func FuzzResponder(f *testing.F) {
	f.Add(binding(nil), true, uint8(1))
	f.Add(binding(func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrChangeRequest, 6) }), true, uint8(0))
	f.Add(binding(func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrResponsePort, 1<<16) }), true, uint8(2))
	v := &Verifier{Realm: "realm", NonceSecret: testSecret, Key: users("user"), Anonymous: true}
	short := &Verifier{Key: users("user")}
	l := &login{user: "user", realm: "realm", nonce: PasswordAlgorithms.Cookie(), offer: appendAlgorithms(nil, SHA256, MD5), chosen: SHA256, key: stunwire.NewKey(nil), sha256: true}
	f.Add(request(l), false, uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, nat bool, through uint8) {
		r := Responder{Verifier: v}
		if through&4 != 0 {
			r.Verifier = short
		}
		if nat {
			r = Responder{Addrs: testAddrs}
		}
		out, a := r.Answer(nil, b, testFrom, Socket(through))
		if len(out) == 0 {
			return
		}
		require.Less(t, a.From, Socket(4))
		require.Equal(t, testFrom.Addr(), a.To.Addr(), "never to another")
		require.NoError(t, new(stunwire.Message).Parse(out))
		require.LessOrEqual(t, len(out), len(b)+160)
	})
}

func TestResponderAllocations(t *testing.T) {
	plain, nat := &Responder{Software: "Runnel"}, &Responder{Addrs: testAddrs, Fingerprint: true}
	dst := make([]byte, 0, 2048)
	raw := binding(nil)
	change := binding(func(b *stunwire.Builder) {
		b.AddUint32(stunwire.AttrChangeRequest, 6)
		b.Add(stunwire.AttrPadding, make([]byte, 1000))
	})
	bad := binding(func(b *stunwire.Builder) { b.AddUint32(0x7F01, 1) })
	require.Zero(t, testing.AllocsPerRun(100, func() {
		plain.Append(dst, raw, testFrom)
		plain.Append(dst, bad, testFrom)
		nat.Answer(dst, change, testFrom, Alternate)
	}))
}

func BenchmarkResponder(b *testing.B) {
	r := new(Responder)
	dst, raw := make([]byte, 0, 2048), binding(nil)
	b.ReportAllocs()
	for b.Loop() {
		r.Append(dst, raw, testFrom)
	}
}
