package rtp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtp/codecs"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/av1"
	"github.com/runnel-media/runnel/internal/nal"
)

// A codec is a Packer with its Unpacker.
type codec interface {
	Packer
	Unpacker
}

func random(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// units returns an access unit of NAL units with these headers and sizes.
func units(header func(i int) []byte, sizes ...int) []byte {
	var au []byte
	for i, n := range sizes {
		u := append(header(i), random(n)...)
		au = nal.Append(au, u)
	}
	return au
}

func h264Unit(types ...byte) func(int) []byte {
	return func(i int) []byte { return []byte{0x60 | types[i]} }
}

func h265Unit(types ...byte) func(int) []byte {
	return func(i int) []byte { return []byte{types[i] << 1, 1} }
}

func obu(typ byte, n int) []byte {
	b := []byte{typ<<3 | 2}
	return append(av1.AppendLEB128(b, uint64(n)), random(n)...)
}

func vp8Frame(n int, key bool) []byte {
	b := random(n)
	b[0] &^= 1
	if !key {
		b[0] |= 1
	}
	return b
}

type formatCase struct {
	fresh func() codec
	frame []byte
	key   bool
	want  []byte // nil: as frame
}

func formatCases() map[string]formatCase {
	sps, pps := []byte{0x67, 1, 2, 3}, []byte{0x68, 4, 5}
	idr := units(h264Unit(5), 30_000)
	return map[string]formatCase{
		"h264 small":    {fresh: func() codec { return &H264{} }, frame: units(h264Unit(1), 100)},
		"h264 slices":   {fresh: func() codec { return &H264{} }, frame: units(h264Unit(6, 1, 1, 1), 20, 700, 5000, 30)},
		"h264 key":      {fresh: func() codec { return &H264{Sets: [][]byte{sps, pps}} }, frame: idr, key: true, want: append(nal.Append(nal.Append(nil, sps), pps), idr...)},
		"h264 own sets": {fresh: func() codec { return &H264{Sets: [][]byte{sps, pps}} }, frame: units(h264Unit(7, 8, 5), 10, 5, 3000), key: true},
		"h264 filler":   {fresh: func() codec { return &H264{} }, frame: units(h264Unit(9, 12, 1), 1, 100, 10), want: nal.Append(nil, append([]byte{0x61}, random(10)...))},
		"h265":          {fresh: func() codec { return &H265{} }, frame: units(h265Unit(32, 33, 34, 19), 20, 40, 10, 20_000), key: true},
		"h265 cra":      {fresh: func() codec { return &H265{} }, frame: units(h265Unit(21, 21), 20, 2000), key: true},
		"h265 delta":    {fresh: func() codec { return &H265{} }, frame: units(h265Unit(39, 1, 1), 10, 500, 1185)},
		"vp8 key":       {fresh: func() codec { return &VP8{} }, frame: vp8Frame(12_345, true), key: true},
		"vp8 delta":     {fresh: func() codec { return &VP8{} }, frame: vp8Frame(7, false)},
		"vp9 key":       {fresh: func() codec { return &VP9{} }, frame: random(5000), key: true},
		"vp9 delta":     {fresh: func() codec { return &VP9{} }, frame: random(1196)},
		"av1 key":       {fresh: func() codec { return &AV1{} }, frame: append(obu(1, 11), obu(6, 20_000)...), key: true},
		"av1 delta":     {fresh: func() codec { return &AV1{} }, frame: obu(6, 300)},
		"av1 many":      {fresh: func() codec { return &AV1{} }, frame: bytes.Join([][]byte{obu(5, 130), obu(3, 5), obu(4, 1180), obu(4, 1), obu(4, 17_000), obu(5, 0)}, nil)},
		"opus":          {fresh: func() codec { return &Audio{} }, frame: random(160), key: true},
	}
}

func TestRoundTrip(t *testing.T) {
	for name, c := range formatCases() {
		t.Run(name, func(t *testing.T) {
			for _, limit := range []int{200, 1000, 1160} {
				if name == "opus" && limit < len(c.frame) {
					continue
				}
				f := c.fresh()
				for range 2 { // the second frame is as good as the first
					payloads := f.Pack(nil, c.frame, c.key, limit)
					require.NotEmpty(t, payloads)
					for i, p := range payloads {
						require.LessOrEqual(t, len(p), limit)
						require.True(t, f.Push(p), "payload %d of %d", i, len(payloads))
						require.True(t, i > 0 || f.Begins(p))
					}
					want := c.want
					if want == nil {
						want = c.frame
					}
					got, key, ok := f.Pull()
					require.True(t, ok)
					require.Equal(t, c.key, key)
					require.True(t, bytes.Equal(want, got), "limit %d: %d bytes of %d", limit, len(got), len(want))
				}
				_, _, ok := f.Pull()
				require.False(t, ok, "nothing has been pushed")
			}
		})
	}
}

// The pieces of a big frame are of one size, so that one call sends them all.
func TestEqualSizes(t *testing.T) {
	for name, c := range formatCases() {
		p := c.fresh().Pack(nil, c.frame, c.key, 1100)
		same := 0
		for i := 1; i < len(p)-1; i++ {
			if len(p[i]) == len(p[i-1]) {
				same++
			}
		}
		if len(c.frame) >= 12_000 {
			require.GreaterOrEqual(t, same, len(p)-6, name)
		}
	}
}

// pion/rtp reads what is packed here.
func TestPionUnpacks(t *testing.T) {
	cases := formatCases()
	annexB := func(b []byte) []byte { return nal.AppendAnnexB(nil, b) }
	for _, name := range []string{"h264 small", "h264 slices", "h264 own sets"} {
		var p codecs.H264Packet
		var got []byte
		for _, b := range cases[name].fresh().Pack(nil, cases[name].frame, cases[name].key, 1100) {
			out, err := p.Unmarshal(b)
			require.NoError(t, err)
			got = append(got, out...)
		}
		require.True(t, bytes.Equal(annexB(cases[name].frame), got), name)
	}
	for _, name := range []string{"vp8 key", "vp8 delta"} {
		var got []byte
		for i, b := range cases[name].fresh().Pack(nil, cases[name].frame, cases[name].key, 1100) {
			var p codecs.VP8Packet
			out, err := p.Unmarshal(b)
			require.NoError(t, err)
			require.Equal(t, i == 0, p.S == 1)
			require.EqualValues(t, 1, p.I)
			got = append(got, out...)
		}
		require.True(t, bytes.Equal(cases[name].frame, got), name)
	}
	for _, name := range []string{"vp9 key", "vp9 delta"} {
		var got []byte
		payloads := cases[name].fresh().Pack(nil, cases[name].frame, cases[name].key, 1100)
		for i, b := range payloads {
			var p codecs.VP9Packet
			out, err := p.Unmarshal(b)
			require.NoError(t, err)
			require.Equal(t, []bool{i == 0, i == len(payloads)-1, !cases[name].key}, []bool{p.B, p.E, p.P})
			got = append(got, out...)
		}
		require.True(t, bytes.Equal(cases[name].frame, got), name)
	}
	for _, name := range []string{"av1 key", "av1 delta", "av1 many"} {
		var d codecs.AV1Depacketizer
		var got []byte
		for _, b := range cases[name].fresh().Pack(nil, cases[name].frame, cases[name].key, 1100) {
			out, err := d.Unmarshal(b)
			require.NoError(t, err)
			got = append(got, out...)
		}
		require.True(t, bytes.Equal(cases[name].frame, got), name)
	}
	for _, name := range []string{"h265", "h265 delta"} {
		d := codecs.H265Depacketizer{}
		var got []byte
		for _, b := range cases[name].fresh().Pack(nil, cases[name].frame, cases[name].key, 1100) {
			out, err := d.Unmarshal(b)
			require.NoError(t, err)
			got = append(got, out...)
		}
		require.True(t, bytes.Equal(annexB(cases[name].frame), got), name)
	}
}

// What pion/rtp packs is read here.
func TestUnpacksPion(t *testing.T) {
	cases := formatCases()
	for name, pack := range map[string]func(frame []byte) [][]byte{
		"h264 slices": func(b []byte) [][]byte { return (&codecs.H264Payloader{}).Payload(1100, nal.AppendAnnexB(nil, b)) },
		"h265 delta":  func(b []byte) [][]byte { return (&codecs.H265Payloader{}).Payload(1100, nal.AppendAnnexB(nil, b)) },
		"vp8 key":     func(b []byte) [][]byte { return (&codecs.VP8Payloader{EnablePictureID: true}).Payload(1100, b) },
		"vp9 key":     func(b []byte) [][]byte { return (&codecs.VP9Payloader{FlexibleMode: true}).Payload(1100, b) },
		"av1 many":    func(b []byte) [][]byte { return (&codecs.AV1Payloader{}).Payload(1100, b) },
		"opus":        func(b []byte) [][]byte { return (&codecs.OpusPayloader{}).Payload(1100, b) },
	} {
		t.Run(name, func(t *testing.T) {
			f := cases[name].fresh()
			for i, p := range pack(cases[name].frame) {
				require.True(t, f.Push(p), i)
			}
			got, _, ok := f.Pull()
			require.True(t, ok)
			require.True(t, bytes.Equal(cases[name].frame, got))
		})
	}
}

func TestUnpackRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		f        codec
		payloads [][]byte
	}{
		"empty":                  {&H264{}, [][]byte{{}}},
		"h264 FU without start":  {&H264{}, [][]byte{{0x7c, 0x05, 1}}},
		"h264 unit inside FU":    {&H264{}, [][]byte{{0x7c, 0x85, 1}, {0x61, 1}}},
		"h264 STAP past its end": {&H264{}, [][]byte{{0x78, 0, 9, 1}}},
		"h264 STAP of nothing":   {&H264{}, [][]byte{{0x78, 0, 0}}},
		"h264 MTAP":              {&H264{}, [][]byte{{0x7a, 0, 1, 1}}},
		"h265 PACI":              {&H265{}, [][]byte{{50 << 1, 1, 1}}},
		"h265 runt":              {&H265{}, [][]byte{{2, 1}}},
		"vp8 second first":       {&VP8{}, [][]byte{{0x00, 1}}},
		"vp8 descriptor alone":   {&VP8{}, [][]byte{{0x90, 0x80, 1}}},
		"vp9 layers cut off":     {&VP9{}, [][]byte{{0x28}}},
		"vp9 layout cut off":     {&VP9{}, [][]byte{{0x0a, 0x18, 1, 2, 3, 4, 9}}},
		"av1 continues nothing":  {&AV1{}, [][]byte{{0x80, 1, 1}}},
		"av1 length too long":    {&AV1{}, [][]byte{{0, 9, 1}}},
		"av1 two in one":         {&AV1{}, [][]byte{{0x10, 0x32, 1, 0, 0x32, 0}}},
	} {
		ok := true
		for _, p := range c.payloads {
			ok = ok && c.f.Push(p)
		}
		require.False(t, ok, name)
		c.f.Pull()
		if _, _, ok := c.f.Pull(); ok {
			t.Errorf("%s: a frame of nothing", name)
		}
	}
}

