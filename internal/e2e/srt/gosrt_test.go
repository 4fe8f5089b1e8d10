package srt

import (
	"bytes"
	"errors"
	"testing"
	"time"

	gosrt "github.com/datarhei/gosrt"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/srt"
)

// goEnd is a connection of gosrt, as either end of a transfer.
type goEnd struct{ gosrt.Conn }

func (e goEnd) send(t *testing.T, b []byte, interval time.Duration) {
	pace(b, interval, func(p []byte) {
		_, err := e.Write(p)
		require.NoError(t, err)
	})
}

// read returns what comes until there are n bytes that count.
func (e goEnd) read(t *testing.T, n int) []byte {
	var got []byte
	b := make([]byte, 2000)
	require.NoError(t, e.SetReadDeadline(time.Now().Add(20*time.Second)))
	for len(counted(bytes.Clone(got))) < n {
		k, err := e.Read(b)
		require.NoError(t, err)
		got = append(got, b[:k]...)
	}
	return counted(got)
}

func goConfig(passphrase string) gosrt.Config {
	c := gosrt.DefaultConfig()
	c.StreamId, c.Passphrase, c.Latency = "live/a", passphrase, 200*time.Millisecond
	c.ReceiverLatency, c.PeerLatency = c.Latency, c.Latency
	return c
}

// A second implementation, as caller and as listener, both ways.
func TestGosrt(t *testing.T) {
	want := payload(250)
	for _, passphrase := range []string{"", passphrase} {
		o := options{latency: 200 * time.Millisecond, passphrase: passphrase}
		name := "plain"
		if passphrase != "" {
			name = "encrypted"
		}
		t.Run("calls, "+name, func(t *testing.T) {
			e, addr, ready := ourListener(t, o)
			c, err := gosrt.Dial("srt", addr, goConfig(passphrase))
			require.NoError(t, err)
			defer c.Close()
			<-ready
			goEnd{c}.send(t, want, 2*time.Millisecond)
			trail(t, goEnd{c})
			same(t, e, want)
			e.send(t, want, 2*time.Millisecond)
			require.True(t, bytes.Equal(want, goEnd{c}.read(t, len(want))))
		})
		t.Run("listens, "+name, func(t *testing.T) {
			l, err := gosrt.Listen("srt", freeUDP(t), goConfig(passphrase))
			require.NoError(t, err)
			defer l.Close()
			accepted := make(chan gosrt.Conn, 1)
			go func() {
				for {
					r, err := l.Accept2()
					if err != nil {
						return
					}
					if passphrase != "" && r.SetPassphrase(passphrase) != nil {
						r.Reject(gosrt.REJ_BADSECRET)
						continue
					}
					if c, err := r.Accept(); err == nil {
						accepted <- c
					}
				}
			}()
			if passphrase != "" {
				_, err := srt.Dial(t.Context(), l.Addr().String(), o.endpoint(), srt.DialOptions{StreamID: "live/a", Passphrase: "not the passphrase"})
				var r *srt.Rejection
				require.True(t, errors.As(err, &r), "%v", err)
				require.Equal(t, srt.BadSecret, r.Reason)
			}
			e := ourCaller(t, l.Addr().String(), o)
			c := <-accepted
			defer c.Close()
			e.send(t, want, 2*time.Millisecond)
			require.True(t, bytes.Equal(want, goEnd{c}.read(t, len(want))))
			goEnd{c}.send(t, want, 2*time.Millisecond)
			trail(t, goEnd{c})
			same(t, e, want)
		})
	}
}
