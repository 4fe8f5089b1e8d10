package opus_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/runnel-media/runnel/internal/opus"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// libopus by ffmpeg, stereo at 48 kHz.
const head = "4f707573486561640102380180bb0000000000"

func TestHead(t *testing.T) {
	h, err := opus.ParseHead(unhex(t, head))
	require.NoError(t, err)
	require.Equal(t, &opus.Head{Channels: 2, PreSkip: 312, InputRate: 48000}, h)
	require.Equal(t, unhex(t, head), h.Append(nil))
	require.Equal(t, unhex(t, head), opus.DefaultHead(2).Append(nil))
	require.Equal(t, 1, opus.DefaultHead(0).Channels)
	for _, bad := range []string{
		"", head[:36], "00" + head[2:], "4f70757348656164" + "12" + head[18:],
		"4f70757348656164" + "01" + "00" + head[20:],                         // no channel
		"4f70757348656164" + "01" + "03" + head[20:],                         // three without a mapping
		"4f70757348656164" + "01" + "03380180bb0000000001" + "0201" + "0002", // a short mapping
		"4f70757348656164" + "01" + "03380180bb0000000001" + "0203" + "000201",
	} {
		_, err := opus.ParseHead(unhex(t, bad))
		require.Error(t, err, bad)
	}
}

func TestHeadRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &opus.Head{
			Channels: rapid.IntRange(1, 2).Draw(t, "channels"), PreSkip: rapid.Uint16().Draw(t, "preskip"),
			InputRate: rapid.Uint32().Draw(t, "rate"), Gain: rapid.Int16().Draw(t, "gain"), Family: rapid.Byte().Draw(t, "family"),
		}
		if h.Family != 0 {
			h.Channels = rapid.IntRange(1, 255).Draw(t, "channels")
			h.Streams = rapid.ByteRange(1, 255).Draw(t, "streams")
			h.Coupled = rapid.ByteRange(0, h.Streams).Draw(t, "coupled")
			h.Mapping = rapid.SliceOfN(rapid.Byte(), h.Channels, h.Channels).Draw(t, "mapping")
		}
		got, err := opus.ParseHead(h.Append(nil))
		require.NoError(t, err)
		require.Equal(t, h, got)
	})
}

func TestPacket(t *testing.T) {
	for _, c := range []struct {
		packet  string
		samples int
		stereo  bool
	}{
		{"fc", 960, true},       // CELT, 20 ms
		{"e0", 120, false},      // CELT, 2.5 ms
		{"18", 2880, false},     // SILK, 60 ms
		{"19", 5760, false},     // two of them
		{"fb06", 5760, false},   // six of 20 ms
		{"fb07", 0, false},      // more than 120 ms
		{"fb", 0, false},        // cut
		{"7c0102", 960, true},   // hybrid
		{"0b83ff", 2880, false}, // three of 20 ms
	} {
		b := unhex(t, c.packet)
		require.Equal(t, c.samples, opus.Samples(b), c.packet)
		require.Equal(t, c.stereo, opus.Stereo(b), c.packet)
	}
	require.Zero(t, opus.Samples(nil))
}

func FuzzHead(f *testing.F) {
	f.Add(unhex(f, head))
	f.Add(unhex(f, "4f70757348656164"+"01"+"03380180bb0000000001"+"0201"+"000201"))
	f.Fuzz(func(t *testing.T, b []byte) {
		opus.Samples(b)
		h, err := opus.ParseHead(b)
		if err != nil {
			return
		}
		again, err := opus.ParseHead(h.Append(nil))
		require.NoError(t, err)
		require.Equal(t, h, again)
	})
}
