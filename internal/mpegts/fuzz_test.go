package mpegts_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/asticode/go-astits"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/stream"
)

// checker is a Sink that requires of tracks and frames what the rest of the
// program relies on, and muxes them again.
type checker struct {
	t      testing.TB
	tracks []*stream.Track
	mux    mpegts.Muxer
	out    []byte
	frames []*stream.Frame
}

func (c *checker) SetTracks(tracks ...*stream.Track) error {
	require.NotEmpty(c.t, tracks)
	ids := map[uint8]bool{}
	for _, tr := range tracks {
		require.False(c.t, ids[tr.ID])
		ids[tr.ID] = true
		tr.CodecString()
		_, _ = tr.Video()
		_, _ = tr.Audio()
	}
	c.tracks = slices.Clone(tracks)
	require.NoError(c.t, c.mux.Configure(c.tracks), "what came in goes out")
	return nil
}

func (c *checker) Write(f *stream.Frame) error {
	require.Contains(c.t, c.tracks, f.Track)
	require.NotEmpty(c.t, f.Data)
	require.GreaterOrEqual(c.t, f.PTS, f.DTS)
	if f.Track.Kind() == stream.Video {
		rest, ok := f.Data, true
		n := -1
		for ; ok; n++ {
			_, rest, ok = nal.Next(rest)
		}
		require.Empty(c.t, rest)
		require.Positive(c.t, n)
	}
	before, size := len(c.out), c.mux.Size(f)
	c.out = c.mux.AppendFrame(c.out, f)
	require.LessOrEqual(c.t, len(c.out)-before, size)
	c.frames = append(c.frames, f)
	return nil
}

// run demuxes ts in pieces and returns the frames.
func (c *checker) run(ts []byte, piece int) *mpegts.Demuxer {
	d := &mpegts.Demuxer{Sink: c}
	for p := range slices.Chunk(ts, piece) {
		if _, err := d.Write(bytes.Clone(p)); err != nil {
			require.ErrorIs(c.t, err, mpegts.ErrMalformed)
			break
		}
	}
	if err := d.Close(); err != nil {
		require.ErrorIs(c.t, err, mpegts.ErrMalformed)
	}
	inspect(c.t, c.out)
	return d
}

// FuzzDemuxer takes any bytes.
func FuzzDemuxer(f *testing.F) {
	for _, p := range patterns() {
		p.KeySize, p.FrameSize = 300, 200
		f.Add(mux(f, p.Tracks(), slices.Collect(p.Frames(5))))
	}
	tracks, frames := withData()
	f.Add(mux(f, tracks, frames[:30]))
	files, _ := filepath.Glob("testdata/*.ts")
	for _, file := range files {
		ts, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(ts[:15*mpegts.PacketSize])
	}
	f.Fuzz(func(t *testing.T, ts []byte) {
		whole, pieces := &checker{t: t}, &checker{t: t}
		whole.run(ts, max(len(ts), 1))
		pieces.run(ts, 100)
		require.Equal(t, whole.out, pieces.out, "however it is cut")
	})
}

// FuzzTables takes the bodies of a PAT and a PMT, whose CRC is right.
func FuzzTables(f *testing.F) {
	for _, info := range []string{"", "\x05\x04Opus\x7f\x02\x80\x02", "\x0a\x04deu\x00", "\x6a\x01\x00", "\x7f\x01\x06\x52\x00\x05\x00", "\x59\x08deu\x10\x00\x01\x00\x02"} {
		f.Add([]byte("\x00\x01\xf0\x00"), pmtBody(0x100, es{0x1b, 0x100, ""}, es{0x06, 0x200, info}), byte(2))
	}
	for tag := range 256 {
		f.Add([]byte("\x00\x01\xf0\x00"), pmtBody(0x100, es{0x0f, 0x200, string([]byte{byte(tag), 3, 1, 2, 3})}), byte(2))
	}
	f.Fuzz(func(t *testing.T, pat, pmt []byte, table byte) {
		if len(pat) > 1000 || len(pmt) > 5000 {
			return
		}
		var b builder
		b.section(0, 0, 1, true, pat)
		b.section(0x1000, table, 1, true, pmt)
		b.section(0x1000, 2, 1, true, pmt)
		b.pes(0x100, 9000, -1, sets(t, stream.H264)+idr264)
		b.pes(0x200, 9000, -1, "\xff\xf1\x4c\x80\x01\x5f\xfcaaa")
		c := &checker{t: t}
		c.run(b.ts, len(b.ts))
	})
}

