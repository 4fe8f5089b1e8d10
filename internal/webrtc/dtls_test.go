package webrtc

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"
)

// The end of the handshake is sent again as long as the peer asks for it, and
// the association is over when either side says so, though nothing of pion's is
// left of it.
func TestAfterHandshake(t *testing.T) {
	tr := start(t, &Transport{})
	c := newClient(t)
	c.deaf = 2
	connected, ended := make(chan struct{}), make(chan error, 1)
	s, answer, err := tr.Receive(c.offer(audioLine(0, "")), false, Handler{
		Connected: func() { close(connected) }, Ended: func(err error) { ended <- err },
	})
	require.NoError(t, err)
	c.dial(answer)
	require.NoError(t, c.connect())
	wait(t, connected)
	require.Zero(t, c.deaf)
	require.NoError(t, s.Close())
	_, err = c.dtls.Read(make([]byte, 100))
	require.Error(t, err, "it is told")
	require.ErrorIs(t, wait(t, ended), ErrClosed)
}

// Once it is connected, a session has no goroutine.
func TestNoGoroutine(t *testing.T) {
	tr := start(t, &Transport{})
	var stacks [1 << 20]byte
	ours := func() int { // the client has some too
		n := runtime.Stack(stacks[:], true)
		return bytes.Count(stacks[:n], []byte("webrtc.(*association).run"))
	}
	_, _, _, ended := publishing(t, tr, dtls.SRTP_AEAD_AES_128_GCM)
	require.Eventually(t, func() bool { return ours() == 0 }, patience, time.Millisecond)
	require.Empty(t, ended)
}
