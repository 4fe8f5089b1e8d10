package stream

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTryRead(t *testing.T) {
	h := &Hub{}
	defer h.Close()
	pub, err := h.Publish(t.Context(), "live/x", nil)
	require.NoError(t, err)
	track := &Track{ID: 1, Codec: AMF0}
	require.NoError(t, pub.SetTracks(track))
	sub := subscribe(t, h, "live/x", nil)
	var dst [4]*Frame
	try := func(want int, wantErr error) {
		t.Helper()
		n, err := sub.TryRead(dst[:])
		require.Equal(t, want, n)
		require.Equal(t, wantErr, err)
	}
	write := func(n int) {
		for range n {
			require.NoError(t, pub.Write(&Frame{Track: track, Time: time.Now(), Data: []byte{1}}))
		}
	}
	try(0, nil)
	write(6)
	try(4, nil)
	try(2, nil)
	try(0, nil)
	write(1)
	n, err := sub.Read(t.Context(), dst[:]) // the two go together
	require.NoError(t, err)
	require.Equal(t, 1, n)
	write(1)
	require.NoError(t, pub.Close())
	try(1, nil)
	try(0, io.EOF)
	require.NoError(t, sub.Close())
	try(0, ErrClosed)
}
