package webrtc

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/stream"
)

func sliceOf(header byte) []byte { return nal.Append(nil, []byte{header, 1, 2, 3}) }

// Pictures that are shown before others that were sent are left out where nothing
// refers to them; else the video waits for the next key frame.
func TestReorderedPictures(t *testing.T) {
	h264 := &stream.Track{ID: 1, Codec: stream.H264}
	const key, ref, free = 0x65, 0x41, 0x01
	type picture struct {
		pts    int
		header byte
		sent   bool
	}
	for name, pictures := range map[string][]picture{
		"in order":  {{0, key, true}, {1, ref, true}, {2, free, true}, {3, ref, true}},
		"B":         {{0, key, true}, {3, ref, true}, {1, free, false}, {2, free, false}, {6, ref, true}},
		"B pyramid": {{0, key, true}, {4, ref, true}, {2, ref, false}, {1, free, false}, {8, ref, false}, {9, key, true}, {10, ref, true}},
	} {
		f := &Cutter{}
		for i, p := range pictures {
			fr := &stream.Frame{Track: h264, PTS: time.Duration(p.pts) * time.Millisecond, Key: p.header == key, Data: sliceOf(p.header)}
			require.Equal(t, p.sent, f.inOrder(fr), "%s: picture %d", name, i)
		}
	}
	h265 := &stream.Track{ID: 1, Codec: stream.H265}
	for header, want := range map[byte]bool{0 << 1: true, 1 << 1: false, 8 << 1: true, 9 << 1: false, 19 << 1: false} {
		require.Equal(t, want, disposable(&stream.Frame{Track: h265, Data: sliceOf(header)}), header)
	}
}
