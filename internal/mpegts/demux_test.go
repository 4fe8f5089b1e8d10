package mpegts_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// equalFrames requires that got is what a Demuxer makes of a transport stream
// of want. Interleaving may differ: some frames are complete only when the next
// one comes.
func equalFrames(t testing.TB, want, got []*stream.Frame) {
	t.Helper()
	for _, kind := range []stream.Kind{stream.Video, stream.Audio} {
		w, g := (&sink{frames: want}).of(kind), (&sink{frames: got}).of(kind)
		require.Len(t, g, len(w), "%v", kind)
		for i, a := range w {
			b := g[i]
			require.Equal(t, a.Track.ID, b.Track.ID)
			require.True(t, normal(t, a.Track).Same(normal(t, b.Track)), "%v %d: %v is not %v", kind, i, b.Track, a.Track)
			const tick = time.Second / 90000
			require.InDelta(t, a.DTS+mpegts.Offset, b.DTS, float64(tick), "%v %d", kind, i)
			require.InDelta(t, a.PTS+mpegts.Offset, b.PTS, float64(tick), "%v %d", kind, i)
			require.Equal(t, a.Key, b.Key, "%v %d", kind, i)
			require.Equal(t, a.Discardable, b.Discardable, "%v %d", kind, i)
			require.Equal(t, a.Discontinuity, b.Discontinuity, "%v %d", kind, i)
			require.Equal(t, a.Data, b.Data, "%v %d", kind, i)
		}
	}
}

// normal returns the track with a record that says of all arrays of parameter
// sets that they are complete.
func normal(t testing.TB, track *stream.Track) *stream.Track {
	if track.Codec != stream.H265 {
		return track
	}
	c, err := h265.ParseConfig(track.Config)
	require.NoError(t, err)
	for i := range c.Arrays {
		c.Arrays[i].Complete = true
	}
	out := *track
	out.Config = c.Append(nil)
	return &out
}

// packets returns the packets of a PID, which alias ts.
func packets(ts []byte, pid uint16) (of [][]byte) {
	for p := range slices.Chunk(ts, mpegts.PacketSize) {
		if uint16(p[1]&0x1f)<<8|uint16(p[2]) == pid {
			of = append(of, p)
		}
	}
	return of
}

func TestRoundTrip(t *testing.T) {
	for name, p := range patterns() {
		t.Run(name, func(t *testing.T) {
			frames := slices.Collect(p.Frames(300))
			got, d := demux(t, mux(t, p.Tracks(), frames))
			equalFrames(t, frames, got.frames)
			require.Len(t, got.tracks[len(got.tracks)-1], len(p.Tracks()))
			require.NoError(t, d.Unsupported())
			s := d.Stats()
			s.Packets = 0
			require.Zero(t, s)
		})
	}
	for name, src := range map[string]*streamtest.Source{
		"clip":               {Duration: 5 * time.Second},
		"clip with B-frames": {Duration: 5 * time.Second, BFrames: true},
	} {
		t.Run(name, func(t *testing.T) {
			frames := slices.Collect(src.Frames())
			ts := mux(t, src.Tracks(), frames)
			inspect(t, ts)
			got, _ := demux(t, ts)
			equalFrames(t, frames, got.frames)
		})
	}
	for code, channels := range []int{2, 1, 2, 3, 4, 5, 6, 7, 8} {
		p := &streamtest.Pattern{Audio: stream.Opus, NoVideo: true, AudioSize: 300 * (code + 1)}
		frames := slices.Collect(p.Frames(5))
		track := *p.Tracks()[0]
		track.Channels, track.Config = channels, mpegts.OpusConfig(byte(code))
		for _, f := range frames {
			f.Track = &track
		}
		got, _ := demux(t, mux(t, []*stream.Track{&track}, frames))
		equalFrames(t, frames, got.frames)
	}
}

