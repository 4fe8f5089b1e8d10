package deliver

import (
	"time"

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
	b.metadata, err = flv.AppendMetadataBody(nil, flv.MetadataFor(tracks, meta))
	return err
}

// frameHeader returns what stands before the frame's data in its body, valid
// until the next call.
func (b *flvBodies) frameHeader(f *stream.Frame) []byte {
	b.header, _ = flv.AppendFrameHeader(b.header[:0], f) // supports has tried every codec that comes here
	return b.header
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
	// At time 0 whatever the time: ffmpeg takes metadata at any other for a
	// subtitle.
	dst = appendTag(dst, flv.TagData, 0, m.metadata, nil)
	for _, c := range m.configs {
		dst = appendTag(dst, c.typ, ts, c.body, nil)
	}
	return dst
}

func (m *flvMuxer) size(f *stream.Frame) int { return len(f.Data) + 64 }

func (m *flvMuxer) appendFrame(dst []byte, f *stream.Frame) []byte {
	return appendTag(dst, flv.TagType(f.Track), flv.Timestamp(f), m.frameHeader(f), f.Data)
}

// appendTag leaves out what is too long for a tag: 16 MiB.
func appendTag(dst []byte, typ byte, ts uint32, header, data []byte) []byte {
	dst, _ = flv.AppendTag(dst, typ, ts, header, data)
	return dst
}

// milliseconds is FLV's and RTMP's time, which wraps around after 49 days.
func milliseconds(dts time.Duration) uint32 {
	return uint32(stream.Ticks(max(dts, 0), 1000))
}
