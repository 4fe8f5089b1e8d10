package srtp

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/stretchr/testify/require"
)

var profiles = []srtp.ProtectionProfile{
	srtp.ProtectionProfileAeadAes128Gcm,
	srtp.ProtectionProfileAeadAes256Gcm,
	srtp.ProtectionProfileAes128CmHmacSha1_80,
}

func material(t testing.TB, p srtp.ProtectionProfile) (key, salt []byte) {
	k, err := p.KeyLen()
	require.NoError(t, err)
	s, err := p.SaltLen()
	require.NoError(t, err)
	all := make([]byte, k+s)
	r := rand.New(rand.NewPCG(uint64(p), 1))
	for i := range all {
		all[i] = byte(r.Uint32())
	}
	return all[:k], all[k:]
}

// What is sealed here is byte for byte what pion/srtp makes, over rollovers of
// the sequence number too.
func TestSameAsPion(t *testing.T) {
	for _, profile := range profiles {
		t.Run(profile.String(), func(t *testing.T) {
			key, salt := material(t, profile)
			ours, err := NewSealer(profile, key, salt)
			require.NoError(t, err)
			theirs, err := srtp.CreateContext(key, salt, profile)
			require.NoError(t, err)
			r := rand.New(rand.NewPCG(2, 3))
			index := uint64(65_000)
			for range 3000 {
				h := rtp.Header{Version: 2, Marker: r.IntN(2) == 0, PayloadType: uint8(r.IntN(128)), SequenceNumber: uint16(index), Timestamp: r.Uint32(), SSRC: 0xdeadbeef}
				if r.IntN(2) == 0 {
					require.NoError(t, h.SetExtension(3, []byte{1, 2, 3}))
				}
				header, err := h.Marshal()
				require.NoError(t, err)
				payload := make([]byte, r.IntN(1200))
				for i := range payload {
					payload[i] = byte(r.Uint32())
				}
				want, err := theirs.EncryptRTP(nil, append(append([]byte(nil), header...), payload...), nil)
				require.NoError(t, err)
				got := ours.Seal([]byte("before"), header, payload, h.SSRC, index)
				require.Equal(t, "before", string(got[:6]))
				require.Equal(t, want, got[6:])
				require.LessOrEqual(t, len(want), len(header)+len(payload)+Overhead)
				index += uint64(1 + r.IntN(50))
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		profile   srtp.ProtectionProfile
		key, salt int
	}{
		{srtp.ProtectionProfileAes128CmHmacSha1_32, 16, 14},
		{srtp.ProtectionProfileNullHmacSha1_80, 16, 14},
		{srtp.ProtectionProfileAeadAes128Gcm, 16, 14},
		{srtp.ProtectionProfileAeadAes256Gcm, 16, 12},
		{srtp.ProtectionProfileAes128CmHmacSha1_80, 0, 0},
	} {
		_, err := NewSealer(c.profile, make([]byte, c.key), make([]byte, c.salt))
		require.Error(t, err, fmt.Sprint(c))
	}
}

func TestAllocations(t *testing.T) {
	for _, profile := range profiles {
		key, salt := material(t, profile)
		s, err := NewSealer(profile, key, salt)
		require.NoError(t, err)
		dst, header, payload := make([]byte, 0, 1500), make([]byte, 20), make([]byte, 1140)
		index := uint64(0)
		n := testing.AllocsPerRun(100, func() {
			index++
			s.Seal(dst, header, payload, 1, index)
		})
		require.LessOrEqual(t, n, 1.0, "%v: one for the counter mode, none for GCM", profile)
	}
}

func BenchmarkSeal(b *testing.B) {
	header, payload := make([]byte, 20), make([]byte, 1140)
	for _, profile := range profiles {
		key, salt := material(b, profile)
		b.Run(profile.String()+"/ours", func(b *testing.B) {
			s, err := NewSealer(profile, key, salt)
			require.NoError(b, err)
			dst := make([]byte, 0, 1500)
			index := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				index++
				s.Seal(dst, header, payload, 1, index)
			}
		})
		b.Run(profile.String()+"/pion", func(b *testing.B) {
			c, err := srtp.CreateContext(key, salt, profile)
			require.NoError(b, err)
			dst := make([]byte, 1500)
			h := rtp.Header{Version: 2, SSRC: 1}
			p := make([]byte, 0, 1500)
			b.ReportAllocs()
			for b.Loop() {
				h.SequenceNumber++
				n, err := h.MarshalTo(p[:12])
				if err != nil {
					b.Fatal(err)
				}
				if _, err := c.EncryptRTP(dst, append(p[:n], payload...), &h); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
