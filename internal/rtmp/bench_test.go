package rtmp

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A feed is a connection from which a recorded second of a publisher's
// messages is read over and over, with timestamps that go on.
type feed struct {
	fakeConn // what comes before
	wire     []byte
	stamps   []stamp
	frames   int // left to be read
	next     int // index of the stamp of the next frame
	at       int
	second   uint32
}

// A stamp is where a message begins in wire, and its timestamp.
type stamp struct {
	at int
	ts uint32
}

func (f *feed) Read(b []byte) (int, error) {
	if len(f.in) > 0 {
		return f.fakeConn.Read(b)
	}
	if f.at == len(f.wire) {
		f.at, f.next = 0, 0
		f.second++
		for _, s := range f.stamps {
			ts := s.ts + f.second*1000
			f.wire[s.at+1], f.wire[s.at+2], f.wire[s.at+3] = byte(ts>>16), byte(ts>>8), byte(ts)
		}
	}
	end := len(f.wire)
	if last := f.next + f.frames; last < len(f.stamps) {
		end = f.stamps[last].at
	}
	if f.at == end {
		return 0, io.EOF
	}
	n := copy(b, f.wire[f.at:end])
	f.at += n
	for f.next < len(f.stamps) && f.stamps[f.next].at < f.at {
		f.next++
		f.frames--
	}
	return n, nil
}

// The cost of a frame from the bytes on the wire to Publisher.Write, H.264 at
// 1.15 Mbit/s and 25 frames a second, AAC besides.
func BenchmarkPublishFrame(b *testing.B) {
	for _, c := range []struct {
		name  string
		chunk int
	}{{"chunks=60000", PlayChunkSize}, {"chunks=4096", 4096}, {"chunks=128", 128}} {
		b.Run(c.name, func(b *testing.B) { benchmarkPublish(b, c.chunk) })
	}
}

func benchmarkPublish(b *testing.B, chunk int) {
	p, feed := newFeed(b, chunk)
	b.ReportAllocs()
	b.SetBytes(int64(len(feed.wire) / len(feed.stamps)))
	b.ResetTimer()
	feed.run(b, p, b.N)
}

// Two allocations for a frame: its body and its description.
func TestPublishAllocs(t *testing.T) {
	p, feed := newFeed(t, 4096)
	pub := p.in.demuxer.Sink.(*stream.Publisher)
	feed.run(t, p, 100)
	const frames = 1000
	require.InDelta(t, 2*frames, testing.AllocsPerRun(5, func() { feed.run(t, p, frames) }), 50)
	require.EqualValues(t, 100+6*frames, pub.Stream().Stats().Frames)
}

// run publishes n frames.
func (f *feed) run(t testing.TB, p *publication, n int) {
	f.frames = n
	require.NoError(t, p.run(&command{}))
	require.Zero(t, p.in.demuxer.Dropped())
}

// newFeed returns a publication, and the connection that it reads from.
func newFeed(b testing.TB, chunk int) (*publication, *feed) {
	pattern := streamtest.Pattern{KeySize: 30000, FrameSize: 4700}
	f := &feed{}
	configs := appendControl(nil, typeSetChunkSize, uint32(chunk))
	for _, t := range pattern.Tracks() {
		body, err := flv.AppendConfigBody(nil, t)
		require.NoError(b, err)
		configs = appendChunks(configs, chunk, csidCommand, flv.TagType(t), 0, 1, body, nil)
	}
	for fr := range pattern.Frames(25 + 47) {
		header, err := flv.AppendFrameHeader(nil, fr)
		require.NoError(b, err)
		f.stamps = append(f.stamps, stamp{len(f.wire), flv.Timestamp(fr)})
		csid := byte(csidVideo)
		if fr.Track.Kind() == stream.Audio {
			csid = csidAudio
		}
		f.wire = appendChunks(f.wire, chunk, csid, flv.TagType(fr.Track), flv.Timestamp(fr), 1, header, fr.Data)
	}
	var hub stream.Hub
	pub, err := hub.Publish(b.Context(), "live/cam", nil)
	require.NoError(b, err)
	c := &conn{srv: &Server{Log: quiet}, nc: f}
	f.in = configs
	c.rd.init(f, commandBuffer)
	p := &publication{c: c}
	p.in.demuxer.Sink = pub
	return p, f
}
