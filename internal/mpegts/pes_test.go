package mpegts_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// Streams of the builder.
var (
	h264ES = es{0x1b, 0x100, ""}
	h265ES = es{0x24, 0x100, ""}
	aacES  = es{0x0f, 0x200, ""}
	mp3ES  = es{0x03, 0x200, ""}
	opusES = es{0x06, 0x200, "\x05\x04Opus\x7f\x02\x80\x02"}
)

// Pieces of byte streams.
const (
	aud264   = "\x00\x00\x00\x01\x09\xf0"
	idr264   = "\x00\x00\x01\x65\x88"
	intra264 = "\x00\x00\x01\x61\x88"
	inter264 = "\x00\x00\x01\x41\x9a"
	rest264  = "\x00\x00\x01\x41\x1a" // a slice that is not the first of its picture
	sei264   = "\x00\x00\x00\x01\x06\x05\x01\x02\x80"
	aud265   = "\x00\x00\x00\x01\x46\x01\x50"
	inter265 = "\x00\x00\x01\x02\x01\x80"
	rest265  = "\x00\x00\x01\x02\x01\x11"
	sei265   = "\x00\x00\x01\x4e\x01\x05"
)

// sets returns the parameter sets of a record as a byte stream: what the Muxer
// puts before a key frame.
func sets(t testing.TB, codec stream.Codec) string {
	p := &streamtest.Pattern{Video: codec, NoAudio: true, KeySize: 6}
	for f := range p.Frames(1) {
		u := inspect(t, mux(t, p.Tracks(), []*stream.Frame{f})).pes[videoPID][0]
		au := string(u.data)
		au = au[strings.Index(au[4:], "\x00\x00\x00\x01")+4:] // without the delimiter
		return au[:strings.LastIndex(au, "\x00\x00\x00\x01")] // and the slice
	}
	panic("no frame")
}

// shown is how a test sees frames: times in ticks, and data.
func shown(frames []*stream.Frame) (out []string) {
	for _, f := range frames {
		key := ""
		if f.Key && f.Track.Kind() == stream.Video {
			key = " key"
		}
		out = append(out, fmt.Sprintf("%d %d%s %x", stream.Ticks(f.DTS, 90000), stream.Ticks(f.PTS, 90000), key, f.Data))
	}
	return out
}

