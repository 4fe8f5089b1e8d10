package mpegts_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/asticode/go-astits"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// BenchmarkMuxer writes a PES packet of 12.5 KB, and as much as it by copying
// alone.
func BenchmarkMuxer(b *testing.B) {
	const size = 12500
	p := &streamtest.Pattern{NoAudio: true, FrameSize: size, KeyInterval: 1 << 30}
	frames := slices.Collect(p.Frames(2))
	f := frames[1]
	b.Run("runnel", func(b *testing.B) {
		var m mpegts.Muxer
		require.NoError(b, m.Configure(p.Tracks()))
		dst := m.AppendFrame(make([]byte, 0, 1<<20), frames[0])
		dst = make([]byte, 0, m.Size(f))
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			f.DTS += 40 * time.Millisecond
			f.PTS = f.DTS
			dst = m.AppendFrame(dst[:0], f)
		}
	})
	b.Run("copy", func(b *testing.B) {
		dst := make([]byte, 0, size)
		b.SetBytes(size)
		for b.Loop() {
			dst = append(dst[:0], f.Data...)
		}
	})
	b.Run("astits", func(b *testing.B) {
		var out bytes.Buffer
		m := astits.NewMuxer(context.Background(), &out)
		require.NoError(b, m.AddElementaryStream(astits.PMTElementaryStream{ElementaryPID: videoPID, StreamType: astits.StreamTypeH264Video}))
		m.SetPCRPID(videoPID)
		au := append([]byte("\x00\x00\x00\x01\x09\xf0\x00\x00\x00\x01"), f.Data[4:]...)
		b.SetBytes(size)
		b.ReportAllocs()
		for i := int64(0); b.Loop(); i++ {
			out.Reset()
			_, err := m.WriteData(&astits.MuxerData{
				PID:             videoPID,
				AdaptationField: &astits.PacketAdaptationField{HasPCR: true, PCR: &astits.ClockReference{Base: i * 3600}},
				PES: &astits.PESData{Data: au, Header: &astits.PESHeader{StreamID: 0xe0, OptionalHeader: &astits.PESOptionalHeader{
					MarkerBits: 2, PTSDTSIndicator: astits.PTSDTSIndicatorOnlyPTS, PTS: &astits.ClockReference{Base: i * 3600},
				}}},
			})
			require.NoError(b, err)
		}
	})
}

// BenchmarkMuxerAudio writes AAC frames of 200 bytes, one in a PES packet and
// four.
func BenchmarkMuxerAudio(b *testing.B) {
	p := &streamtest.Pattern{NoVideo: true}
	frames := slices.Collect(p.Frames(4))
	for name, write := range map[string]func(m *mpegts.Muxer, dst []byte) []byte{
		"single": func(m *mpegts.Muxer, dst []byte) []byte {
			for _, f := range frames {
				dst = m.AppendFrame(dst, f)
			}
			return dst
		},
		"joint": func(m *mpegts.Muxer, dst []byte) []byte { return m.AppendFrames(dst, frames) },
	} {
		b.Run(name, func(b *testing.B) {
			var m mpegts.Muxer
			require.NoError(b, m.Configure(p.Tracks()))
			dst := make([]byte, 0, 1<<16)
			total, n := 0, 0
			b.ReportAllocs()
			for b.Loop() {
				for _, f := range frames {
					f.DTS += 4 * stream.FromTicks(1024, 48000)
					f.PTS = f.DTS
				}
				dst = write(&m, dst[:0])
				total, n = total+len(dst), n+len(frames)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/frame")
			b.ReportMetric(float64(total)/float64(n), "B/frame")
		})
	}
}

type discard struct{ bytes int }

func (d *discard) SetTracks(...*stream.Track) error { return nil }
func (d *discard) Write(f *stream.Frame) error      { d.bytes += len(f.Data); return nil }

// BenchmarkDemuxer reads 4 Mbit/s of video with audio, and go-astits the same
// (its PES packets are not frames yet). With pictures of 1 MB, as 4K has them,
// go-astits copies all of a PES packet for each of its packets.
func BenchmarkDemuxer(b *testing.B) {
	for name, p := range map[string]*streamtest.Pattern{
		"4 Mbps":          {KeySize: 100000, FrameSize: 18000, BFrames: 2},
		"pictures of 1MB": {KeySize: 1 << 20, FrameSize: 1 << 20},
	} {
		n := 300
		if name != "4 Mbps" {
			n = 20
		}
		ts := mux(b, p.Tracks(), slices.Collect(p.Frames(n)))
		b.Run("runnel/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(ts)))
			b.ReportAllocs()
			for b.Loop() {
				d := &mpegts.Demuxer{Sink: &discard{}}
				for rest := ts; len(rest) > 0; { // as datagrams of SRT
					n := min(7*mpegts.PacketSize, len(rest))
					_, err := d.Write(rest[:n])
					require.NoError(b, err)
					rest = rest[n:]
				}
				require.NoError(b, d.Close())
			}
		})
		b.Run("astits/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(ts)))
			b.ReportAllocs()
			for b.Loop() {
				d := astits.NewDemuxer(context.Background(), bytes.NewReader(ts), astits.DemuxerOptPacketSize(mpegts.PacketSize))
				for {
					if _, err := d.NextData(); err == astits.ErrNoMorePackets {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

var (
	_ io.ReaderFrom = (*mpegts.Demuxer)(nil)
	_ mpegts.Sink   = (*stream.Publisher)(nil)
)
