package mpegts_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

const (
	videoPID = 0x101
	audioPID = 0x102
)

// patterns are streams of every codec that is carried.
func patterns() map[string]*streamtest.Pattern {
	return map[string]*streamtest.Pattern{
		"h264 aac":   {},
		"b-frames":   {BFrames: 2, Start: time.Hour},
		"h265 ac3":   {Video: stream.H265, Audio: stream.AC3, BFrames: 3},
		"opus":       {Audio: stream.Opus},
		"mp3":        {Audio: stream.MP3},
		"5 fps":      {FPS: 5, AudioSize: 100},
		"60 fps":     {FPS: 60, KeyInterval: 600, KeySize: 200000, FrameSize: 40000},
		"no audio":   {NoAudio: true},
		"aac alone":  {NoVideo: true},
		"mp3 alone":  {NoVideo: true, Audio: stream.MP3},
		"ac3 alone":  {NoVideo: true, Audio: stream.AC3},
		"opus alone": {NoVideo: true, Audio: stream.Opus, AudioSize: 900},
	}
}

func TestMuxer(t *testing.T) {
	for name, p := range patterns() {
		t.Run(name, func(t *testing.T) {
			frames := slices.Collect(p.Frames(500))
			ts := mux(t, p.Tracks(), frames)
			r := inspect(t, ts)
			require.LessOrEqual(t, r.interval(), 100*time.Millisecond)
			require.Zero(t, r.broken)

			keys, last, tabled := 0, time.Duration(-1), time.Duration(-1)
			counts := map[uint16]int{}
			for _, f := range frames {
				pid := 0x100 + uint16(f.Track.ID)
				u := r.pes[pid][counts[pid]]
				counts[pid]++
				require.Equal(t, stream.Ticks(f.DTS+mpegts.Offset, 90000)&(1<<33-1), u.dts)
				require.Equal(t, stream.Ticks(f.PTS+mpegts.Offset, 90000)&(1<<33-1), u.pts)
				if f.Track.Kind() == stream.Video && f.Key {
					keys++
					before := ts[(u.at-2)*mpegts.PacketSize:]
					require.Equal(t, []byte{0x47, 0x40, 0}, before[:3], "PAT")
					require.Equal(t, []byte{0x47, 0x50, 0}, before[mpegts.PacketSize:][:3], "PMT")
				}
				if last = max(last, f.DTS); tabled < 0 {
					tabled = f.DTS
				}
			}
			for pid, n := range counts {
				require.Len(t, r.pes[pid], n)
			}
			if keys > 0 {
				require.Equal(t, keys, r.random)
			}
			require.GreaterOrEqual(t, time.Duration(r.tables)*500*time.Millisecond, last-tabled, "tables in %v", last-tabled)

			// The clock runs ahead of each picture by the lead.
			require.Equal(t, stream.Ticks(frames[0].DTS+700*time.Millisecond, 27e6), r.pcrs[0])
		})
	}
}

// TestMuxerPicture: what is around the NAL units.
func TestMuxerPicture(t *testing.T) {
	p := &streamtest.Pattern{NoAudio: true, KeyInterval: 2, KeySize: 6, FrameSize: 6}
	f := slices.Collect(p.Frames(2))
	const (
		aud = "\x00\x00\x00\x01\x09\xf0"
		sps = "\x00\x00\x00\x01\x67\x4d\x40\x0c\xec\xa0\xa0\xcf\xcf\x80\x88\x00\x00\x03\x00\x08\x00\x00\x03\x01\x90\x78\xa1\x4c\xb0"
		pps = "\x00\x00\x00\x01\x68\xeb\xe3\xcb\x20"
	)
	units := func(data string, key bool) string {
		f := &stream.Frame{Track: p.Tracks()[0], Key: key, Data: []byte(data)}
		u := inspect(t, mux(t, p.Tracks(), []*stream.Frame{f})).pes[videoPID]
		require.Len(t, u, 1)
		return string(u[0].data)
	}
	const inBand = "\x00\x00\x00\x02\x67\x01\x00\x00\x00\x02\x68\x02"
	for _, tt := range []struct {
		name, data string
		key        bool
		want       string
	}{
		{"key", string(f[0].Data), true, aud + sps + pps + "\x00\x00\x00\x01\x65\x88"},
		{"inter", string(f[1].Data), false, aud + "\x00\x00\x00\x01\x41\x9a"},
		{"delimiters and empty units go", "\x00\x00\x00\x02\x09\x10\x00\x00\x00\x00\x00\x00\x00\x02\x41\x9b", false, aud + "\x00\x00\x00\x01\x41\x9b"},
		{"sets in band", inBand + string(f[0].Data), true, aud + "\x00\x00\x00\x01\x67\x01\x00\x00\x00\x01\x68\x02\x00\x00\x00\x01\x65\x88"},
		{"half of them", inBand[6:] + string(f[0].Data), true, aud + sps + pps + "\x00\x00\x00\x01\x68\x02\x00\x00\x00\x01\x65\x88"},
		{"cut off", string(f[1].Data) + "\x00\x00\x00\x02\x41", false, aud + "\x00\x00\x00\x01\x41\x9a"},
	} {
		require.Equal(t, tt.want, units(tt.data, tt.key), tt.name)
	}
	require.Empty(t, mux(t, p.Tracks(), []*stream.Frame{{Track: p.Tracks()[0], Data: []byte{0, 0, 0, 9, 1}}}))
	require.Empty(t, mux(t, p.Tracks(), []*stream.Frame{{Track: &stream.Track{ID: 1, Codec: stream.H264}, Data: f[0].Data}}), "another track")
}