func TestDemuxerPictures(t *testing.T) {
	sets264, sets265 := sets(t, stream.H264), sets(t, stream.H265)
	long := inter264 + strings.Repeat("\x55", 66000)
	first, second := long[:65000], long[65000:]
	for _, tt := range []struct {
		name  string
		es    es
		write func(b *builder)
		want  []string
	}{
		{"one each", h264ES, func(b *builder) {
			b.pes(0x100, 3000, -1, aud264+sets264+idr264)
			b.pes(0x100, 9000, 6000, aud264+inter264)
			b.pes(0x100, 6003, 9000, aud264+inter264) // can't be
		}, []string{"3000 3000 key 000000026588", "6000 9000 00000002419a", "9000 9000 00000002419a"}},
		{"three in one", h264ES, func(b *builder) {
			b.pes(0x100, 3000, -1, aud264+sets264+idr264)
			b.pes(0x100, 6000, -1, aud264+inter264+rest264+inter264+sei264+inter264)
			b.pes(0x100, 15000, -1, aud264+inter264)
		}, []string{"3000 3000 key 000000026588", "6000 6000 00000002419a00000002411a", "9000 9000 00000002419a", "12000 12000 000000050605010280" + "00000002419a", "15000 15000 00000002419a"}},
		{"two in the first", h264ES, func(b *builder) { // the parameter sets tell how long they last
			b.pes(0x100, 3000, -1, sets264+idr264+inter264)
		}, []string{"3000 3000 key 000000026588", "6600 6600 00000002419a"}},
		{"no time at first", h264ES, func(b *builder) {
			b.pes(0x100, -1, -1, aud264+sets264+idr264)
			b.pes(0x100, 6000, -1, aud264+inter264)
		}, nil},
		{"no time later", h264ES, func(b *builder) {
			b.pes(0x100, 3000, -1, sets264+idr264)
			b.pes(0x100, 6000, -1, inter264)
			b.pes(0x100, -1, -1, aud264+inter264)
			b.pes(0x100, -1, -1, inter264)
			b.pes(0x100, 15000, -1, inter264)
		}, []string{"3000 3000 key 000000026588", "6000 6000 00000002419a", "9000 9000 00000002419a", "12000 12000 00000002419a", "15000 15000 00000002419a"}},
		{"one in two", h264ES, func(b *builder) {
			b.pes(0x100, 3000, -1, sets264+idr264[:4])
			b.pes(0x100, -1, -1, idr264[4:]+rest264)
			b.pes(0x100, -1, -1, rest264)
			b.pes(0x100, 6000, -1, inter264)
		}, []string{"3000 3000 key 00000002658800000002411a00000002411a", "6000 6000 00000002419a"}},
		{"one in two of known length", h264ES, func(b *builder) {
			b.length = true
			b.pes(0x100, 3000, -1, sets264+idr264)
			b.pes(0x100, 6000, -1, first)
			b.pes(0x100, -1, -1, second)
			b.pes(0x100, 9000, -1, inter264)
			b.pes(0x100, -1, -1, rest264) // too late
		}, []string{"3000 3000 key 000000026588", fmt.Sprintf("6000 6000 %08x%x", len(long)-3, long[3:]), "9000 9000 00000002419a"}},
		{"recovery point", h264ES, func(b *builder) {
			b.flagged(0x100, 0x40, 3000, -1, sets264+intra264)
			b.flagged(0x100, 0x40, 6000, -1, inter264) // nothing to decode it with
			b.pes(0x100, 9000, -1, sets264+intra264)   // not announced
		}, []string{"3000 3000 key 000000026188", "6000 6000 00000002419a", "9000 9000 000000026188"}},
		{"filler, zeros", h264ES, func(b *builder) {
			b.pes(0x100, 3000, -1, aud264+sets264+"\x00\x00\x01\x0c\xff\xff\x80"+idr264+"\x00\x00\x00\x00\x00")
			b.pes(0x100, 6000, -1, "\x00\x00\x00"+inter264+"\x00\x00\x01\x0a")
		}, []string{"3000 3000 key 000000026588", "6000 6000 00000002419a000000010a"}},
		{"no picture", h264ES, func(b *builder) {
			b.pes(0x100, 3000, -1, aud264+sets264)
			b.pes(0x100, 6000, -1, idr264)
			b.pes(0x100, 9000, -1, aud264)
			b.pes(0x100, 12000, -1, "")
			b.pes(0x100, 15000, -1, "abc")
		}, []string{"6000 6000 key 000000026588"}},
		{"two layers", h265ES, func(b *builder) {
			b.pes(0x100, 3000, -1, aud265+sets265+"\x00\x00\x01\x26\x01\x80"+"\x00\x00\x01\x42\x09\x01"+"\x00\x00\x01\x26\x09\x80")
		}, []string{"3000 3000 key 00000003260180000000034209010000000326" + "0980"}},
		{"one in two, h265", h265ES, func(b *builder) {
			b.pes(0x100, 3000, -1, aud265+sets265+"\x00\x00\x01\x26\x01\x80")
			b.pes(0x100, -1, -1, rest265)
			b.pes(0x100, 9000, 6000, aud265+sei265+inter265+rest265+sei265+inter265)
		}, []string{"3000 3000 key 0000000326018000000003020111", "6000 9000 000000034e010500000003020180" + "00000003020111", "9000 12000 000000034e010500000003020180"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b builder
			b.tables(tt.es)
			tt.write(&b)
			got, _ := demux(t, b.ts)
			require.Equal(t, tt.want, shown(got.frames))
		})
	}
}

// TestDemuxerFields: the two fields of an interlaced frame stay together.
func TestDemuxerFields(t *testing.T) {
	const ( // of 64x64, frame_mbs_only_flag is 0
		sps = "\x00\x00\x00\x01\x67\x64\x00\x15\xac\xd9\x44\x4d\x80\x88\x00\x00\x03\x00\x08\x00\x00\x03\x01\x90\xf8\xa1\x4c\xb0"
		pps = "\x00\x00\x00\x01\x68\xfb\xa3\xcb\x22\xc0"
	)
	var b builder
	b.tables(h264ES)
	b.pes(0x100, 3000, -1, aud264+sps+pps+idr264+aud264+inter264)
	got, _ := demux(t, b.ts)
	require.Equal(t, []string{"3000 3000 key 00000002658800000002419a"}, shown(got.frames))
	info, err := got.frames[0].Track.Video()
	require.NoError(t, err)
	require.Equal(t, 64, info.Height)
}