// TestDemuxerPieces: the frames are the same however the bytes are cut, and
// picture and sound come out as soon as their last byte is there.
func TestDemuxerPieces(t *testing.T) {
	p := &streamtest.Pattern{BFrames: 1, KeySize: 100000}
	frames := slices.Collect(p.Frames(200))
	ts := mux(t, p.Tracks(), frames)
	rng := rand.New(rand.NewPCG(1, 2))
	for name, cut := range map[string]func() int{
		"datagrams": func() int { return 7 * mpegts.PacketSize },
		"bytes":     func() int { return 1 },
		"random":    func() int { return 1 + rng.IntN(2000) },
		"large":     func() int { return 100000 },
	} {
		t.Run(name, func(t *testing.T) {
			s := &sink{}
			now := time.Unix(1e9, 0)
			d := &mpegts.Demuxer{Sink: s, Now: func() time.Time { return now }}
			for rest := ts; len(rest) > 0; {
				n := min(cut(), len(rest))
				piece := bytes.Clone(rest[:n])
				wrote, err := d.Write(piece)
				require.NoError(t, err)
				require.Equal(t, n, wrote)
				clear(piece) // nothing of it may be kept
				rest = rest[n:]
			}
			require.NoError(t, d.Close())
			equalFrames(t, frames, s.frames)
			require.Equal(t, now, s.frames[0].Time)
		})
	}
	t.Run("reader", func(t *testing.T) {
		s := &sink{}
		n, err := io.Copy(&mpegts.Demuxer{Sink: s}, iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(ts))))
		require.NoError(t, err)
		require.EqualValues(t, len(ts), n)
		equalFrames(t, frames, s.frames)
	})
	t.Run("at once", func(t *testing.T) {
		p := &streamtest.Pattern{}
		var m mpegts.Muxer
		require.NoError(t, m.Configure(p.Tracks()))
		s := &sink{}
		d := &mpegts.Demuxer{Sink: s}
		n := 0
		for f := range p.Frames(100) {
			_, err := d.Write(m.AppendFrame(nil, f))
			require.NoError(t, err)
			n++
			require.Len(t, s.frames, n)
		}
	})
}

func TestDemuxerErrors(t *testing.T) {
	p := &streamtest.Pattern{}
	ts := mux(t, p.Tracks(), slices.Collect(p.Frames(20)))
	fail := errors.New("fail")
	d := &mpegts.Demuxer{Sink: &sink{fail: fail}}
	n, err := d.Write(ts)
	require.ErrorIs(t, err, fail)
	require.Less(t, n, len(ts))
	_, err = d.Write(ts)
	require.ErrorIs(t, err, fail, "for good")
	require.ErrorIs(t, d.Close(), fail)

	d = &mpegts.Demuxer{Sink: &sink{}}
	for range 300 {
		if _, err = d.Write(bytes.Repeat([]byte("<html>G"), 1000)); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, mpegts.ErrMalformed)

	for _, text := range []string{"", "G", "no transport stream at all"} {
		_, err = (&mpegts.Demuxer{Sink: &sink{}}).ReadFrom(bytes.NewReader([]byte(text)))
		require.ErrorIs(t, err, mpegts.ErrMalformed, text)
	}
	_, err = (&mpegts.Demuxer{Sink: &sink{}}).ReadFrom(iotest.ErrReader(fail))
	require.ErrorIs(t, err, fail)

	d = &mpegts.Demuxer{Sink: &sink{}}
	_, err = d.Write(ts)
	require.NoError(t, err)
	require.NoError(t, d.Close())
	_, err = d.Write(ts)
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

// TestDemuxerResync: bytes that are no packets cost what they hit.
func TestDemuxerResync(t *testing.T) {
	p := &streamtest.Pattern{KeySize: 500, FrameSize: 500}
	frames := slices.Collect(p.Frames(100))
	ts := mux(t, p.Tracks(), frames)
	garbage := bytes.Repeat([]byte{1, 0x47, 2, 3, 4}, 300)
	middle := len(ts) / 2 / mpegts.PacketSize * mpegts.PacketSize
	for name, damaged := range map[string][]byte{
		"before":    slices.Concat(garbage, ts),
		"after":     slices.Concat(ts, garbage),
		"between":   slices.Concat(ts[:middle], garbage, ts[middle:]),
		"cut start": ts[2*mpegts.PacketSize-100:], // no PAT: the first frames are lost
		"cut end":   ts[:len(ts)-50],
		"lost byte": slices.Concat(ts[:middle+40], ts[middle+41:]),
		"bad sync":  slices.Concat(ts[:middle], []byte{0x48}, ts[middle+1:]),
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 188, 1316, len(damaged)} {
				s := &sink{}
				d := &mpegts.Demuxer{Sink: s}
				for piece := range slices.Chunk(damaged, size) {
					_, err := d.Write(piece)
					require.NoError(t, err)
				}
				require.NoError(t, d.Close())
				switch name {
				case "before", "after", "between":
					equalFrames(t, frames, s.frames)
					require.InDelta(t, len(garbage), d.Stats().Skipped, 2*mpegts.PacketSize) // the end may be a packet's start
				case "cut start":
					require.GreaterOrEqual(t, len(s.frames), 50)
				default:
					require.GreaterOrEqual(t, len(s.frames), len(frames)-2)
				}
			}
		})
	}
}