func TestFrameIsBounded(t *testing.T) {
	big := random(60_000)
	for name, c := range map[string]struct {
		f    codec
		head []byte
		next []byte
	}{
		"h264": {&H264{}, []byte{0x7c, 0x81}, []byte{0x7c, 0x01}},
		"h265": {&H265{}, []byte{98, 1, 0x81}, []byte{98, 1, 0x01}},
		"vp8":  {&VP8{}, []byte{0x10}, []byte{0x00}},
		"vp9":  {&VP9{}, []byte{0x08}, []byte{0x00}},
		"av1":  {&AV1{}, []byte{0x50}, []byte{0xd0}},
	} {
		n := 0
		for p := append(c.head, big...); c.f.Push(p); p = append(c.next, big...) {
			if n++; n > 2*maxFrame/len(big) {
				t.Fatal(name, "has no bound")
			}
		}
		require.Greater(t, n, 10, name)
	}
	f, unit, n := &H264{}, []byte{0x61, 1}, 0
	for f.Push(unit) {
		n++
	}
	require.Equal(t, maxUnits, n)
}

func fuzzed(b []byte) (c codec, payloads [][]byte) {
	all := []codec{&H264{}, &H265{}, &VP8{}, &VP9{}, &AV1{}, &Audio{}}
	if len(b) == 0 {
		return all[0], nil
	}
	c, b = all[int(b[0])%len(all)], b[1:]
	for len(b) >= 2 && len(payloads) < 64 {
		n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
		payloads = append(payloads, b[2:2+n])
		b = b[2+n:]
	}
	return c, payloads
}