func TestDemuxerSound(t *testing.T) {
	adts := func(size int) string { // 48 kHz, stereo
		n := size + 7
		return string([]byte{0xff, 0xf1, 0x4c, 0x80 | byte(n>>11), byte(n >> 3), byte(n<<5) | 0x1f, 0xfc}) + strings.Repeat("a", size)
	}
	crc := "\xff\xf0\x4c\x80\x01\x9f\xfc\x12\x34" + "abc" // 12 bytes
	a, b, c := adts(3), adts(4), adts(5)
	mp3 := func(fill string) string { return "\xff\xfb\x14\xc4" + strings.Repeat(fill, 92) } // 32 kbit/s, 48 kHz, mono
	opus := "\x7f\xe0\x02\xfc\x01"
	for _, tt := range []struct {
		name  string
		es    es
		write func(w *builder)
		want  []string
	}{
		{"several in one", aacES, func(w *builder) {
			w.pes(0x200, 9000, -1, a+crc+b)
			w.pes(0x200, 20000, -1, c)
		}, []string{"9000 9000 616161", "10920 10920 616263", "12840 12840 61616161", "20000 20000 6161616161"}},
		{"across", aacES, func(w *builder) { // a time stamp is of what begins behind it
			w.pes(0x200, 9000, -1, a+b[:2])
			w.pes(0x200, 20000, -1, b[2:]+c+a[:9])
			w.pes(0x200, 30000, -1, a[9:])
			w.pes(0x200, 40000, -1, a)
		}, []string{"9000 9000 616161", "10920 10920 61616161", "20000 20000 6161616161", "21920 21920 616161", "40000 40000 616161"}},
		{"across three", aacES, func(w *builder) {
			w.pes(0x200, 9000, -1, a[:1])
			w.pes(0x200, 10000, -1, a[1:5])
			w.pes(0x200, 11000, -1, a[5:]+b)
		}, []string{"9000 9000 616161", "11000 11000 61616161"}},
		{"no time", aacES, func(w *builder) {
			w.pes(0x200, -1, -1, a)
			w.pes(0x200, 20000, -1, b)
			w.pes(0x200, -1, -1, a)
		}, []string{"20000 20000 61616161", "21920 21920 616161"}},
		{"garbage", aacES, func(w *builder) {
			w.pes(0x200, 9000, -1, "xyz\xff"+a+b+"\xff\xff")
			w.pes(0x200, 20000, -1, "\xff\xf1"+c)
		}, []string{"9000 9000 616161", "10920 10920 61616161", "20000 20000 6161616161"}},
		{"begins inside", aacES, func(w *builder) { // what looks like a header is none: no other follows
			w.pes(0x200, 9000, -1, "\xff\xf1\x4c\x80\x01\x1f\xfcxxxxxxxxxxxx"+a+b)
		}, []string{"9000 9000 616161", "10920 10920 61616161"}},
		{"mp3", mp3ES, func(w *builder) {
			w.pes(0x200, 9000, -1, mp3("a")+mp3("b")[:50])
			w.pes(0x200, 20000, -1, mp3("b")[50:]+mp3("c"))
		}, []string{fmt.Sprintf("9000 9000 %x", mp3("a")), fmt.Sprintf("11160 11160 %x", mp3("b")), fmt.Sprintf("20000 20000 %x", mp3("c"))}},
		{"layer II is not MP3", mp3ES, func(w *builder) {
			w.pes(0x200, 9000, -1, "\xff\xfd\x14\xc4"+strings.Repeat("a", 92))
		}, nil},
		{"opus", opusES, func(w *builder) {
			w.pes(0x200, 9000, -1, opus+"\x7f\xfc\x02\x00\x10\x00\x20\x01\xee\xfc\x02"+opus)
			w.pes(0x200, 20000, -1, "\x7f\xe0\xff\x01"+"\xfc"+strings.Repeat("x", 255))
		}, []string{"9000 9000 fc01", "10800 10800 fc02", "12600 12600 fc01", "20000 20000 fc" + strings.Repeat("78", 255)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, length := range []bool{false, true} {
				w := builder{length: length}
				w.tables(tt.es)
				tt.write(&w)
				got, _ := demux(t, w.ts)
				require.Equal(t, tt.want, shown(got.frames))
			}
		})
	}
	t.Run("rate changes", func(t *testing.T) {
		w := builder{}
		w.tables(aacES)
		slow := []byte(a)
		slow[2] = 0x58 // 24 kHz
		w.pes(0x200, 9000, -1, a+string(slow)+string(slow)+a)
		got, _ := demux(t, w.ts)
		require.Equal(t, []string{"9000 9000 616161", "10920 10920 616161", "14760 14760 616161", "18600 18600 616161"}, shown(got.frames))
		require.Len(t, got.tracks, 3)
		require.Equal(t, 24000, got.tracks[1][0].Rate)
	})
}