// TestDemuxerLoss: what is missing takes no more with it than its PES packet.
func TestDemuxerLoss(t *testing.T) {
	p := &streamtest.Pattern{KeySize: 2000, FrameSize: 1000}
	frames := slices.Collect(p.Frames(60))
	ts := mux(t, p.Tracks(), frames)
	video := len(frames) - len((&sink{frames: frames}).of(stream.Audio))
	without := func(packet []byte) []byte {
		i := 0
		for &ts[i] != &packet[0] {
			i += mpegts.PacketSize
		}
		return slices.Concat(ts[:i], ts[i+mpegts.PacketSize:])
	}
	of := packets(ts, videoPID)
	inside := slices.IndexFunc(of[30:], func(p []byte) bool { return p[1]&0x40 == 0 }) + 30
	first := slices.IndexFunc(of[inside:], func(p []byte) bool { return p[1]&0x40 != 0 }) + inside
	for name, n := range map[string]int{"inside": inside, "start": first, "end": first - 1} {
		t.Run(name, func(t *testing.T) {
			got, d := demux(t, without(of[n]))
			require.Len(t, got.of(stream.Video), video-1)
			require.Len(t, got.of(stream.Audio), len(frames)-video)
			require.EqualValues(t, 1, d.Stats().Lost)
		})
	}
	t.Run("audio", func(t *testing.T) {
		got, d := demux(t, without(packets(ts, audioPID)[11]))
		require.Len(t, got.of(stream.Audio), len(frames)-video-1)
		require.EqualValues(t, 1, d.Stats().Lost)
	})
	t.Run("twice", func(t *testing.T) {
		var double []byte
		for packet := range slices.Chunk(ts, mpegts.PacketSize) {
			double = append(append(double, packet...), packet...)
		}
		got, d := demux(t, double)
		equalFrames(t, frames, got.frames)
		require.Zero(t, d.Stats().Lost)
	})
	for name, spoil := range map[string]func(p []byte){
		"transport error":   func(p []byte) { p[1] |= 0x80 },
		"scrambled":         func(p []byte) { p[3] |= 0x80 },
		"no PES":            func(p []byte) { p[len(p)-184] = 1 },
		"scrambled PES":     func(p []byte) { p[len(p)-184+6] |= 0x10 },
		"adaptation field":  func(p []byte) { p[3] |= 0x20; p[4] = 184 },
		"PES header":        func(p []byte) { p[len(p)-184+4] = 0; p[len(p)-184+5] = 2 },
		"optional fields":   func(p []byte) { p[len(p)-184+8] = 4 },
		"long PES header":   func(p []byte) { p[len(p)-184+8] = 255 },
		"another stream id": func(p []byte) { p[len(p)-184+3] = 0xbe },
	} {
		t.Run(name, func(t *testing.T) {
			ts := bytes.Clone(ts)
			spoil(slices.DeleteFunc(packets(ts, audioPID), func(p []byte) bool { return p[1]&0x40 == 0 || p[3]&0x20 != 0 })[5])
			got, d := demux(t, ts)
			require.Len(t, got.of(stream.Audio), len(frames)-video-1)
			require.Len(t, got.of(stream.Video), video)
			require.NotZero(t, d.Stats().Errors)
		})
	}
}

