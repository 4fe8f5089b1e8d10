package fmp4

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/runnel-media/runnel/stream"
)

// decode reads init and parts back with mp4ff: the samples of every track.
func decode(t require.TestingT, tracks []*stream.Track, parts []byte) map[uint8][]mp4.FullSample {
	init, err := Init(tracks...)
	require.NoError(t, err)
	f, err := mp4.DecodeFile(bytes.NewReader(append(init, parts...)))
	require.NoError(t, err)
	samples := map[uint8][]mp4.FullSample{}
	for _, segment := range f.Segments {
		for _, fragment := range segment.Fragments {
			for _, track := range tracks {
				trex, ok := f.Init.Moov.Mvex.GetTrex(uint32(track.ID))
				require.True(t, ok)
				for _, traf := range fragment.Moof.Trafs {
					if traf.Tfhd.TrackID != uint32(track.ID) {
						continue
					}
					s, err := fragment.GetFullSamples(trex)
					require.NoError(t, err)
					samples[track.ID] = append(samples[track.ID], s...)
				}
			}
		}
	}
	return samples
}

func frames(track *stream.Track, step time.Duration, n int) []*stream.Frame {
	var ff []*stream.Frame
	for i := range n {
		dts := time.Duration(i) * step
		ff = append(ff, &stream.Frame{Track: track, DTS: dts, PTS: dts, Key: i == 0, Data: []byte{byte(i), 1, 2, 3}})
	}
	return ff
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func TestAppendPart(t *testing.T) {
	video, audio := videoTrack(), audioTrack()
	vf := []*stream.Frame{
		{DTS: ms(1000), PTS: ms(1040), Key: true, Data: []byte("key")},
		{DTS: ms(1040), PTS: ms(1160), Data: []byte("p")},
		{DTS: ms(1080), PTS: ms(1060), Discardable: true, Data: []byte("bb")}, // an offset below 0
	}
	af := []*stream.Frame{
		{DTS: stream.FromTicks(44100, 44100), Data: []byte("one")},
		{DTS: stream.FromTicks(44100+1024, 44100), Data: []byte("three")},
	}
	b := AppendPart(nil, 9, Run{video, vf, ms(1120)}, Run{audio, af, stream.FromTicks(44100+2048, 44100)})

	box, err := mp4.DecodeBox(0, bytes.NewReader(b))
	require.NoError(t, err)
	moof := box.(*mp4.MoofBox)
	require.EqualValues(t, 9, moof.Mfhd.SequenceNumber)
	require.Len(t, moof.Trafs, 2)
	end := moof.Size()
	mdat, err := mp4.DecodeBox(end, bytes.NewReader(b[end:]))
	require.NoError(t, err)
	require.Equal(t, "keypbbonethree", string(mdat.(*mp4.MdatBox).Data))
	require.EqualValues(t, len(b), end+mdat.Size())

	v := moof.Trafs[0]
	require.True(t, v.Tfhd.DefaultBaseIfMoof())
	require.EqualValues(t, 1, v.Tfhd.TrackID)
	require.EqualValues(t, 90000, v.Tfdt.BaseMediaDecodeTime())
	require.EqualValues(t, end+8, v.Trun.DataOffset)
	require.Equal(t, []mp4.Sample{
		{Flags: 0x02000000, Dur: 3600, Size: 3, CompositionTimeOffset: 3600},
		{Flags: 0x01010000, Dur: 3600, Size: 1, CompositionTimeOffset: 10800},
		{Flags: 0x01810000, Dur: 3600, Size: 2, CompositionTimeOffset: -1800},
	}, v.Trun.Samples)

	a := moof.Trafs[1]
	require.EqualValues(t, 2, a.Tfhd.TrackID)
	require.EqualValues(t, 44100, a.Tfdt.BaseMediaDecodeTime())
	require.EqualValues(t, end+8+6, a.Trun.DataOffset)
	require.EqualValues(t, mp4.SyncSampleFlags, a.Tfhd.DefaultSampleFlags)
	require.Equal(t, []mp4.Sample{{Dur: 1024, Size: 3}, {Dur: 1024, Size: 5}}, a.Trun.Samples)

	// The header alone is the same bytes up to the data, and what is there stays.
	h := AppendPartHeader([]byte("before"), 9, Run{video, vf, ms(1120)}, Run{audio, af, stream.FromTicks(44100+2048, 44100)})
	require.Equal(t, "before"+string(b[:len(b)-14]), string(h))
}

func TestAppendPartEmpty(t *testing.T) {
	require.Empty(t, AppendPart(nil, 1))
	require.Empty(t, AppendPart(nil, 1, Run{Track: videoTrack()}))
	require.Empty(t, AppendPartHeader(nil, 1, Run{Track: videoTrack()}))

	video, audio := videoTrack(), audioTrack()
	some := Run{Track: audio, Frames: frames(audio, ms(20), 2)}
	require.Equal(t, AppendPart(nil, 1, some), AppendPart(nil, 1, Run{Track: video}, some))
}

func TestDurations(t *testing.T) {
	video, audio := videoTrack(), audioTrack()
	opus := &stream.Track{ID: 3, Codec: stream.Opus, Rate: 48000, Channels: 2}
	mp3 := &stream.Track{ID: 4, Codec: stream.MP3, Rate: 32000, Channels: 2}
	at := func(dts ...time.Duration) []*stream.Frame {
		var ff []*stream.Frame
		for _, d := range dts {
			ff = append(ff, &stream.Frame{DTS: d, PTS: d, Data: []byte{0}})
		}
		return ff
	}
	for _, tt := range []struct {
		name string
		run  Run
		base uint64
		want []uint32
	}{
		{"next", Run{video, at(0, ms(40)), ms(140)}, 0, []uint32{3600, 9000}},
		{"no next", Run{video, at(0, ms(20), ms(50)), 0}, 0, []uint32{1800, 2700, 2700}},
		{"next in the past", Run{video, at(ms(100), ms(120)), ms(110)}, 9000, []uint32{1800, 1800}},
		{"one alone", Run{video, at(ms(100)), 0}, 9000, []uint32{3600}},
		{"one audio packet alone", Run{audio, at(0), 0}, 0, []uint32{1024}},
		{"one opus packet alone", Run{opus, at(0), 0}, 0, []uint32{960}},
		{"one mp3 frame alone", Run{mp3, at(0), 0}, 0, []uint32{1152}},
		{"two at the same time", Run{video, at(0, 0), 0}, 0, []uint32{0, 3600}},
		{"a step back waits for time to catch up", Run{video, at(ms(100), ms(60), ms(80), ms(140)), ms(180)}, 9000, []uint32{0, 0, 3600, 3600}},
		{"before zero", Run{video, at(-ms(80), -ms(40), 0, ms(40)), ms(80)}, 0, []uint32{0, 0, 3600, 3600}},
		{"a gap of a day", Run{video, at(0, 24*time.Hour), 0}, 0, []uint32{math.MaxUint32, math.MaxUint32}},
		{"the end of time", Run{video, at(math.MaxInt64), 0}, 830103483316930, []uint32{3600}},
		{"its beginning", Run{video, at(math.MinInt64), math.MaxInt64}, 0, []uint32{math.MaxUint32}},
		{"millisecond clock", Run{audio, at(0, ms(23), ms(46), ms(70)), ms(93)}, 0, []uint32{1014, 1015, 1058, 1014}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			box, err := mp4.DecodeBox(0, bytes.NewReader(AppendPart(nil, 1, tt.run)))
			require.NoError(t, err)
			traf := box.(*mp4.MoofBox).Traf
			require.Equal(t, tt.base, traf.Tfdt.BaseMediaDecodeTime())
			var got []uint32
			for _, s := range traf.Trun.Samples {
				got = append(got, s.Dur)
			}
			require.Equal(t, tt.want, got)
		})
	}
}