// TestDemuxerBounds: what never ends is let go.
func TestDemuxerBounds(t *testing.T) {
	p := &streamtest.Pattern{}
	for _, tt := range []struct {
		name string
		es   es
		fill string
	}{
		{"picture", h264ES, "\x55"},
		{"units", h264ES, "\x00\x00\x01\x41"},
		{"pictures", h264ES, inter264},
		{"sound", aacES, "\x55"},
		{"headers", aacES, "\xff"},
		{"opus sizes", opusES, "\x7f\xe0" + strings.Repeat("\xff", 2000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b builder
			b.tables(tt.es)
			b.pes(tt.es.pid, 9000, -1, sets(t, stream.H264)+strings.Repeat(tt.fill, 10<<20/len(tt.fill)))
			s := &sink{}
			d := &mpegts.Demuxer{Sink: s}
			_, err := d.Write(b.ts)
			require.NoError(t, err)
			require.NoError(t, d.Close())
			require.LessOrEqual(t, len(s.frames), 100)
			require.NotZero(t, d.Stats().Dropped)
		})
	}
	t.Run("sections", func(t *testing.T) {
		// A section that is said to go on is not waited for without end, and
		// the next one counts.
		var b builder
		b.packetize(0, append([]byte{0, 0, 0xbf, 0xff}, make([]byte, 1<<20)...), 0)
		b.ts = append(b.ts, mux(t, p.Tracks(), nil)...)
		var m mpegts.Muxer
		require.NoError(t, m.Configure(p.Tracks()))
		for f := range p.Frames(10) {
			b.ts = m.AppendFrame(b.ts, f)
		}
		got, d := demux(t, b.ts)
		require.Len(t, got.frames, 10)
		require.Greater(t, d.Stats().Errors, uint64(5000))
	})
	t.Run("memory", func(t *testing.T) {
		// Every PID has a PMT, and begins sections that never end.
		var b builder
		for pid := uint16(0x20); pid < 0x1f00; pid++ {
			b.pat(pid, pid)
			b.packetize(pid, append([]byte{0, 2, 0xbf, 0xff}, make([]byte, 1500)...), 0)
		}
		s := &sink{}
		d := &mpegts.Demuxer{Sink: s}
		_, err := d.ReadFrom(bytes.NewReader(b.ts))
		require.ErrorIs(t, err, mpegts.ErrMalformed)
	})
}

