package rtmp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/internal/memnet"
	"github.com/runnel-media/runnel/stream"
)

// A peer that dawdles is closed when its time is over, to the second.
func TestTimeouts(t *testing.T) {
	drip := func(nc net.Conn, b []byte) {
		for i := range b {
			time.Sleep(time.Second)
			if _, err := nc.Write(b[i : i+1]); err != nil {
				return
			}
		}
	}
	audio := appendChunks(nil, defaultChunkSize, 4, typeAudio, 0, 1, mp3, nil)
	for _, c := range []struct {
		name  string
		begin func(w *world) *peer
		then  func(p *peer)
		want  time.Duration
	}{
		{"says nothing", func(w *world) *peer { return &peer{t: w.t, nc: w.raw()} }, nil, 10 * time.Second},
		{"a byte a second of the handshake", func(w *world) *peer { return &peer{t: w.t, nc: w.raw()} },
			func(p *peer) { drip(p.nc, append([]byte{version}, make([]byte, 2*handshakeSize)...)) }, 10 * time.Second},
		{"no command", func(w *world) *peer { return w.peer() }, nil, 20 * time.Second},
		{"a byte a second of a command", func(w *world) *peer { return w.peer() },
			func(p *peer) { drip(p.nc, appendChunks(nil, 128, 3, typeCommandAMF0, 0, 0, make([]byte, 100), nil)) }, 20 * time.Second},
		{"neither publishes nor plays", func(w *world) *peer { return w.connected() },
			func(p *peer) {
				for {
					time.Sleep(time.Second)
					if _, err := p.nc.Write(appendEvent(nil, eventPingRequest, 1)); err != nil {
						return
					}
				}
			}, 20 * time.Second},
		{"publishes nothing", func(w *world) *peer { return w.publishing("cam") }, nil, 20 * time.Second},
		{"stops publishing", func(w *world) *peer {
			p := w.publishing("cam")
			p.write(audio)
			return p
		}, nil, 15 * time.Second},
		{"a byte a second of a frame", func(w *world) *peer {
			p := w.publishing("cam")
			p.write(audio)
			return p
		}, func(p *peer) { drip(p.nc, audio) }, 15 * time.Second},
		{"publishes no media", func(w *world) *peer {
			p := w.publishing("cam")
			p.write(audio)
			return p
		}, func(p *peer) {
			for {
				time.Sleep(time.Second)
				if _, err := p.nc.Write(appendEvent(nil, eventPingRequest, 1)); err != nil {
					return
				}
			}
		}, 15 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &fakeHandler{}, &Server{})
				p := c.begin(w)
				at := time.Now()
				var said sync.WaitGroup
				if c.then != nil {
					said.Go(func() { c.then(p) })
				}
				defer said.Wait()
				_, err := io.Copy(io.Discard, p.nc)
				require.NoError(t, err)
				require.Equal(t, c.want, time.Since(at))
				synctest.Wait()
				require.Empty(t, w.srv.conns)
			})
		})
	}
}

// A publisher that keeps going is not closed.
func TestIdleIsPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{}, &Server{IdleTimeout: 2 * time.Second})
		p := w.publishing("cam")
		for range 1000 {
			p.write(appendChunks(nil, defaultChunkSize, 4, typeAudio, 0, 1, mp3, nil))
			time.Sleep(1500 * time.Millisecond)
		}
		require.NotNil(t, w.h.hub.Stream("live/cam"))
	})
}