// Composition times survive a decode time that had to be changed.
func TestCompositionTime(t *testing.T) {
	ff := []*stream.Frame{
		{DTS: -ms(80), PTS: 0},
		{DTS: -ms(40), PTS: ms(120)},
		{DTS: 0, PTS: ms(40)},
		{DTS: ms(40), PTS: math.MaxInt64},
		{DTS: ms(80), PTS: math.MinInt64},
	}
	box, err := mp4.DecodeBox(0, bytes.NewReader(AppendPart(nil, 1, Run{Track: videoTrack(), Frames: ff})))
	require.NoError(t, err)
	var got []int32
	for _, s := range box.(*mp4.MoofBox).Traf.Trun.Samples {
		got = append(got, s.CompositionTimeOffset)
	}
	require.Equal(t, []int32{0, 10800, 3600, math.MaxInt32, math.MinInt32}, got)
}

// Whatever the frames and however they are cut into parts, what decodes is
// what went in, and no rounding adds up.
func TestPartsRoundTrip(t *testing.T) {
	tracks := []*stream.Track{
		videoTrack(), audioTrack(),
		{ID: 3, Codec: stream.Opus, Rate: 48000, Channels: 2},
		{ID: 9, Codec: stream.MP3, Rate: 22050, Channels: 1},
	}
	rapid.Check(t, func(t *rapid.T) {
		var parts []byte
		want := map[uint8][]*stream.Frame{}
		dts := map[uint8]time.Duration{}
		start := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "start"))
		for _, track := range tracks {
			dts[track.ID] = start + time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "offset"))
		}
		for seq := range rapid.IntRange(1, 6).Draw(t, "parts") {
			var runs []Run
			for _, track := range tracks {
				run := Run{Track: track}
				for range rapid.IntRange(0, 5).Draw(t, "frames") {
					at := dts[track.ID]
					f := &stream.Frame{
						Track: track, DTS: at, PTS: at,
						Key:         rapid.Bool().Draw(t, "key"),
						Discardable: rapid.Bool().Draw(t, "discardable"),
						Data:        rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "data"),
					}
					if track.Kind() == stream.Video {
						f.PTS += time.Duration(rapid.Int64Range(-int64(time.Second), int64(time.Second)).Draw(t, "pts"))
					}
					run.Frames = append(run.Frames, f)
					// At least a tick of any of the clocks.
					dts[track.ID] += time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Second)).Draw(t, "step"))
				}
				run.Next = dts[track.ID]
				runs = append(runs, run)
				want[track.ID] = append(want[track.ID], run.Frames...)
			}
			parts = AppendPart(parts, uint32(seq+1), runs...)
		}
		got := decode(t, tracks, parts)
		for _, track := range tracks {
			rate := int(Timescale(track))
			require.Len(t, got[track.ID], len(want[track.ID]))
			for i, f := range want[track.ID] {
				s := got[track.ID][i]
				at := stream.Ticks(f.DTS, rate)
				require.EqualValues(t, at, s.DecodeTime)
				require.Equal(t, f.Data, append([]byte{}, s.Data...))
				require.EqualValues(t, len(f.Data), s.Size)
				if track.Kind() == stream.Video {
					require.Equal(t, stream.Ticks(f.PTS, rate), s.PresentationTime())
					require.Equal(t, f.Key, s.IsSync())
					require.Equal(t, f.Discardable, mp4.DecodeSampleFlags(s.Flags).SampleIsDependedOn == 2)
				} else {
					require.True(t, s.IsSync())
				}
				next := dts[track.ID]
				if i+1 < len(want[track.ID]) {
					next = want[track.ID][i+1].DTS
				}
				require.EqualValues(t, stream.Ticks(next, rate)-at, s.Dur, "a sample ends where the next begins, in another part too")
			}
		}
	})
}