func TestDemuxerProgrammes(t *testing.T) {
	sets264 := sets(t, stream.H264)
	frame := func(b *builder, pid uint16, pts int64) { b.pes(pid, pts, -1, sets264+idr264) }
	read := func(t *testing.T, b *builder, number uint16) []string {
		s := &sink{}
		d := &mpegts.Demuxer{Sink: s, Programme: number}
		_, err := d.Write(b.ts)
		require.NoError(t, err)
		if err = d.Close(); err != nil {
			require.ErrorIs(t, err, mpegts.ErrMalformed)
		}
		var times []string
		for _, f := range s.frames {
			times = append(times, fmt.Sprint(stream.Ticks(f.DTS, 90000)))
		}
		return times
	}
	a, b2 := es{0x1b, 0x100, ""}, es{0x1b, 0x300, ""}
	t.Run("chosen", func(t *testing.T) {
		var b builder
		b.pat(0, 0x10, 7, 0x1007, 9, 0x1009)
		b.pmt(0x1009, 9, b2)
		b.pmt(0x1007, 7, a)
		frame(&b, 0x100, 1000)
		frame(&b, 0x300, 2000)
		require.Equal(t, []string{"1000"}, read(t, &b, 0))
		require.Equal(t, []string{"1000"}, read(t, &b, 7))
		require.Equal(t, []string{"2000"}, read(t, &b, 9))
		require.Empty(t, read(t, &b, 8))
	})
	t.Run("one PID for both PMTs", func(t *testing.T) {
		var b builder
		b.pat(7, 0x1007, 9, 0x1007)
		b.pmt(0x1007, 9, b2)
		b.pmt(0x1007, 7, a)
		frame(&b, 0x100, 1000)
		frame(&b, 0x300, 2000)
		require.Equal(t, []string{"1000"}, read(t, &b, 7))
		require.Equal(t, []string{"2000"}, read(t, &b, 9))
	})
	t.Run("the PMT moves", func(t *testing.T) {
		var b builder
		b.pat(7, 0x1007)
		b.pmt(0x1007, 7, a)
		frame(&b, 0x100, 1000)
		b.pat(7, 0x1009)
		b.pmt(0x1007, 7, a)
		b.pmt(0x1009, 7, b2)
		frame(&b, 0x300, 2000)
		require.Equal(t, []string{"1000", "2000"}, read(t, &b, 0))
	})
	t.Run("another programme", func(t *testing.T) {
		var b builder
		b.pat(7, 0x1007)
		b.pmt(0x1007, 7, a)
		frame(&b, 0x100, 1000)
		for range 3 { // an absence may be another section's
			b.pat(9, 0x1009)
			b.pmt(0x1009, 9, b2)
			frame(&b, 0x300, 2000)
		}
		require.Equal(t, []string{"1000", "2000"}, read(t, &b, 0))
		require.Equal(t, []string{"1000"}, read(t, &b, 7))
	})
	t.Run("not in force yet", func(t *testing.T) {
		var b builder
		b.pat(7, 0x1007)
		b.pmt(0x1007, 7, a)
		b.section(0x1007, 2, 7, false, pmtBody(0x300, b2))
		frame(&b, 0x100, 1000)
		frame(&b, 0x300, 2000)
		require.Equal(t, []string{"1000"}, read(t, &b, 0))
	})
	t.Run("long PAT and PMT", func(t *testing.T) {
		var b builder
		var many []uint16
		for i := range uint16(250) {
			many = append(many, 1000+i, 0x1500)
		}
		b.pat(append(many, 7, 0x1007)...)
		var streams []es
		for range 50 {
			streams = append(streams, es{0x05, 0x500, "\x05\x04ABCD"})
		}
		b.pmt(0x1007, 7, append(streams, a)...)
		frame(&b, 0x100, 1000)
		require.Equal(t, []string{"1000"}, read(t, &b, 7))
	})
	t.Run("bad CRC", func(t *testing.T) {
		var b builder
		b.pat(7, 0x1007)
		b.ts[mpegts.PacketSize-1] ^= 1
		b.pmt(0x1007, 7, a)
		frame(&b, 0x100, 1000)
		require.Empty(t, read(t, &b, 0))
	})
	t.Run("impossible PIDs", func(t *testing.T) {
		var b builder
		b.pat(6, 0x1fff, 7, 0, 8, 0x1007)
		b.pmt(0x1007, 8, es{0x1b, 0, ""}, es{0x1b, 0x1007, ""}, es{0x1b, 0x1fff, ""}, a)
		frame(&b, 0x100, 1000)
		require.Equal(t, []string{"1000"}, read(t, &b, 0))
	})
}

