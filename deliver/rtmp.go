package deliver

import (
	"time"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/internal/rtmp"
	"github.com/runnel-media/runnel/stream"
)

// rtmpMuxer writes RTMP messages that are the same for every player: absolute
// timestamps, one message stream, one chunk size.
type rtmpMuxer struct{ flvBodies }

func (m *rtmpMuxer) prefix(dst []byte, dts time.Duration, _ bool) []byte {
	ts := milliseconds(dts)
	// At time 0 whatever the time: ffmpeg takes metadata at any other for a
	// subtitle.
	dst = rtmp.AppendMessage(dst, flv.TagData, 0, m.metadata, nil)
	for _, c := range m.configs {
		dst = rtmp.AppendMessage(dst, c.typ, ts, c.body, nil)
	}
	return dst
}

func (m *rtmpMuxer) size(f *stream.Frame) int {
	return len(f.Data) + 64 + 16*(len(f.Data)/rtmp.PlayChunkSize)
}

func (m *rtmpMuxer) appendFrame(dst []byte, f *stream.Frame) []byte {
	return rtmp.AppendMessage(dst, flv.TagType(f.Track), flv.Timestamp(f), m.frameHeader(f), f.Data)
}
