package stream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	video = &Track{ID: 1, Codec: H264, Config: []byte{1}}
	audio = &Track{ID: 2, Codec: AAC, Rate: 48000, Channels: 2, Config: []byte{0x11, 0x90}}
	cues  = &Track{ID: 3, Codec: AMF0}
)

const ms = time.Millisecond

// frame makes a frame of 100 bytes at at ms.
func frame(t *Track, at int, key bool) *Frame {
	d := time.Duration(at) * ms
	return &Frame{Track: t, DTS: d, PTS: d, Key: key, Data: make([]byte, 100)}
}

func publish(t testing.TB, h *Hub, key string, o *PublishOptions, tracks ...*Track) *Publisher {
	t.Helper()
	p, err := h.Publish(t.Context(), key, o)
	require.NoError(t, err)
	require.NoError(t, p.SetTracks(tracks...))
	return p
}

func subscribe(t testing.TB, h *Hub, key string, o *SubscribeOptions) *Subscriber {
	t.Helper()
	r, err := h.Subscribe(t.Context(), key, o)
	require.NoError(t, err)
	return r
}

func write(t testing.TB, p *Publisher, frames ...*Frame) {
	t.Helper()
	for _, f := range frames {
		require.NoError(t, p.Write(f))
	}
}

// video25 writes a 25 Hz video from frame number from to number to, with a key
// frame each gop.
func video25(t testing.TB, p *Publisher, from, to, gop int) {
	t.Helper()
	for i := from; i < to; i++ {
		write(t, p, frame(video, 40*i, i%gop == 0))
	}
}

// drain reads what r has to read now, and returns the error that came instead
// of a wait for more.
func drain(t testing.TB, r *Subscriber) (frames []*Frame, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), ms)
	defer cancel()
	dst := make([]*Frame, 7)
	for {
		n, err := r.Read(ctx, dst)
		if errors.Is(err, context.DeadlineExceeded) {
			return frames, nil
		}
		if err != nil {
			return frames, err
		}
		require.Positive(t, n)
		frames = append(frames, dst[:n]...)
	}
}

// times reads what r has to read now, as DTS in ms.
func times(t testing.TB, r *Subscriber) []int {
	t.Helper()
	frames, err := drain(t, r)
	require.NoError(t, err)
	return dts(frames)
}

func dts(frames []*Frame) []int {
	var all []int
	for _, f := range frames {
		all = append(all, int(f.DTS/ms))
	}
	return all
}

// steps returns from, from+by … up to but not to.
func steps(from, to, by int) []int {
	var all []int
	for ; from < to; from += by {
		all = append(all, from)
	}
	return all
}

func (s *Stream) held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.ring.head - s.ring.tail)
}