// TestMuxerStuffing: a PES packet of every size fits its packets.
func TestMuxerStuffing(t *testing.T) {
	p := &streamtest.Pattern{Audio: stream.MP3}
	for size := 1; size < 600; size++ {
		frames := []*stream.Frame{
			{Track: p.Tracks()[1], Data: make([]byte, size)},
			{Track: p.Tracks()[0], Key: size%2 == 0, Data: append([]byte{0, 0, byte((size + 1) >> 8), byte(size + 1), 0x41}, make([]byte, size)...)},
			{Track: p.Tracks()[0], PTS: time.Second, Data: append([]byte{0, 0, byte((size + 1) >> 8), byte(size + 1), 0x41}, make([]byte, size)...)},
		}
		ts := mux(t, p.Tracks(), frames)
		r := inspect(t, ts)
		require.Len(t, r.pes[audioPID][0].data, size)
		require.Len(t, r.pes[videoPID], 2)
		require.Len(t, r.pes[videoPID][1].data, size+11)
	}
}

func TestMuxerLongPicture(t *testing.T) {
	p := &streamtest.Pattern{NoAudio: true, KeySize: 1 << 20}
	frames := slices.Collect(p.Frames(1))
	r := inspect(t, mux(t, p.Tracks(), frames))
	require.Greater(t, len(r.pes[videoPID][0].data), 1<<20)
}

func TestAppendFrames(t *testing.T) {
	for _, codec := range []stream.Codec{stream.AAC, stream.MP3, stream.AC3, stream.Opus} {
		t.Run(codec.String(), func(t *testing.T) {
			p := &streamtest.Pattern{NoVideo: true, Audio: codec, AudioSize: 50}
			frames := slices.Collect(p.Frames(30))
			var single, joint mpegts.Muxer
			require.NoError(t, single.Configure(p.Tracks()))
			require.NoError(t, joint.Configure(p.Tracks()))
			var one, several []byte
			for _, f := range frames {
				one = single.AppendFrame(one, f)
			}
			for group := range slices.Chunk(frames, 3) {
				several = joint.AppendFrames(several, group)
			}
			require.Len(t, inspect(t, one).pes[audioPID], 30)
			r := inspect(t, several)
			require.Len(t, r.pes[audioPID], 10)
			require.LessOrEqual(t, r.interval(), 100*time.Millisecond)
			require.Less(t, len(several), len(one))
			got, _ := demux(t, several)
			equalFrames(t, frames, got.frames)
		})
	}
	t.Run("apart", func(t *testing.T) {
		p := &streamtest.Pattern{KeySize: 10, FrameSize: 10}
		frames := slices.Collect(p.Frames(20)) // pictures among the audio
		frames[8].Discontinuity = true
		for _, f := range frames[15:] {
			f.DTS += 5 * time.Millisecond
			f.PTS = f.DTS
		}
		want := map[uint8]int{}
		for i, f := range frames {
			if i == 0 || f.Track != frames[i-1].Track || f.Track.ID == 1 || i == 8 || i == 15 {
				want[f.Track.ID]++
			}
		}
		var m mpegts.Muxer
		require.NoError(t, m.Configure(p.Tracks()))
		r := inspect(t, m.AppendFrames(nil, frames))
		require.Len(t, r.pes[videoPID], want[1])
		require.Len(t, r.pes[audioPID], want[2])
	})
	t.Run("long", func(t *testing.T) {
		p := &streamtest.Pattern{NoVideo: true, AudioSize: 8000}
		frames := slices.Collect(p.Frames(20))
		var m mpegts.Muxer
		require.NoError(t, m.Configure(p.Tracks()))
		require.Len(t, inspect(t, m.AppendFrames(nil, frames)).pes[audioPID], 3)
	})
}

