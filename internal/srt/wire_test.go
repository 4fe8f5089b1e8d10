package srt

import (
	"crypto/aes"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

func TestSeqWraps(t *testing.T) {
	for _, c := range []struct {
		a, b seq
		d    int
	}{{5, 3, 2}, {3, 5, -2}, {0, seqMask, 1}, {seqMask, 0, -1}, {7, seqMask - 2, 10}, {1 << 30, 0, -1 << 30}} {
		require.Equal(t, c.d, c.a.sub(c.b))
		require.Equal(t, c.a, c.b.add(c.d))
	}
	require.True(t, seq(seqMask).before(0))
}

func TestHeader(t *testing.T) {
	for _, h := range []header{
		{seq: 0x7ffffffe, msg: maxMessage, flags: flagSolo | flagOrder | 1<<3 | flagRetransmit, time: 77, dest: 0xdeadbeef},
		{control: true, typ: typeUser, sub: extKMReq, info: 9, time: 1 << 31, dest: 1},
	} {
		b := make([]byte, headerSize+3)
		h.put(b)
		got, body, err := parseHeader(b)
		require.NoError(t, err)
		require.Equal(t, h, got)
		require.Len(t, body, 3)
	}
	_, _, err := parseHeader(make([]byte, 15))
	require.Error(t, err)
	require.Equal(t, keyOdd, (&header{flags: 0x10}).key())
}

func TestACKLengths(t *testing.T) {
	b := make([]byte, fullACK)
	a := ackInfo{next: 9, rtt: 1, rttVar: 2, room: 3, rate: 4, capacity: 5, byteRate: 6, hasRTT: true, hasRates: true, hasByteRate: true}
	a.put(b)
	got, err := parseACK(b)
	require.NoError(t, err)
	require.Equal(t, a, got)
	got, err = parseACK(b[:lightACK])
	require.NoError(t, err)
	require.Equal(t, ackInfo{next: 9}, got)
	_, err = parseACK(b[:3])
	require.Error(t, err)
	b[0] = 0x80
	_, err = parseACK(b)
	require.Error(t, err)
}

func TestLossList(t *testing.T) {
	list := []run{{5, 5}, {7, 9}, {seqMask, 0}}
	var b []byte
	for _, r := range list {
		b = appendRun(b, r)
	}
	require.Equal(t, list, slices.Collect(runs(b)))
	require.Empty(t, slices.Collect(runs(appendRun(nil, run{9, 3}))), "ends before it begins")
	require.Empty(t, slices.Collect(runs(unhex(t, "80000001"))), "no end")
	require.Empty(t, slices.Collect(runs(unhex(t, "8000000180000002"))))
}

func TestHandshakeRoundTrip(t *testing.T) {
	h := handshake{version: 5, encryption: 2, isn: 77, mtu: 1500, window: 8192, kind: kindConclusion, id: 5, cookie: 6,
		peer: netip.MustParseAddr("192.0.2.1"), hello: hello{ourVersion, ourFlags, 120, 80}, isRequest: true,
		km: make([]byte, kmMin), streamID: "#!::r=live/a,m=publish", congestion: "live", filter: "fec,cols:10"}
	h.extension = h.follows()
	got, err := parseHandshake(h.append(nil))
	require.NoError(t, err)
	require.Equal(t, h, got)
	require.Equal(t, followsHS|followsKM|followsConfig, got.extension)
}

func TestHandshakeRefusesLongStreamID(t *testing.T) {
	h := handshake{version: 5, kind: kindConclusion, streamID: strings.Repeat("x", maxStreamID)}
	_, err := parseHandshake(h.append(nil))
	require.NoError(t, err)
	h.streamID += "y"
	_, err = parseHandshake(h.append(nil))
	require.Error(t, err)
}

func TestTextIsReversedByWord(t *testing.T) {
	require.Empty(t, appendText(nil, ""))
	require.Equal(t, []byte("dcba\x00\x00fe"), appendText(nil, "abcdef"))
	require.Equal(t, "abcdef", parseText([]byte("dcba\x00\x00fe")))
}

// RFC 3394 section 4.
func TestWrapVectors(t *testing.T) {
	for _, v := range []struct{ kek, key, out string }{
		{"000102030405060708090A0B0C0D0E0F", "00112233445566778899AABBCCDDEEFF", "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5"},
		{"000102030405060708090A0B0C0D0E0F1011121314151617", "00112233445566778899AABBCCDDEEFF", "96778B25AE6CA435F92B5B97C050AED2468AB8A17AD84E5D"},
		{"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
			"00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
			"28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"},
	} {
		b, err := aes.NewCipher(unhex(t, v.kek))
		require.NoError(t, err)
		require.Equal(t, unhex(t, v.out), wrap(b, unhex(t, v.key)))
		key, err := unwrap(b, unhex(t, v.out))
		require.NoError(t, err)
		require.Equal(t, unhex(t, v.key), key)
		bad := unhex(t, v.out)
		bad[5] ^= 1
		_, err = unwrap(b, bad)
		require.ErrorIs(t, err, errUnwrap)
	}
}

func TestKeyring(t *testing.T) {
	for _, n := range []int{16, 24, 32} {
		tx, err := newKeyring("correct horse", n)
		require.NoError(t, err)
		wire := tx.material(keyEven).append(nil)
		m, err := parseKM(wire)
		require.NoError(t, err)
		_, err = openKeyring("wrong horse..", &m)
		require.ErrorIs(t, err, errUnwrap)
		rx, err := openKeyring("correct horse", &m)
		require.NoError(t, err)
		text := []byte("seven packets of a transport stream")
		sealed := make([]byte, len(text))
		require.True(t, tx.xor(sealed, text, 99, keyEven))
		require.NotEqual(t, text, sealed)
		require.False(t, rx.xor(sealed, sealed, 99, keyOdd))
		require.True(t, rx.xor(sealed, sealed, 99, keyEven))
		require.Equal(t, text, sealed)

		require.NoError(t, tx.renew(keyOdd))
		m, err = parseKM(tx.material(keyBoth).append(nil))
		require.NoError(t, err)
		require.NoError(t, rx.take(&m))
		require.Equal(t, tx.keys, rx.keys)
	}
	_, err := newKeyring("too short", 16)
	require.ErrorIs(t, err, errPassphrase)
}

func TestKMLengths(t *testing.T) {
	r, err := newKeyring("correct horse", 32)
	require.NoError(t, err)
	require.NoError(t, r.renew(keyOdd))
	whole := r.material(keyBoth).append(nil)
	require.Len(t, whole, 104)
	_, err = parseKM(whole)
	require.NoError(t, err)
	for n := range whole {
		_, err := parseKM(whole[:n])
		require.Error(t, err, n)
	}
	_, err = parseKM(append(whole, 0))
	require.Error(t, err)
	for _, at := range []int{0, 1, 3, 8, 9, 10, 14, 15} { // every field that has but a few values
		bad := slices.Clone(whole)
		bad[at] ^= 0x41
		_, err := parseKM(bad)
		require.Error(t, err, at)
	}
}

func FuzzHandshake(f *testing.F) {
	h := handshake{version: 5, kind: kindConclusion, hello: hello{ourVersion, ourFlags, 120, 120}, isRequest: true, km: make([]byte, kmMin), streamID: "live/a", filter: "fec,cols:10"}
	f.Add(h.append(nil))
	f.Add((&handshake{version: 4, kind: kindInduction, extension: 2}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHandshake(b)
		if err != nil {
			return
		}
		if len(h.streamID) > maxStreamID || len(h.km) > maxPacket {
			t.Fatal("unbounded")
		}
		again, err := parseHandshake(h.append(nil))
		if err == nil && again.streamID != h.streamID {
			t.Fatal("stream id changed")
		}
		_, _ = parseKM(h.km)
		_ = ParseStreamID(h.streamID)
		_, _ = parseFilter(h.filter)
	})
}

func FuzzControl(f *testing.F) {
	f.Add(appendRun(appendRun(nil, run{1, 5}), run{9, 9}))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		for r := range runs(b) {
			if n++; r.len() < 1 || n > len(b)/4 {
				t.Fatal("bad run")
			}
		}
		if r, err := parseDrop(b); err == nil && r.len() < 1 {
			t.Fatal("bad drop")
		}
		_, _ = parseACK(b)
		_, _ = parseKM(b)
		_, _, _ = parseHeader(b)
	})
}