// TestDemuxerWrap: the 33-bit clock wraps after 26.5 hours, not on all streams
// at once.
func TestDemuxerWrap(t *testing.T) {
	const wrap = time.Duration(1<<33) * time.Second / 90000
	p := &streamtest.Pattern{BFrames: 2, Start: wrap - mpegts.Offset - time.Second}
	frames := slices.Collect(p.Frames(200))
	got, _ := demux(t, mux(t, p.Tracks(), frames))
	equalFrames(t, frames, got.frames)
	require.Greater(t, got.frames[len(got.frames)-1].DTS, wrap)
}

func TestDemuxerDiscontinuity(t *testing.T) {
	p := &streamtest.Pattern{}
	frames := slices.Collect(p.Frames(50))
	i := slices.IndexFunc(frames[20:], func(f *stream.Frame) bool { return f.Track.ID == 1 }) + 20
	frames[i].Discontinuity = true
	got, _ := demux(t, mux(t, p.Tracks(), frames))
	equalFrames(t, frames, got.frames)
}

// TestDemuxerTracks: tracks follow the parameter sets and headers in the
// stream, and the tables.
func TestDemuxerTracks(t *testing.T) {
	a := &streamtest.Pattern{}
	b := &streamtest.Pattern{Video: stream.H265, Audio: stream.MP3, Start: 2 * time.Second}
	alone := &streamtest.Pattern{NoAudio: true, Start: 4 * time.Second}
	var m mpegts.Muxer
	var ts []byte
	var want []*stream.Frame
	for _, p := range []*streamtest.Pattern{a, b, alone} {
		require.NoError(t, m.Configure(p.Tracks()))
		for f := range p.Frames(50) {
			ts = m.AppendFrame(ts, f)
			want = append(want, f)
		}
	}
	got, d := demux(t, ts)
	equalFrames(t, want, got.frames)
	require.Zero(t, d.Stats().Dropped)
	require.Equal(t, alone.Tracks(), got.tracks[len(got.tracks)-1])

	// Another picture size in the midst of a track.
	p := &streamtest.Pattern{NoAudio: true, KeyInterval: 5}
	src := &streamtest.Source{NoAudio: true, Duration: time.Second, Start: time.Second}
	require.NoError(t, m.Configure(p.Tracks()))
	want, ts = slices.Collect(p.Frames(5)), nil
	for _, f := range want {
		ts = m.AppendFrame(ts, f)
	}
	require.NoError(t, m.Configure(src.Tracks()))
	for f := range src.Frames() {
		want = append(want, f)
		ts = m.AppendFrame(ts, f)
	}
	got, _ = demux(t, ts)
	require.Len(t, got.frames, len(want))
	require.Len(t, got.tracks, 2)
	first, err := got.tracks[0][0].Video()
	require.NoError(t, err)
	second, err := got.tracks[1][0].Video()
	require.NoError(t, err)
	require.Equal(t, []int{320, 640}, []int{first.Width, second.Width})
	require.Same(t, got.tracks[1][0], got.frames[5].Track)

	// Nobody knows yet what these are.
	require.NoError(t, m.Configure([]*stream.Track{{ID: 1, Codec: stream.H264}}))
	got, d = demux(t, m.AppendTables(m.AppendTables(nil)))
	require.Empty(t, got.frames)
	require.NoError(t, d.Unsupported())
}

func TestDemuxerBeforeConfig(t *testing.T) {
	p := &streamtest.Pattern{NoAudio: true, KeyInterval: 10}
	frames := slices.Collect(p.Frames(25))
	got, d := demux(t, mux(t, p.Tracks(), frames[3:]))
	equalFrames(t, frames[10:], got.frames)
	require.EqualValues(t, 7, d.Stats().Dropped)
}
