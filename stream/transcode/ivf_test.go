package transcode

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// reel keeps what it is given.
type reel struct {
	tracks []*stream.Track
	frames []*stream.Frame
	err    error
}

func (r *reel) SetTracks(tracks ...*stream.Track) error {
	r.tracks = tracks
	return r.err
}

func (r *reel) Write(f *stream.Frame) error {
	r.frames = append(r.frames, f)
	return r.err
}

func patternIVF(codec stream.Codec, n int) ([]*stream.Frame, []byte) {
	p := &streamtest.Pattern{Video: codec, NoAudio: true, KeyInterval: 5, KeySize: 100, FrameSize: 50}
	var frames []*stream.Frame
	b := appendIVFHeader(nil, ivfName(codec), 320, 180)
	for f := range p.Frames(n) {
		frames = append(frames, f)
		b = appendIVFFrame(b, f, f.PTS)
	}
	return frames, b
}

func TestIVF(t *testing.T) {
	for _, codec := range []stream.Codec{stream.VP8, stream.VP9, stream.AV1} {
		t.Run(codec.String(), func(t *testing.T) {
			frames, b := patternIVF(codec, 12)
			var r reel
			require.ErrorIs(t, readIVF(bytes.NewReader(b), &r), io.EOF)
			require.Len(t, r.frames, len(frames))
			require.Len(t, r.tracks, 1)
			require.Equal(t, codec, r.tracks[0].Codec)
			for i, f := range frames {
				got := r.frames[i]
				require.Equal(t, f.PTS, got.PTS)
				require.Equal(t, f.Key, got.Key)
				require.Equal(t, f.Data, got.Data)
				require.Same(t, r.tracks[0], got.Track)
			}
			for _, cut := range []int{0, 10, ivfHeader + 5, ivfHeader + 20} {
				require.Error(t, readIVF(bytes.NewReader(b[:cut]), &reel{}))
			}
			refused := errors.New("refused")
			require.ErrorIs(t, readIVF(bytes.NewReader(b), &reel{err: refused}), refused)
		})
	}
	require.Empty(t, ivfName(stream.H264))
	_, b := patternIVF(stream.VP8, 1)
	for name, change := range map[string]func([]byte){
		"signature":  func(b []byte) { b[0] = 'X' },
		"header":     func(b []byte) { b[6] = 31 },
		"codec":      func(b []byte) { copy(b[8:], "H264") },
		"no rate":    func(b []byte) { copy(b[16:], make([]byte, 4)) },
		"large":      func(b []byte) { b[ivfHeader+3] = 0x7f },
		"late":       func(b []byte) { b[ivfHeader+11] = 0x7f },
		"much scale": func(b []byte) { b[23] = 0x7f },
	} {
		bad := bytes.Clone(b)
		change(bad)
		require.ErrorIs(t, readIVF(bytes.NewReader(bad), &reel{}), errIVF, name)
	}
}

// A frame says that it is large and is not: no memory is taken for it.
func TestIVFTruncated(t *testing.T) {
	b := append(appendIVFHeader(nil, "VP80", 2, 2), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.Error(t, readIVF(bytes.NewReader(b), &reel{}))
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20), "of 16 MiB")
}

func FuzzIVF(f *testing.F) {
	for _, codec := range []stream.Codec{stream.VP8, stream.VP9, stream.AV1} {
		_, b := patternIVF(codec, 3)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r reel
		_ = readIVF(bytes.NewReader(b), &r)
		for _, frame := range r.frames {
			require.NotNil(t, frame.Track)
			require.GreaterOrEqual(t, frame.PTS, time.Duration(0))
		}
	})
}