// FuzzPES takes the contents of three PES packets of one codec, of which the
// second begins where it likes.
func FuzzPES(f *testing.F) {
	codecs := []es{h264ES, h265ES, aacES, mp3ES, {0x81, 0x200, ""}, opusES}
	h264, h265 := sets(f, stream.H264), sets(f, stream.H265)
	f.Add(byte(0), false, []byte(h264+idr264+rest264), []byte(inter264), []byte(aud264+inter264+aud264+inter264))
	f.Add(byte(0), true, []byte(h264+idr264), []byte(inter264+inter264), []byte("\x00\x00\x01\x0c\xff\x00\x00\x03\x00\x00\x00\x00\x01"))
	f.Add(byte(1), false, []byte(h265+"\x00\x00\x01\x26\x01\x80"), []byte(inter265), []byte(aud265+sei265+inter265+rest265))
	f.Add(byte(2), true, []byte("\xff\xf1\x4c\x80\x01\x5f\xfcaaa\xff\xf1\x4c"), []byte("\x80\x01\x5f\xfcaaa"), []byte("\xff\xf0\x4c\x80\x01\x9f\xfc\x12\x34abc"))
	f.Add(byte(3), false, []byte("\xff\xfb\x14\xc4"+strings.Repeat("a", 90)), []byte("aa\xff\xfb\x14\xc4"+strings.Repeat("a", 92)), []byte{})
	f.Add(byte(4), false, []byte("\x0b\x77\x00\x00\x00\x40\x40"+strings.Repeat("a", 121)), []byte("\x0b\x77"), []byte("\x00\x00\x00\x40\x40"))
	f.Add(byte(5), true, []byte("\x7f\xe0\x02\xfc\x01\x7f\xfc\x02\x00\x10\x00\x20\x01\xee\xfc\x02"), []byte("\x7f\xe0\xff\x01\xfc"), []byte("\x7f"))
	f.Fuzz(func(t *testing.T, codec byte, length bool, first, second, third []byte) {
		if len(first)+len(second)+len(third) > 60000 {
			return
		}
		es := codecs[int(codec)%len(codecs)]
		b := builder{length: length}
		b.tables(es)
		b.pes(es.pid, 93000, 90000, string(first))
		b.pes(es.pid, -1, -1, string(second))
		b.pes(es.pid, 120000, -1, string(third))
		c := &checker{t: t}
		d := c.run(b.ts, len(b.ts))
		require.Zero(t, d.Stats().Errors)
		size := 0
		for _, f := range c.frames {
			size += len(f.Data)
		}
		require.LessOrEqual(t, size, 2*(len(first)+len(second)+len(third)))
	})
}

// FuzzPESHeader takes a PES packet: what both we and go-astits can read has to
// be the same.
func FuzzPESHeader(f *testing.F) {
	f.Add([]byte("\x00\x00\x01\xe0\x00\x00\x80\x80\x05\x21\x00\x05\xbf\x21" + inter264))
	f.Add([]byte("\x00\x00\x01\xe0\x00\x12\x84\xc0\x0a\x31\x00\x05\xbf\x21\x11\x00\x05\xa8\x01" + inter264))
	f.Add([]byte("\x00\x00\x01\xe0\x00\x00\x80\xbf\x20" + strings.Repeat("\x21", 32) + inter264))
	f.Add([]byte("\x00\x00\x01\xbe\x00\x05" + inter264))
	f.Fuzz(func(t *testing.T, pes []byte) {
		if len(pes) == 0 || len(pes) > 10000 {
			return
		}
		var b builder
		b.tables(h264ES)
		b.pes(0x100, 0, -1, sets(t, stream.H264)+idr264)
		b.packetize(0x100, pes, 0)
		c := &checker{t: t}
		c.run(b.ts, len(b.ts))
		if len(c.frames) < 2 || c.frames[1].Track != c.frames[0].Track || c.frames[1].DTS == c.frames[0].DTS {
			return
		}
		d := astits.NewDemuxer(context.Background(), bytes.NewReader(b.ts), astits.DemuxerOptPacketSize(mpegts.PacketSize))
		var theirs []*astits.DemuxerData
		for {
			data, err := d.NextData()
			if errors.Is(err, astits.ErrNoMorePackets) {
				break
			}
			if err == nil && data.PES != nil {
				theirs = append(theirs, data)
			}
		}
		if len(theirs) != 2 || theirs[1].PES.Header.OptionalHeader == nil || theirs[1].PES.Header.OptionalHeader.PTS == nil {
			return
		}
		const mask = 1<<33 - 1
		got := c.frames[1]
		require.Equal(t, times(theirs[1])[0], stream.Ticks(got.DTS, 90000)&mask)
		for unit := range nal.Units(got.Data) {
			require.Contains(t, string(theirs[1].PES.Data), string(unit))
		}
	})
}
