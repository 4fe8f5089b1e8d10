package deliver

import (
	"fmt"
	"time"

	"github.com/runnel-media/runnel/internal/aac"
	"github.com/runnel-media/runnel/stream"
)

// adtsMuxer writes the AAC track alone, each frame behind an ADTS header.
type adtsMuxer struct{ config *aac.Config }

func (m *adtsMuxer) supports(t *stream.Track) error {
	if t.Codec != stream.AAC {
		return stream.ErrUnsupported
	}
	c, err := aac.ParseConfig(t.Config)
	if err == nil {
		_, err = c.AppendADTS(nil, 0)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", stream.ErrUnsupported, err)
	}
	return nil
}

func (m *adtsMuxer) configure(tracks []*stream.Track, _ stream.Metadata) (err error) {
	m.config, err = aac.ParseConfig(tracks[0].Config)
	return err
}

func (m *adtsMuxer) prefix(dst []byte, _ time.Duration, _ bool) []byte { return dst }

func (m *adtsMuxer) size(f *stream.Frame) int { return aac.ADTSHeaderSize + len(f.Data) }

func (m *adtsMuxer) appendFrame(dst []byte, f *stream.Frame) []byte {
	b, err := m.config.AppendADTS(dst, len(f.Data))
	if err != nil {
		return dst // too long
	}
	return append(b, f.Data...)
}

// mp3Muxer writes the MP3 track alone: its frames as they are.
type mp3Muxer struct{}

func (mp3Muxer) supports(t *stream.Track) error {
	if t.Codec != stream.MP3 {
		return stream.ErrUnsupported
	}
	return nil
}

func (mp3Muxer) configure([]*stream.Track, stream.Metadata) error  { return nil }
func (mp3Muxer) prefix(dst []byte, _ time.Duration, _ bool) []byte { return dst }
func (mp3Muxer) size(f *stream.Frame) int                          { return len(f.Data) }
func (mp3Muxer) appendFrame(dst []byte, f *stream.Frame) []byte    { return append(dst, f.Data...) }
