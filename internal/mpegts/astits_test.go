package mpegts_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/asticode/go-astits"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/stream"
)

// foreign is what go-astits reads of a transport stream.
type foreign struct {
	pmt *astits.PMTData
	pes map[uint16][]*astits.DemuxerData
}

func readForeign(t testing.TB, ts []byte) *foreign {
	f := &foreign{pes: map[uint16][]*astits.DemuxerData{}}
	d := astits.NewDemuxer(context.Background(), bytes.NewReader(ts), astits.DemuxerOptPacketSize(mpegts.PacketSize))
	for {
		data, err := d.NextData()
		if errors.Is(err, astits.ErrNoMorePackets) {
			return f
		}
		require.NoError(t, err)
		if data.PMT != nil {
			f.pmt = data.PMT
		}
		if data.PES != nil {
			f.pes[data.PID] = append(f.pes[data.PID], data)
		}
	}
}

// times returns DTS and PTS.
func times(data *astits.DemuxerData) [2]int64 {
	h := data.PES.Header.OptionalHeader
	if h.DTS == nil {
		return [2]int64{h.PTS.Base, h.PTS.Base}
	}
	return [2]int64{h.DTS.Base, h.PTS.Base}
}

// TestAstitsReadsMuxer: another implementation finds what was written.
func TestAstitsReadsMuxer(t *testing.T) {
	types := map[stream.Codec]astits.StreamType{
		stream.H264: astits.StreamTypeH264Video, stream.H265: astits.StreamTypeH265Video,
		stream.AAC: astits.StreamTypeAACAudio, stream.MP3: astits.StreamTypeMPEG1Audio,
		stream.AC3: astits.StreamTypeAC3Audio, stream.Opus: astits.StreamTypePrivateData,
	}
	for name, p := range patterns() {
		t.Run(name, func(t *testing.T) {
			frames := slices.Collect(p.Frames(100))
			f := readForeign(t, mux(t, p.Tracks(), frames))
			require.Len(t, f.pmt.ElementaryStreams, len(p.Tracks()))
			for i, track := range p.Tracks() {
				require.Equal(t, types[track.Codec], f.pmt.ElementaryStreams[i].StreamType)
				require.Equal(t, 0x100+uint16(track.ID), f.pmt.ElementaryStreams[i].ElementaryPID)
			}
			require.Equal(t, 0x100+uint16(p.Tracks()[0].ID), f.pmt.PCRPID)
			for _, track := range p.Tracks() {
				pes := f.pes[0x100+uint16(track.ID)]
				for _, frame := range frames {
					if frame.Track != track {
						continue
					}
					got := pes[0]
					pes = pes[1:]
					const mask = 1<<33 - 1
					require.Equal(t, [2]int64{
						stream.Ticks(frame.DTS+mpegts.Offset, 90000) & mask, stream.Ticks(frame.PTS+mpegts.Offset, 90000) & mask,
					}, times(got))
					if track.Kind() == stream.Video {
						field := got.FirstPacket.AdaptationField
						require.Equal(t, frame.Key, field.RandomAccessIndicator)
						require.True(t, field.HasPCR)
						require.Equal(t, stream.Ticks(frame.DTS+mpegts.Offset, 27e6)-18900000, field.PCR.Base*300+field.PCR.Extension+wrapped(frame))
						require.True(t, bytes.HasSuffix(got.PES.Data, frame.Data[4:]))
						continue
					}
					require.True(t, bytes.HasSuffix(got.PES.Data, frame.Data))
				}
				require.Empty(t, pes)
			}
		})
	}
}

// wrapped is what a PCR of a frame lacks.
func wrapped(f *stream.Frame) int64 {
	const wrap = 300 << 33
	return (stream.Ticks(f.DTS+mpegts.Offset, 27e6) - 18900000) / wrap * wrap
}

// TestAgainstAstits: the frames are those in the PES packets that go-astits
// reads.
func TestAgainstAstits(t *testing.T) {
	files, err := filepath.Glob("testdata/*.ts")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			ts, err := os.ReadFile(file)
			require.NoError(t, err)
			f := readForeign(t, ts)
			got, _ := demux(t, ts)
			video, audio := f.pes[f.pmt.ElementaryStreams[0].ElementaryPID], f.pes[f.pmt.ElementaryStreams[1].ElementaryPID]
			require.Len(t, got.of(stream.Video), len(video))
			for i, frame := range got.of(stream.Video) {
				require.Equal(t, [2]int64{stream.Ticks(frame.DTS, 90000), stream.Ticks(frame.PTS, 90000)}, times(video[i]))
				units := slices.Collect(nal.Units(nal.AppendFromAnnexB(nil, video[i].PES.Data)))
				for unit := range nal.Units(frame.Data) { // the same order, without some
					n := slices.IndexFunc(units, func(u []byte) bool { return bytes.Equal(u, unit) })
					require.GreaterOrEqual(t, n, 0)
					units = units[n+1:]
				}
				require.Empty(t, units, "a slice is the last")
			}
			sound := got.of(stream.Audio)
			for _, pes := range audio {
				require.Equal(t, times(pes)[0], stream.Ticks(sound[0].DTS, 90000))
				for data := pes.PES.Data; len(data) > 0; sound = sound[1:] {
					if sound[0].Track.Codec == stream.AAC {
						data = data[7:]
					}
					require.True(t, bytes.HasPrefix(data, sound[0].Data))
					data = data[len(sound[0].Data):]
				}
			}
			require.Empty(t, sound)
		})
	}
}