func TestMalformed(t *testing.T) {
	for _, c := range []struct {
		name string
		say  func(p *peer)
	}{
		{"command before connect", func(p *peer) { p.send(0, "createStream", 1, nil) }},
		{"connect without object", func(p *peer) { p.send(0, "connect", 1) }},
		{"connect twice", func(p *peer) {
			p.send(0, "connect", 1, amf.Object{{Name: "app", Value: "live"}})
			p.command()
			p.send(0, "connect", 1, amf.Object{{Name: "app", Value: "live"}})
		}},
		{"long app", func(p *peer) {
			p.send(0, "connect", 1, amf.Object{{Name: "app", Value: string(make([]byte, maxText+1))}})
		}},
		{"not AMF", func(p *peer) {
			p.write(appendChunks(nil, defaultChunkSize, 3, typeCommandAMF0, 0, 0, []byte{0xff}, nil))
		}},
		{"empty command", func(p *peer) { p.write(appendChunks(nil, defaultChunkSize, 3, typeCommandAMF3, 0, 0, nil, nil)) }},
		{"number for a name", func(p *peer) { p.send(0, 1, 1) }},
		{"name for a number", func(p *peer) { p.send(0, "connect", "1") }},
		{"large message", func(p *peer) { p.write(unhex(p.t, "04 000000 ffffff 09 01000000")) }},
		{"no chunk", func(p *peer) { p.write([]byte{0xff}) }},
		{"chunk size 0", func(p *peer) { p.write(appendControl(nil, typeSetChunkSize, 0)) }},
		{"closes", func(p *peer) { _ = p.nc.(interface{ CloseWrite() error }).CloseWrite() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &fakeHandler{}, &Server{})
				p := w.peer()
				c.say(p)
				require.Zero(t, p.closed())
				require.Empty(t, w.h.requests)
			})
		})
	}
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{}, &Server{MaxConns: 5, MaxConnsPerAddr: 2})
		served := func(from string) (net.Conn, bool) {
			nc, err := w.net.DialFrom(t.Context(), from, "server:1935")
			require.NoError(t, err)
			synctest.Wait()
			_ = nc.SetReadDeadline(time.Now().Add(time.Second))
			_, err = nc.Read(make([]byte, 1))
			return nc, !errors.Is(err, io.EOF)
		}
		var conns []net.Conn
		for _, c := range []struct {
			from string
			want bool
		}{
			{"10.0.0.1", true}, {"10.0.0.1", true}, {"10.0.0.1", false}, {"10.0.0.2", true},
			{"2001:db8::1", true}, {"2001:db8::2", true}, {"2001:db8::3", false}, // by network, and then
			{"10.0.0.3", false}, // no more at all
		} {
			nc, ok := served(c.from)
			require.Equal(t, c.want, ok, c.from)
			conns = append(conns, nc)
		}
		_ = conns[0].Close()
		synctest.Wait()
		_, ok := served("10.0.0.3")
		require.True(t, ok)
	})
}

// A panic in a connection ends that connection only.
func TestPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHandler{
			publish: func(r *auth.Request) error {
				if r.Name == "bad" {
					panic("publish")
				}
				return nil
			},
			play: func(context.Context, stream.PlayConn, *auth.Request) error { panic("play") },
		}
		w := newWorld(t, h, &Server{})
		good := w.publishing("good")
		for i, command := range []string{"publish", "play"} {
			p := w.connected()
			p.send(1, command, 2, nil, "bad")
			p.closed()
			require.EqualValues(t, i+1, w.srv.Panics())
		}
		good.write(appendChunks(nil, defaultChunkSize, 4, typeAudio, 0, 1, mp3, nil))
		synctest.Wait()
		require.Len(t, w.srv.conns, 1)
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		playing := make(chan struct{})
		h := &fakeHandler{play: func(ctx context.Context, c stream.PlayConn, r *auth.Request) error {
			close(playing)
			_, err := c.ReadControl()
			require.ErrorIs(t, err, io.EOF)
			return nil
		}}
		w := newWorld(t, h, &Server{})
		idle, publisher, player := w.connected(), w.publishing("cam"), w.connected()
		player.send(1, "play", 2, nil, "cam")
		<-playing

		done := make(chan error)
		go func() { done <- w.srv.Shutdown(t.Context()) }()
		idle.closed()
		synctest.Wait()
		require.ErrorIs(t, <-w.end, ErrServerClosed)
		w.end <- ErrServerClosed
		_, err := w.net.Dial(t.Context(), "tcp", "server:1935")
		require.Error(t, err)
		select {
		case <-done:
			t.Fatal("a publisher is there")
		default:
		}
		publisher.send(1, "closeStream", 0, nil)
		publisher.status("NetStream.Unpublish.Success")
		publisher.closed()
		require.NoError(t, <-done)
		require.Len(t, w.srv.conns, 1)

		// The player's wish for another stream comes too late.
		player.send(1, "closeStream", 0, nil)
		player.closed()
		require.ErrorIs(t, w.srv.Serve(nopListener{}), ErrServerClosed)
	})
}

func TestShutdownTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{}, &Server{IdleTimeout: time.Hour})
		p := w.publishing("cam")
		p.write(appendChunks(nil, defaultChunkSize, 4, typeAudio, 0, 1, mp3, nil))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		go func() { _ = w.srv.Shutdown(t.Context()) }() // two at once
		at := time.Now()
		require.ErrorIs(t, w.srv.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, 5*time.Second, time.Since(at))
		require.Nil(t, w.h.hub.Stream("live/cam"))
		require.NoError(t, w.srv.Shutdown(t.Context()))
	})
}

// Close ends players too, and their handlers' context.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		h := &fakeHandler{play: func(ctx context.Context, c stream.PlayConn, r *auth.Request) error {
			_, err := c.ReadControl()
			<-ctx.Done()
			ended <- err
			return err
		}}
		w := newWorld(t, h, &Server{})
		w.publishing("cam")
		p := w.connected()
		p.send(1, "play", 2, nil, "cam")
		synctest.Wait()
		require.NoError(t, w.srv.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
		synctest.Wait()
		require.Empty(t, w.srv.conns)
	})
}

type nopListener struct{ net.Listener }

func (nopListener) Close() error { return nil }

// failing is a listener whose Accept fails some times before it is closed.
type failing struct {
	net.Listener
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

func (f *failing) Close() error { return nil }

type outOfFiles struct{}

func (outOfFiles) Error() string   { return "too many open files" }
func (outOfFiles) Temporary() bool { return true }

func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now()
		final := errors.New("network is gone")
		srv := &Server{Log: quiet}
		require.Equal(t, final, srv.Serve(&failing{errs: []error{outOfFiles{}, outOfFiles{}, outOfFiles{}, final}}))
		require.Equal(t, 35*time.Millisecond, time.Since(at)) // 5 + 10 + 20
	})
}

func TestRTMPS(t *testing.T) {
	cert, pool := certificate(t)
	network := memnet.New()
	defer network.Close()
	ln, err := network.Listen("server:443")
	require.NoError(t, err)
	h := &fakeHandler{}
	srv := &Server{Handler: h, Log: quiet}
	go func() { _ = srv.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})) }()
	defer srv.Close()

	d := Dialer{DialContext: network.Dial, TLS: &tls.Config{RootCAs: pool}}
	c, err := d.Dial(t.Context(), "rtmps://server/live/cam")
	require.NoError(t, err)
	out, err := c.Publish(t.Context())
	require.NoError(t, err)
	defer out.Close()
	r := h.last()
	require.Equal(t, "rtmps", r.Protocol)
	require.NotNil(t, r.TLS)
	require.Equal(t, "server", r.TLS.ServerName)

	// Plain RTMP at the same port.
	_, err = (&Dialer{DialContext: network.Dial}).Dial(t.Context(), "rtmp://server:443/live/cam")
	require.Error(t, err)
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// After ten thousand publications nothing is left of them.
func TestCycles(t *testing.T) {
	const conns, rounds = 500, 20
	h := &fakeHandler{}
	w := newWorld(t, h, &Server{})
	cycle := func(i int) {
		nc, err := w.net.Dial(t.Context(), "tcp", "server:1935")
		require.NoError(t, err)
		p := w.shake(nc)
		p.connect()
		for range rounds {
			p.send(1, "publish", 2, nil, fmt.Sprint("cam", i), "live")
			p.command()
			p.status("NetStream.Publish.Start")
			p.write(appendChunks(nil, defaultChunkSize, 4, typeAudio, 0, 1, mp3, nil))
			p.send(1, "closeStream", 0, nil)
			p.status("NetStream.Unpublish.Success")
		}
		require.NoError(t, nc.Close())
	}
	all := func(n int) {
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := g; i < n; i += 4 {
					cycle(i)
				}
			})
		}
		wg.Wait()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			w.srv.mu.Lock()
			left := len(w.srv.conns)
			w.srv.mu.Unlock()
			if left == 0 {
				h.requests = nil
				return
			}
			require.True(t, time.Now().Before(deadline), "%d connections are left", left)
		}
	}
	all(20)
	goroutines, heap := runtime.NumGoroutine(), liveHeap()
	all(conns)
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+2)
	require.Less(t, liveHeap(), heap+256<<10)
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