// TestMuxerClock: what happens to the clock when frames do not come as they
// should.
func TestMuxerClock(t *testing.T) {
	type step struct {
		id    uint8
		at    time.Duration
		jump  bool
		clock time.Duration // of the PCR that goes with it; 0: none
		flag  bool          // discontinuity_indicator
	}
	const ms = time.Millisecond
	for name, steps := range map[string][]step{
		"audio first":           {{2, 0, false, 700 * ms, false}, {1, 10 * ms, false, 710 * ms, false}},
		"silent video":          {{1, 0, false, 700 * ms, false}, {2, 0, false, 0, false}, {2, 40 * ms, false, 0, false}, {2, 80 * ms, false, 780 * ms, false}, {1, 100 * ms, false, 800 * ms, false}},
		"video behind audio":    {{1, 0, false, 700 * ms, false}, {2, 2000 * ms, false, 0, false}, {2, 2050 * ms, false, 0, false}, {2, 2090 * ms, false, 790 * ms, false}, {1, 40 * ms, false, 790*ms + time.Microsecond, false}, {1, 100 * ms, false, 800 * ms, false}},
		"publisher came back":   {{1, 0, false, 700 * ms, false}, {1, 40 * ms, true, 740 * ms, true}, {1, 80 * ms, false, 780 * ms, false}},
		"audio comes back":      {{1, time.Minute, false, time.Minute + 700*ms, false}, {2, ms, true, 701 * ms, true}, {1, 41 * ms, false, 741 * ms, false}},
		"video steps back":      {{1, time.Minute, false, time.Minute + 700*ms, false}, {1, 0, false, 700 * ms, true}, {1, 40 * ms, false, 740 * ms, false}},
		"time before the start": {{1, -500 * ms, false, 200 * ms, false}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &streamtest.Pattern{}
			var m mpegts.Muxer
			require.NoError(t, m.Configure(p.Tracks()))
			var ts []byte
			pcrs, broken := 0, 0
			for i, s := range steps {
				f := &stream.Frame{Track: p.Tracks()[s.id-1], DTS: s.at, PTS: s.at, Discontinuity: s.jump, Data: []byte{0, 0, 0, 2, 0x41, 1}}
				ts = m.AppendFrame(ts, f)
				r := inspect(t, ts)
				var clock time.Duration
				if len(r.pcrs) > pcrs {
					clock = stream.FromTicks(r.pcrs[len(r.pcrs)-1], 27e6)
				}
				require.LessOrEqual(t, len(r.pcrs), pcrs+1)
				require.InDelta(t, s.clock, clock, 100, "step %d", i)
				require.Equal(t, s.flag, r.broken > broken, "step %d", i)
				pcrs, broken = len(r.pcrs), r.broken
			}
		})
	}
	t.Run("lead", func(t *testing.T) {
		for lead, want := range map[time.Duration]time.Duration{
			0: 700 * ms, 100 * ms: 1300 * ms, time.Hour: 0,
		} {
			p := &streamtest.Pattern{}
			m := mpegts.Muxer{Lead: lead}
			require.NoError(t, m.Configure(p.Tracks()))
			for f := range p.Frames(1) {
				require.Equal(t, stream.Ticks(want, 27e6), inspect(t, m.AppendFrame(nil, f)).pcrs[0])
			}
		}
	})
}

