package stunwire

import (
	"net"
	"net/netip"
	"testing"

	pion "github.com/pion/stun/v2"
	"github.com/stretchr/testify/require"
)

var (
	benchFrom    = netip.MustParseAddrPort("192.0.2.1:40000")
	benchBinding = func() []byte { b := Build(nil, NewType(Binding, Request), testID); return b.Bytes() }()
)

// answer is what a server does for a Binding.
func answer(m *Message, dst, b []byte) []byte {
	if m.Parse(b) != nil {
		return dst
	}
	r := Build(dst, NewType(Binding, Success), m.TxID)
	r.AddXORAddr(AttrXORMappedAddress, benchFrom)
	r.AddFingerprint()
	return r.Bytes()
}

// answerICE checks a request of ICE and answers it.
func answerICE(m *Message, k *Key, dst, b []byte) []byte {
	if m.Parse(b) != nil {
		return dst
	}
	if _, valid := m.Fingerprint(); !valid || !m.CheckIntegrity(k) {
		return dst
	}
	r := Build(dst, NewType(Binding, Success), m.TxID)
	r.AddXORAddr(AttrXORMappedAddress, benchFrom)
	r.AddIntegrity(k)
	r.AddFingerprint()
	return r.Bytes()
}

func TestAllocations(t *testing.T) {
	var m Message
	key := NewKey([]byte(shortSecret))
	dst := make([]byte, 0, 1500)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if len(answer(&m, dst, benchBinding)) == 0 {
			t.Fatal("wrong")
		}
	}))
	unknown := make([]Attr, 0, 16)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if m.Parse(rfc5769Request) != nil || len(m.Unknown(unknown, func(a Attr) bool { return a == AttrUsername })) != 1 {
			t.Fatal("wrong")
		}
		for range m.Each {
		}
	}))
	if raceEnabled {
		return // a sync.Pool forgets at random then
	}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if len(answerICE(&m, key, dst, rfc5769Request)) == 0 {
			t.Fatal("wrong")
		}
	}))
	both := Build(nil, NewType(Refresh, Request), testID)
	both.AddIntegritySHA256(key)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		b := Build(dst, NewType(Refresh, Success), testID)
		b.AddIntegritySHA256(key)
		if m.Parse(both.Bytes()) != nil || !m.CheckIntegritySHA256(key) || b.Err() != nil {
			t.Fatal("wrong")
		}
	}))
}

// BenchmarkBinding answers a plain Binding request.
func BenchmarkBinding(b *testing.B) {
	b.Run("stunwire", func(b *testing.B) {
		var m Message
		dst := make([]byte, 0, 1500)
		b.ReportAllocs()
		for b.Loop() {
			answer(&m, dst, benchBinding)
		}
	})
	b.Run("pion", func(b *testing.B) {
		var m, r pion.Message
		ip := net.IP(benchFrom.Addr().AsSlice())
		b.ReportAllocs()
		for b.Loop() {
			m.Raw = append(m.Raw[:0], benchBinding...)
			if m.Decode() != nil {
				b.Fatal()
			}
			r.Reset()
			err := r.Build(&m, pion.BindingSuccess, pion.XORMappedAddress{IP: ip, Port: int(benchFrom.Port())}, pion.Fingerprint)
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkICE checks an ICE connectivity check and answers it.
func BenchmarkICE(b *testing.B) {
	b.Run("stunwire", func(b *testing.B) {
		var m Message
		key := NewKey([]byte(shortSecret))
		dst := make([]byte, 0, 1500)
		b.ReportAllocs()
		for b.Loop() {
			if len(answerICE(&m, key, dst, rfc5769Request)) == 0 {
				b.Fatal()
			}
		}
	})
	b.Run("pion", func(b *testing.B) {
		var m, r pion.Message
		ip := net.IP(benchFrom.Addr().AsSlice())
		key := pion.NewShortTermIntegrity(shortSecret)
		b.ReportAllocs()
		for b.Loop() {
			m.Raw = append(m.Raw[:0], rfc5769Request...)
			if m.Decode() != nil || pion.Fingerprint.Check(&m) != nil || key.Check(&m) != nil {
				b.Fatal()
			}
			r.Reset()
			err := r.Build(&m, pion.BindingSuccess, pion.XORMappedAddress{IP: ip, Port: int(benchFrom.Port())}, key, pion.Fingerprint)
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkParse walks the request of RFC 5769.
func BenchmarkParse(b *testing.B) {
	b.Run("stunwire", func(b *testing.B) {
		var m Message
		b.ReportAllocs()
		for b.Loop() {
			if m.Parse(rfc5769Request) != nil {
				b.Fatal()
			}
		}
	})
	b.Run("pion", func(b *testing.B) {
		m := pion.Message{Raw: rfc5769Request}
		b.ReportAllocs()
		for b.Loop() {
			if m.Decode() != nil {
				b.Fatal()
			}
		}
	})
}

// BenchmarkIntegritySHA256 checks what pion has not.
func BenchmarkIntegritySHA256(b *testing.B) {
	key := NewKey([]byte(shortSecret))
	r := Build(nil, NewType(Refresh, Request), testID)
	r.AddString(AttrUsername, "user")
	r.AddIntegritySHA256(key)
	var m Message
	if m.Parse(r.Bytes()) != nil {
		b.Fatal()
	}
	b.ReportAllocs()
	for b.Loop() {
		if !m.CheckIntegritySHA256(key) {
			b.Fatal()
		}
	}
}