// TestDemuxerStreams: which streams of a programme make tracks.
func TestDemuxerStreams(t *testing.T) {
	adts := "\xff\xf1\x4c\x80\x01\x5f\xfcaaa"
	dolby := "\x0b\x77\x00\x00\x14\x40\x40" + strings.Repeat("a", 761)
	const opus = "\x7f\xe0\x02\xfc\x01"
	for _, tt := range []struct {
		name    string
		streams []es
		data    string
		codec   stream.Codec // of the audio
		config  string
		lang    string
		refused string
	}{
		{"aac with language", []es{{0x0f, 0x200, "\x0a\x04deu\x00"}}, adts, stream.AAC, "\x11\x90", "deu", ""},
		{"language of no standard", []es{{0x0f, 0x200, "\x0a\x04DE \x00"}}, adts, stream.AAC, "\x11\x90", "", ""},
		{"no language", []es{{0x0f, 0x200, "\x0a\x04und\x00"}}, adts, stream.AAC, "\x11\x90", "", ""},
		{"the second is ignored", []es{{0x0f, 0x200, ""}, {0x0f, 0x201, ""}}, adts, stream.AAC, "\x11\x90", "", ""},
		{"ATSC AC-3", []es{{0x81, 0x200, "\x05\x04AC-3"}}, dolby, stream.AC3, "", "", ""},
		{"DVB AC-3", []es{{0x06, 0x200, "\x6a\x01\x00"}}, dolby, stream.AC3, "", "", ""},
		{"registered AC-3", []es{{0x06, 0x200, "\x05\x04AC-3"}}, dolby, stream.AC3, "", "", ""},
		{"opus", []es{{0x06, 0x200, "\x05\x04Opus\x7f\x02\x80\x01"}}, opus, stream.Opus, "OpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00", "", ""},
		{"opus of another mapping", []es{{0x06, 0x200, "\x05\x04Opus\x7f\x02\x80\x81"}}, opus, 0, "", "", "stream type 0x06"},
		{"MPEG audio layer II", []es{{0x03, 0x200, ""}}, "\xff\xfd\x14\xc4" + strings.Repeat("a", 92), 0, "", "", "MPEG audio layer II"},
		{"unknown", []es{{0x1c, 0x200, ""}, {0x02, 0x202, ""}}, opus, 0, "", "", "stream type 0x1c, stream type 0x02"},
		{"the first that is known", []es{{0x11, 0x300, ""}, {0x0f, 0x200, ""}}, adts, stream.AAC, "\x11\x90", "", "stream type 0x11"},
		{"descriptors of all sorts", []es{{0x0f, 0x200, "\x52\x01\x00\x0a\x04deu\x00\x7f\x01\x00\x05\x05ABCDE"}}, adts, stream.AAC, "\x11\x90", "deu", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b builder
			b.tables(tt.streams...)
			b.pes(0x200, 9000, -1, tt.data)
			b.pes(0x201, 9000, -1, tt.data)
			got, d := demux(t, b.ts)
			if tt.refused == "" {
				require.NoError(t, d.Unsupported())
			} else {
				require.ErrorIs(t, d.Unsupported(), stream.ErrUnsupported)
				require.EqualError(t, d.Unsupported(), "mpegts: "+tt.refused+": "+stream.ErrUnsupported.Error())
			}
			if tt.codec == 0 {
				require.Empty(t, got.frames)
				return
			}
			require.Len(t, got.frames, 1)
			track := got.frames[0].Track
			require.Equal(t, tt.codec, track.Codec)
			require.Equal(t, tt.config, string(track.Config))
			require.Equal(t, tt.lang, track.Language)
			require.EqualValues(t, mpegts.AudioID, track.ID)
			require.True(t, got.frames[0].Key)
		})
	}
}

// TestDemuxerRestart: a restart of the clock is passed on.
func TestDemuxerRestart(t *testing.T) {
	sets264 := sets(t, stream.H264)
	var b builder
	b.tables(h264ES, aacES)
	b.pes(0x100, 90000, -1, sets264+idr264)
	b.pes(0x200, 90000, -1, "\xff\xf1\x4c\x80\x01\x5f\xfcaaa")
	b.packetize(0x100, nil, 0) // room for a PCR
	p := b.ts[len(b.ts)-mpegts.PacketSize:]
	p[3], p[1] = p[3]&0x0f|0x20, p[1]&0x1f
	p[5] = 0x90
	b.counters[0x100]--
	b.pes(0x100, 1<<33-90000, -1, sets264+idr264)
	b.pes(0x100, 1<<33-87000, -1, inter264)
	got, _ := demux(t, b.ts)
	var flags []bool
	for _, f := range got.of(stream.Video) {
		flags = append(flags, f.Discontinuity)
	}
	require.Equal(t, []bool{false, true, false}, flags)
	require.Equal(t, -time.Second, got.of(stream.Video)[1].DTS)
}
