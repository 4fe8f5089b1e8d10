package srt

import (
	"errors"
	"testing"
	"time"

	gosrt "github.com/datarhei/gosrt"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/internal/srt"
)

// goEnd is a connection of gosrt, as either end of a transfer.
type goEnd struct {
	gosrt.Conn
	got arrivals
}

// newGoEnd reads from c until it is closed, as the test's end does.
func newGoEnd(t *testing.T, c gosrt.Conn) *goEnd {
	e := &goEnd{Conn: c}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 2000)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			_, _ = e.got.Write(b[:n])
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-ended
	})
	return e
}

func (e *goEnd) arrived() *arrivals { return &e.got }

func (e *goEnd) send(t *testing.T, b []byte, interval time.Duration) []time.Time {
	return pace(b, interval, func(p []byte) {
		_, err := e.Write(p)
		require.NoError(t, err)
	})
}

// goLatency forgives a busy machine: nothing is lost here.
const goLatency = 2 * time.Second

func goConfig(passphrase string) gosrt.Config {
	c := gosrt.DefaultConfig()
	c.StreamId, c.Passphrase, c.Latency, c.ConnectionTimeout = "live/a", passphrase, goLatency, time.Minute
	c.ReceiverLatency, c.PeerLatency = c.Latency, c.Latency
	return c
}

// A second implementation, as caller and as listener, both ways.
func TestGosrt(t *testing.T) {
	want := payload(250)
	check := func(t *testing.T, tx sender, rx receiver) {
		got, _ := transfer(t, tx, rx, want, 2*time.Millisecond)
		require.Empty(t, missing(t, got, want), "packets lost")
	}
	for _, passphrase := range []string{"", passphrase} {
		o := options{latency: goLatency, passphrase: passphrase}
		name := "plain"
		if passphrase != "" {
			name = "encrypted"
		}
		t.Run("calls, "+name, func(t *testing.T) {
			t.Parallel()
			e, addr, ready := ourListener(t, o)
			conn, err := gosrt.Dial("srt", addr, goConfig(passphrase))
			require.NoError(t, err)
			c := newGoEnd(t, conn)
			<-ready
			check(t, c, e)
			check(t, e, c)
		})
		t.Run("listens, "+name, func(t *testing.T) {
			t.Parallel()
			l, err := gosrt.Listen("srt", peer.FreeAddr(t), goConfig(passphrase))
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
			c := newGoEnd(t, <-accepted)
			check(t, e, c)
			check(t, c, e)
		})
	}
}