func FuzzUnpack(f *testing.F) {
	kinds := map[string]byte{"h264": 0, "h265": 1, "vp8 ": 2, "vp9 ": 3, "av1 ": 4, "opus": 5}
	for name, c := range formatCases() {
		seed := []byte{kinds[name[:4]]}
		for _, p := range c.fresh().Pack(nil, c.frame, c.key, 400) {
			seed = binary.BigEndian.AppendUint16(seed, uint16(len(p)))
			seed = append(seed, p...)
		}
		if len(seed) < 4000 {
			f.Add(seed)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, payloads := fuzzed(b)
		good := true
		for _, p := range payloads {
			c.Begins(p)
			good = c.Push(p) && good
		}
		frame, key, ok := c.Pull()
		if !ok || !good {
			return
		}
		// What came out goes in again, and comes out as it was.
		for _, p := range c.Pack(nil, frame, key, 300) {
			if !c.Push(p) {
				if _, audio := c.(*Audio); !audio {
					t.Fatalf("%x of %x", p, frame)
				}
			}
		}
		c.Pull()
	})
}

func BenchmarkPack(b *testing.B) {
	frame := units(h264Unit(1), 12_500)
	var p H264
	var dst [][]byte
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		dst = p.Pack(dst[:0], frame, false, 1160)
	}
}

func BenchmarkUnpack(b *testing.B) {
	var p H264
	payloads := p.Pack(nil, units(h264Unit(1), 12_500), false, 1160)
	b.ReportAllocs()
	for b.Loop() {
		for _, x := range payloads {
			p.Push(x)
		}
		p.Pull()
	}
}
