package mpegts_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// cue is a splice_info_section with a command of so many bytes.
func cue(size int) []byte {
	s := []byte{0xfc, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xf0, 0}
	s = append(s, bytes.Repeat([]byte{0x47}, size)...)
	binary.BigEndian.PutUint16(s[1:], uint16(0x3000+len(s)+4-3))
	return binary.BigEndian.AppendUint32(s, checksum(s))
}

// withData is a programme with SCTE 35 and two private streams.
func withData() (tracks []*stream.Track, frames []*stream.Frame) {
	p := &streamtest.Pattern{}
	message := &stream.Track{ID: 3, Codec: stream.SCTE35}
	klv := &stream.Track{ID: 4, Codec: stream.PrivateTS, Config: []byte("\x06\xbdKLVA")}
	id3 := &stream.Track{ID: 5, Codec: stream.PrivateTS, Config: []byte("\x15\xbdID3 ")}
	tracks = append(slices.Clone(p.Tracks()), message, klv, id3)
	size := 0
	for f := range p.Frames(300) {
		frames = append(frames, f)
		if f.Track == p.Tracks()[0] && f.DTS%(200*time.Millisecond) == 0 {
			for _, t := range tracks[2:] {
				data := cue(size)
				if t != message {
					data = []byte(strings.Repeat("k", size+1))
				}
				frames = append(frames, &stream.Frame{Track: t, DTS: f.DTS, PTS: f.DTS, Key: true, Data: data})
			}
			size = (size*2 + 37) % 4000
		}
	}
	return tracks, frames
}

// Data passes from the muxer to the demuxer as it is, and leaves the clock alone.
func TestData(t *testing.T) {
	tracks, frames := withData()
	var m mpegts.Muxer
	require.NoError(t, m.Configure(tracks))
	var ts []byte
	for _, f := range frames {
		before, most := len(ts), m.Size(f)
		ts = m.AppendFrame(ts, f)
		require.LessOrEqual(t, len(ts)-before, most)
	}
	got, d := demux(t, ts)
	require.NoError(t, d.Unsupported())
	require.Zero(t, d.Stats().Errors)
	require.Zero(t, d.Stats().Lost)
	require.Zero(t, d.Stats().Dropped)
	for _, want := range tracks {
		var sent, came []*stream.Frame
		for _, f := range frames {
			if f.Track == want {
				sent = append(sent, f)
			}
		}
		for _, f := range got.frames {
			if f.Track.ID == want.ID {
				require.Equal(t, want.Codec, f.Track.Codec)
				if want.Kind() == stream.Data {
					require.Equal(t, string(want.Config), string(f.Track.Config))
				}
				came = append(came, f)
			}
		}
		require.Len(t, came, len(sent))
		for i := range sent {
			require.Equal(t, sent[i].Data, came[i].Data, "%v %d", want.Codec, i)
			require.InDelta(t, float64(sent[i].DTS+mpegts.Offset), float64(came[i].DTS), float64(100*time.Millisecond))
		}
	}
	plain := slices.DeleteFunc(slices.Clone(frames), func(f *stream.Frame) bool { return f.Track.Kind() == stream.Data })
	require.Equal(t, inspect(t, mux(t, tracks, plain)).pcrs, inspect(t, ts).pcrs)
	dst := make([]byte, 0, 64<<10)
	for _, f := range frames[:20] {
		require.Zero(t, testing.AllocsPerRun(5, func() { dst = m.AppendFrame(dst[:0], f) }))
	}
}

// ffprobe sees the streams for what they are.
func TestDataFFprobe(t *testing.T) {
	need(t, "ffprobe")
	tracks, frames := withData()
	file := filepath.Join(t.TempDir(), "data.ts")
	require.NoError(t, os.WriteFile(file, mux(t, tracks, frames), 0o600))
	out, err := exec.Command("ffprobe", "-v", "quiet", "-show_entries", "stream=codec_name,codec_type", "-of", "csv=p=0", file).Output()
	require.NoError(t, err, "%s", out)
	for _, want := range []string{"h264,video", "aac,audio", "scte_35,data", "klv,data", "timed_id3,data"} {
		require.Contains(t, string(out), want)
	}
}

// What strangers send as SCTE 35.
func TestMessages(t *testing.T) {
	tables := func() *builder {
		b := &builder{}
		b.tables(es{0x0f, 0x200, ""}, es{0x86, 0x201, ""})
		b.pes(0x200, 9000, -1, "\xff\xf1\x4c\x80\x01\x5f\xfcaaa")
		return b
	}
	messages := func(t *testing.T, b *builder) (list [][]byte, stats mpegts.Stats) {
		got, d := demux(t, b.ts)
		for _, f := range got.frames {
			if f.Track.Codec == stream.SCTE35 {
				list = append(list, f.Data)
			}
		}
		return list, d.Stats()
	}
	stuff := func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0xff}, 183-len(b))...) }
	t.Run("two in a packet", func(t *testing.T) {
		b := tables()
		b.packetize(0x201, stuff(slices.Concat([]byte{0}, cue(5), cue(7))), 0)
		list, _ := messages(t, b)
		require.Equal(t, [][]byte{cue(5), cue(7)}, list)
	})
	t.Run("begins in the packet where the one before ends", func(t *testing.T) {
		b := tables()
		first, second := cue(200), cue(300)
		b.packetize(0x201, append([]byte{0}, first[:183]...), 0)
		rest := first[183:]
		p := slices.Concat([]byte{byte(len(rest))}, rest, second)
		b.packetize(0x201, p[:184], 0)
		b.ts[len(b.ts)-187] |= 0x40
		before := len(b.ts)
		b.packetize(0x201, append(p[184:], bytes.Repeat([]byte{0xff}, 184-(len(p)-184)%184)...), 0)
		b.ts[before+1] &^= 0x40
		list, _ := messages(t, b)
		require.Equal(t, [][]byte{first, second}, list)
	})
	t.Run("damaged", func(t *testing.T) {
		b := tables()
		bad := cue(5)
		bad[9]++
		b.packetize(0x201, stuff(append([]byte{0}, bad...)), 0)
		b.packetize(0x201, stuff(append([]byte{0}, cue(6)...)), 0)
		list, stats := messages(t, b)
		require.Equal(t, [][]byte{cue(6)}, list)
		require.EqualValues(t, 1, stats.Errors)
	})
	t.Run("too long, and a pointer beyond the packet", func(t *testing.T) {
		b := tables()
		b.packetize(0x201, stuff([]byte{0, 0xfc, 0x3f, 0xff, 1, 2}), 0)
		b.packetize(0x201, append([]byte{200}, make([]byte, 183)...), 0)
		list, stats := messages(t, b)
		require.Empty(t, list)
		require.EqualValues(t, 2, stats.Errors)
	})
	t.Run("a packet is lost", func(t *testing.T) {
		b := tables()
		b.packetize(0x201, append([]byte{0}, cue(400)...), 0)
		b.ts = append(b.ts[:len(b.ts)-2*188], b.ts[len(b.ts)-188:]...)
		b.packetize(0x201, stuff(append([]byte{0}, cue(6)...)), 0)
		list, stats := messages(t, b)
		require.Equal(t, [][]byte{cue(6)}, list)
		require.EqualValues(t, 1, stats.Lost)
	})
}