func TestAppendPartAllocs(t *testing.T) {
	video, audio := videoTrack(), audioTrack()
	vf, af := frames(video, ms(40), 5), frames(audio, ms(23), 9)
	dst := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		AppendPart(dst, 1, Run{Track: video, Frames: vf}, Run{Track: audio, Frames: af})
	}))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		AppendPartHeader(dst, 1, Run{Track: video, Frames: vf}, Run{Track: audio, Frames: af})
	}))
}

func benchFrames(track *stream.Track, n, size int) []*stream.Frame {
	ff := frames(track, ms(20), n)
	for _, f := range ff {
		f.Data = make([]byte, size)
		for i := range f.Data {
			f.Data[i] = byte(rand.Uint32())
		}
	}
	return ff
}

func BenchmarkAppendPart(b *testing.B) {
	video, audio := videoTrack(), audioTrack()
	for _, bm := range []struct {
		name string
		runs []Run
	}{
		{"video frame of 5 kB", []Run{{Track: video, Frames: benchFrames(video, 1, 5000)}}},
		{"audio frame of 300 B", []Run{{Track: audio, Frames: benchFrames(audio, 1, 300)}}},
		{"200 ms of both", []Run{{Track: video, Frames: benchFrames(video, 5, 5000)}, {Track: audio, Frames: benchFrames(audio, 9, 300)}}},
	} {
		n, size := 0, 0
		for _, r := range bm.runs {
			n += len(r.Frames)
			size += r.size()
		}
		run := func(name string, f func(dst []byte)) {
			b.Run(bm.name+"/"+name, func(b *testing.B) {
				dst := make([]byte, 0, size+1000)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					f(dst)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/frame")
			})
		}
		run("part", func(dst []byte) { AppendPart(dst, 1, bm.runs...) })
		run("header", func(dst []byte) { AppendPartHeader(dst, 1, bm.runs...) })
	}
}
