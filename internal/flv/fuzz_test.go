package flv_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/stream"
)

// allocated returns how many bytes were ever allocated.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// checker is a Sink that requires of frames and tracks what the rest of the
// program relies on, and muxes them again.
type checker struct {
	t      *testing.T
	tracks map[*stream.Track]bool
}

func (c *checker) SetTracks(tracks ...*stream.Track) error {
	c.tracks = map[*stream.Track]bool{}
	ids := map[uint8]bool{}
	for _, tr := range tracks {
		c.tracks[tr] = true
		require.False(c.t, ids[tr.ID])
		ids[tr.ID] = true
		tr.CodecString()
		_, _ = tr.Video()
		_, _ = tr.Audio()
		_, err := flv.AppendConfigBody(nil, tr)
		require.NoError(c.t, err)
	}
	body, err := flv.AppendMetadataBody(nil, flv.MetadataFor(tracks, nil))
	require.NoError(c.t, err)
	require.NotEmpty(c.t, body)
	return nil
}

func (c *checker) SetMetadata(m stream.Metadata) {
	_, err := flv.AppendMetadataBody(nil, flv.MetadataFor(nil, m))
	require.NoError(c.t, err)
}

func (c *checker) Write(f *stream.Frame) error {
	require.True(c.t, c.tracks[f.Track], "the track is in force")
	require.NotEmpty(c.t, f.Data)
	if f.Track.Codec == stream.H264 || f.Track.Codec == stream.H265 {
		n := 0
		for rest, ok := f.Data, true; ok; {
			_, rest, ok = nal.Next(rest)
			if n++; !ok {
				require.Empty(c.t, rest)
			}
		}
		require.Greater(c.t, n, 1)
	}
	_, err := flv.Options{}.AppendFrameTag(nil, f)
	require.NoError(c.t, err)
	return nil
}

// FuzzDemuxer gives three tags to one Demuxer: a configuration, a frame and
// anything.
func FuzzDemuxer(f *testing.F) {
	for _, s := range [][3]string{
		{"1700000000" + avcC, "1701000028" + idr, "2702000000"},
		{"1c00000000" + hevcC, "1c01000000" + "00000003260188", "93" + hvc1 + "00000003020188"},
		{"90" + hvc1 + hevcC, "91" + hvc1 + "00000100000003260188", "94" + hvc1 + "0200"},
		{"906176303181000c000a0a000000032dffcdaf9004", "9161763031" + "12000a0a000000032dffcdaf90043200", "a161763031320100"},
		{"907670303901000000000a820202020000", "9176703039824983420000", "9176703038" + "5000009d012a60004000"},
		{"9600" + four + "00" + avcC, "9701000101" + four + "000000" + idr, "9611" + four + "00000002" + idr},
	} {
		f.Add(byte(flv.TagVideo), unhex(f, s[0]), unhex(f, s[1]), unhex(f, s[2]))
	}
	for _, s := range [][3]string{
		{"af00" + asc, "af0121", "90" + mp4a + asc},
		{"90" + opus + "4f707573486561640102380180bb0000000000", "91" + opus + "fc01", "97020000010191"},
		{"2ffffb9064", "e6ffe320c4", "9161632d330b77fc8a084043e1"},
		{"9510" + mp4a + "00000002" + asc, "9511" + mp4a + "0000000121", "9521" + mp4a + "0000000121"},
	} {
		f.Add(byte(flv.TagAudio), unhex(f, s[0]), unhex(f, s[1]), unhex(f, s[2]))
	}
	f.Add(byte(flv.TagData), unhex(f, "02000a6f6e4d6574614461746108000000010001610000000000000000000000"+"09"), unhex(f, "02000d40736574446174614672616d65"), unhex(f, "0200066f6e5465787405"))
	f.Fuzz(func(t *testing.T, typ byte, config, frame, last []byte) {
		d := &flv.Demuxer{Sink: &checker{t: t}}
		for i, b := range [][]byte{config, frame, config, last, frame} {
			err := d.Tag(typ, int64(i*40), bytes.Clone(b), epoch)
			if err != nil && !errors.Is(err, flv.ErrMalformed) && !errors.Is(err, stream.ErrUnsupported) {
				t.Fatal(err)
			}
		}
	})
}

func FuzzReader(f *testing.F) {
	for _, name := range []string{"avc_aac.flv", "mp3.flv"} {
		f.Add(clip(f, name)[:1200])
	}
	f.Add(flv.AppendTagHeader(flv.AppendFileHeader(nil, true, true), flv.TagVideo, 0, flv.MaxTagSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := flv.Reader{R: bytes.NewReader(b), Demuxer: &flv.Demuxer{Sink: &checker{t: t}}}
		err := r.ReadAll()
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, flv.ErrMalformed) && !errors.Is(err, stream.ErrUnsupported) {
			t.Fatal(err)
		}
	})
}