// TestMuxerTables: when there are tables, and what is in them.
func TestMuxerTables(t *testing.T) {
	p := &streamtest.Pattern{NoVideo: true}
	var m mpegts.Muxer
	require.Empty(t, m.AppendTables(nil))
	for f := range p.Frames(1) {
		require.Empty(t, m.AppendFrame(nil, f), "not configured")
	}
	require.NoError(t, m.Configure(p.Tracks()))
	version := func(tables []byte) byte { return tables[mpegts.PacketSize+4+1+5] >> 1 & 31 }
	frames := slices.Collect(p.Frames(40))

	ts := m.AppendTables(nil)
	require.Len(t, ts, 2*mpegts.PacketSize)
	ts = m.AppendFrame(ts, frames[0])
	r := inspect(t, ts)
	require.Equal(t, 1, r.tables, "not again")
	ts = m.AppendTables(ts) // for a segment
	ts = m.AppendFrame(ts, frames[1])
	r = inspect(t, ts)
	require.Equal(t, 2, r.tables)
	require.Len(t, r.pcrs, 2, "who begins there needs a clock")

	require.NoError(t, m.Configure(p.Tracks()))
	require.Equal(t, byte(0), version(m.AppendTables(nil)), "nothing has changed")
	other := (&streamtest.Pattern{NoVideo: true, Audio: stream.MP3}).Tracks()
	require.NoError(t, m.Configure(other))
	require.Equal(t, byte(1), version(m.AppendTables(nil)))
	require.ErrorIs(t, m.Configure([]*stream.Track{{ID: 3, Codec: stream.VP8}}), stream.ErrUnsupported)
	require.Equal(t, byte(1), version(m.AppendTables(nil)), "nothing has changed by the error")

	// A PMT of many tracks has several packets.
	var many []*stream.Track
	for id := range 30 {
		many = append(many, &stream.Track{ID: uint8(id + 1), Codec: stream.AC3, Language: "deu"})
	}
	require.NoError(t, m.Configure(many))
	ts = m.AppendTables(nil)
	require.Len(t, ts, 4*mpegts.PacketSize)
	for id := range 100 {
		many = append(many, &stream.Track{ID: uint8(id + 100), Codec: stream.AC3})
	}
	require.ErrorIs(t, m.Configure(many), stream.ErrUnsupported)
	require.NoError(t, m.Configure(nil))
}

func TestSupports(t *testing.T) {
	for _, tt := range []struct {
		track stream.Track
		ok    bool
	}{
		{stream.Track{Codec: stream.H264}, true},
		{stream.Track{Codec: stream.H265}, true},
		{stream.Track{Codec: stream.MP3}, true},
		{stream.Track{Codec: stream.AC3}, true},
		{stream.Track{Codec: stream.AAC, Config: []byte{0x11, 0x90}}, true},
		{stream.Track{Codec: stream.AAC, Config: []byte{0x13, 0x90, 0x56, 0xe5, 0xa5, 0x48, 0x80}}, true}, // HE-AAC v2
		{stream.Track{Codec: stream.AAC}, false},
		{stream.Track{Codec: stream.AAC, Config: []byte{0x11, 0x94}}, false},                   // frames of 960 samples
		{stream.Track{Codec: stream.AAC, Config: []byte{0xf9, 0x46, 0x40, 0x01, 0x00}}, false}, // xHE
		{stream.Track{Codec: stream.Opus}, true},
		{stream.Track{Codec: stream.Opus, Config: []byte("OpusHead\x01\x06\x38\x01\x80\xbb\x00\x00\x00\x00\x01\x04\x02\x00\x04\x01\x02\x03\x05")}, true},
		{stream.Track{Codec: stream.Opus, Config: []byte("OpusHead\x01\x06\x38\x01\x80\xbb\x00\x00\x00\x00\x01\x06\x00\x00\x04\x01\x02\x03\x05")}, false},
		{stream.Track{Codec: stream.Opus, Config: []byte("OpusTags")}, false},
		{stream.Track{Codec: stream.AV1}, false},
		{stream.Track{Codec: stream.VP9}, false},
		{stream.Track{Codec: stream.PCMA}, false},
		{stream.Track{Codec: stream.AMF0}, false},
	} {
		err := mpegts.Supports(&tt.track)
		if tt.ok {
			require.NoError(t, err, "%v", tt.track)
		} else {
			require.ErrorIs(t, err, stream.ErrUnsupported, "%v", tt.track)
		}
	}
}

// TestMuxerAllocates: nothing, into a buffer with room.
func TestMuxerAllocates(t *testing.T) {
	for name, p := range patterns() {
		frames := slices.Collect(p.Frames(200))
		var m mpegts.Muxer
		require.NoError(t, m.Configure(p.Tracks()))
		size := 0
		for _, f := range frames {
			size += m.Size(f)
		}
		dst := make([]byte, 0, size)
		require.Zero(t, testing.AllocsPerRun(5, func() {
			dst = dst[:0]
			for _, f := range frames {
				dst = m.AppendFrame(dst, f)
			}
		}), name)
		require.Zero(t, testing.AllocsPerRun(5, func() { dst = m.AppendFrames(dst[:0], frames) }), name)
	}
}

func ExampleMuxer() {
	p := &streamtest.Pattern{}
	var m mpegts.Muxer
	if err := m.Configure(p.Tracks()); err != nil {
		panic(err)
	}
	var segment []byte
	for f := range p.Frames(10) {
		segment = m.AppendFrame(segment, f)
	}
	fmt.Println(len(segment) % mpegts.PacketSize)
	// Output: 0
}
