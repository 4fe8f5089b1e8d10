package deliver

import (
	"time"

	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

// flvMuxer writes FLV tags; rtmpMuxer writes the same bodies as messages.
type flvMuxer struct {
	flvBodies
	audio, video bool
}

// flvBodies holds the bodies that precede frames: metadata and sequence
// headers. FLV and RTMP share them.
type flvBodies struct {
	metadata []byte
	configs  []flvConfig
	header   []byte // scratch: a body's bytes before the frame's data
}

type flvConfig struct {
	typ  byte
	body []byte
}

func (b *flvBodies) supports(t *stream.Track) error {
	if t.Kind() == stream.Data {
		if t.Codec != stream.AMF0 {
			return stream.ErrUnsupported
		}
		return nil
	}
	if _, err := flv.AppendConfigBody(nil, t); err != nil {
		return err
	}
	_, err := flv.AppendFrameHeader(nil, &stream.Frame{Track: t})
	return err
}

func (b *flvBodies) configure(tracks []*stream.Track, meta stream.Metadata) error {
	b.configs = nil
	for _, t := range tracks {
		body, err := flv.AppendConfigBody(nil, t)
		if err != nil {
			return err
		}
		if len(body) > 0 {
			b.configs = append(b.configs, flvConfig{flv.TagType(t), body})
		}
	}
	var err error
	b.metadata, err = amf.Append(nil, "onMetaData", amf.FromMetadata(flv.MetadataFor(tracks, meta)))
	return err
}

// body returns the frame's body in two parts, valid until the next call.
func (b *flvBodies) body(f *stream.Frame) (header, data []byte) {
	// supports has tried every codec that comes here.
	b.header, _ = flv.AppendFrameHeader(b.header[:0], f)
	return b.header, f.Data
}

func (m *flvMuxer) configure(tracks []*stream.Track, meta stream.Metadata) error {
	m.audio, m.video = false, false
	for _, t := range tracks {
		m.audio = m.audio || t.Kind() == stream.Audio
		m.video = m.video || t.Kind() == stream.Video
	}
	return m.flvBodies.configure(tracks, meta)
}

func (m *flvMuxer) prefix(dst []byte, dts time.Duration, whole bool) []byte {
	if whole {
		dst = flv.AppendFileHeader(dst, m.audio, m.video)
	}
	ts := milliseconds(dts)
	dst = appendTag(dst, flv.TagData, ts, m.metadata, nil)
	for _, c := range m.configs {
		dst = appendTag(dst, c.typ, ts, c.body, nil)
	}
	return dst
}

func (m *flvMuxer) size(f *stream.Frame) int { return len(f.Data) + 64 }

func (m *flvMuxer) appendFrame(dst []byte, f *stream.Frame) []byte {
	header, data := m.body(f)
	return appendTag(dst, flv.TagType(f.Track), milliseconds(f.DTS), header, data)
}

func appendTag(dst []byte, typ byte, ts uint32, header, data []byte) []byte {
	n := len(header) + len(data)
	dst = flv.AppendTagHeader(dst, typ, ts, n)
	dst = append(dst, header...)
	dst = append(dst, data...)
	return flv.AppendTagEnd(dst, n)
}

// milliseconds is FLV's and RTMP's time, which wraps around after 49 days.
func milliseconds(dts time.Duration) uint32 {
	return uint32(stream.Ticks(max(dts, 0), 1000))
}
