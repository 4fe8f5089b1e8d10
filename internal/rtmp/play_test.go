package rtmp

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// send plays frames to c, as package deliver does.
func send(c stream.PlayConn, tracks []*stream.Track, frames []*stream.Frame) error {
	b := c.Accept()
	for _, t := range tracks {
		body, err := flv.AppendConfigBody(nil, t)
		if err != nil {
			return err
		}
		b = AppendMessage(b, flv.TagType(t), 0, nil, body)
	}
	for _, f := range frames {
		header, err := flv.AppendFrameHeader(nil, f)
		if err != nil {
			return err
		}
		b = AppendMessage(b, flv.TagType(f.Track), flv.Timestamp(f), header, f.Data)
	}
	_, err := c.Write(b)
	return err
}

func TestPlay(t *testing.T) {
	for _, c := range []struct {
		name    string
		pattern *streamtest.Pattern
	}{
		{"H.264 and AAC", &streamtest.Pattern{BFrames: 1}},
		{"H.265 and Opus", &streamtest.Pattern{Video: stream.H265, Audio: stream.Opus}},
		{"AV1 and AC-3, late", &streamtest.Pattern{Video: stream.AV1, Audio: stream.AC3, Start: 6 * time.Hour}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := slices.Collect(c.pattern.Frames(60))
				w := newWorld(t, &fakeHandler{play: func(ctx context.Context, pc stream.PlayConn, r *auth.Request) error {
					return send(pc, c.pattern.Tracks(), want)
				}}, &Server{})
				var got record
				require.NoError(t, w.dial("rtmp://server/live/cam?token=t").Play(t.Context(), &got))
				require.Equal(t, auth.Play, w.h.last().Action)
				require.Equal(t, "t", w.h.last().Token)
				require.Contains(t, w.h.last().Accept, "hvc1")
				require.Len(t, got.frames, len(want))
				for i, f := range got.frames {
					require.Equal(t, want[i].Data, f.Data)
					require.InDelta(t, want[i].DTS, f.DTS, float64(time.Millisecond))
				}
				time.Sleep(lingerTime)
				synctest.Wait()
				require.Empty(t, w.srv.conns)
			})
		})
	}
}

// The messages that a player gets before, around and after the media.
func TestPlayMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan bool)
		w := newWorld(t, &fakeHandler{play: func(ctx context.Context, c stream.PlayConn, r *auth.Request) error {
			_, _ = c.Write(c.Accept())
			go func() {
				for {
					ctl, err := c.ReadControl()
					if err != nil {
						return // when the server has taken the connection back
					}
					_, _ = c.Write(ctl.Reply)
					if ctl.Pause != ctl.Resume {
						_, _ = c.Write(AppendMessage(nil, typeAudio, 0, nil, []byte{b2i(ctl.Pause)}))
					}
				}
			}()
			<-end
			return nil
		}}, &Server{})
		p := w.connected()
		p.send(0, "createStream", 2, nil)
		p.result()
		p.send(0, "FCSubscribe", 3, nil, "cam")
		require.Equal(t, "onFCSubscribe", p.command().name)
		p.send(0, "getStreamLength", 4, nil, "cam")
		require.Equal(t, 4.0, p.result())
		p.send(1, "play", 5, nil, "cam", -2, -1, true)
		p.write(appendEvent(nil, 3, 1)) // the length of its buffer
		m := p.message()
		require.EqualValues(t, typeUserControl, m.typ)
		require.Equal(t, []byte{0, eventStreamBegin, 0, 0, 0, 1}, m.body)
		p.status("NetStream.Play.Reset")
		p.status("NetStream.Play.Start")

		p.write(appendControl(nil, typeAck, 5000))
		p.write(appendEvent(nil, eventPingRequest, 9))
		require.Equal(t, []byte{0, eventPingResponse, 0, 0, 0, 9}, p.message().body)
		p.send(1, "pause", 6, nil, true, 1000)
		p.status("NetStream.Pause.Notify")
		require.Equal(t, []byte{1}, p.message().body)
		p.send(1, "pause", 7, nil, false, 1000)
		p.status("NetStream.Unpause.Notify")
		require.Equal(t, []byte{0}, p.message().body)
		p.send(1, "seek", 8, nil, 5000)
		require.Equal(t, "error", p.status("NetStream.Seek.Failed").String("level"))
		p.send(1, "receiveVideo", 0, nil, true)
		p.send(1, "play2", 9, nil, amf.Object{})
		p.status("NetStream.Play.Failed")

		// Hours of silence are no reason to end a play.
		time.Sleep(5 * time.Hour)
		end <- true
		m = p.message()
		require.Equal(t, []byte{0, eventStreamEOF, 0, 0, 0, 1}, m.body)
		p.status("NetStream.Play.UnpublishNotify")
		p.status("NetStream.Play.Stop")
		require.Zero(t, p.closed())
	})
}

func b2i(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// One connection for one stream after the other.
func TestPlayAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{play: func(ctx context.Context, c stream.PlayConn, r *auth.Request) error {
			_, _ = c.Write(c.Accept())
			_, err := c.ReadControl()
			if err == io.EOF {
				_, err = c.ReadControl()
				require.Equal(t, io.EOF, err)
			}
			return nil
		}}, &Server{})
		p := w.connected()
		started := func() {
			t.Helper()
			p.status("NetStream.Play.Reset")
			p.status("NetStream.Play.Start")
		}
		p.send(1, "play", 2, nil, "one")
		started()
		p.send(1, "closeStream", 0, nil)
		p.send(0, "createStream", 3, nil)
		p.result()
		p.send(1, "play", 4, nil, "two")
		started()
		p.send(1, "play", 5, nil, "three") // in the place of two
		started()
		p.send(0, "deleteStream", 6, nil, 1)
		p.send(1, "publish", 7, nil, "four", "live")
		require.Equal(t, "onFCPublish", p.command().name)
		p.status("NetStream.Publish.Start")
		p.send(0, "FCUnpublish", 8, nil, "four")
		p.command()
		p.result()
		p.status("NetStream.Unpublish.Success")
		p.send(1, "play", 9, nil, "five")
		started()
		var names []string
		for _, r := range w.h.requests {
			names = append(names, string(r.Action)+" "+r.Name)
		}
		require.Equal(t, []string{"play one", "play two", "play three", "publish four", "play five"}, names)
	})
}

// A player that goes away, and a handler that fails, end quietly.
func TestPlayEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(c stream.PlayConn) error
	}{
		{"the peer leaves, the handler is content", func(c stream.PlayConn) error { _, _ = c.ReadControl(); return nil }},
		{"the peer leaves, the handler is not", func(c stream.PlayConn) error { _, err := c.ReadControl(); return err }},
		{"the peer does not read", func(c stream.PlayConn) error {
			c.Accept()
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			for {
				if _, err := c.Write(make([]byte, 5000)); err != nil {
					return err
				}
			}
		}},
		{"garbage", func(c stream.PlayConn) error { c.Accept(); _, err := c.ReadControl(); return err }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &fakeHandler{play: func(_ context.Context, pc stream.PlayConn, _ *auth.Request) error { return c.play(pc) }}, &Server{})
				p := w.connected()
				p.send(1, "play", 2, nil, "cam")
				switch c.name {
				case "garbage":
					p.write([]byte{0xff, 0xff})
				case "the peer does not read":
					time.Sleep(5 * time.Second)
				default:
					_ = p.nc.Close()
				}
				synctest.Wait()
				require.Empty(t, w.srv.conns)
				require.Zero(t, w.srv.Panics())
			})
		})
	}
}

// A TCP connection shows its socket, others do not.
func TestPlaySyscallConn(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	raw := make(chan bool, 1)
	h := &fakeHandler{play: func(_ context.Context, c stream.PlayConn, _ *auth.Request) error {
		sc, ok := c.(syscall.Conn)
		if ok {
			_, err := sc.SyscallConn()
			ok = err == nil
		}
		raw <- ok
		_, err := c.Write(c.Accept())
		return err
	}}
	srv := &Server{Handler: h, Log: quiet}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	c, err := (&Dialer{}).Dial(t.Context(), "rtmp://"+ln.Addr().String()+"/live/cam")
	require.NoError(t, err)
	require.NoError(t, c.Play(t.Context(), &record{}))
	require.True(t, <-raw)
	require.NoError(t, c.Close())

	w := newWorld(t, h, &Server{})
	require.NoError(t, w.dial("rtmp://server/live/cam").Play(t.Context(), &record{}))
	require.False(t, <-raw)
}

// What a client's caller sees when it ends the play itself.
func TestClientPlayCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{play: func(ctx context.Context, c stream.PlayConn, r *auth.Request) error {
			_, _ = c.Write(c.Accept())
			_, err := c.ReadControl()
			return err
		}}, &Server{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		require.ErrorIs(t, w.dial("rtmp://server/live/cam").Play(ctx, &record{}), context.DeadlineExceeded)

		// A server that falls silent.
		at := time.Now()
		err := w.dial("rtmp://server/live/cam").Play(t.Context(), &record{})
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		require.True(t, timeout.Timeout())
		require.Equal(t, 15*time.Second, time.Since(at))
	})
}

func TestClientTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{}, &Server{})
		ln, err := w.net.Listen("deaf:1935")
		require.NoError(t, err)
		defer ln.Close()
		d := Dialer{DialContext: w.net.Dial, Timeout: 4 * time.Second}
		at := time.Now()
		_, err = d.Dial(t.Context(), "rtmp://deaf/live/cam")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 4*time.Second, time.Since(at))
		ctx, cancel := context.WithCancelCause(t.Context())
		mine := errors.New("enough")
		time.AfterFunc(time.Second, func() { cancel(mine) })
		_, err = d.Dial(ctx, "rtmp://deaf/live/cam")
		require.ErrorIs(t, err, mine)
	})
}

// A player costs little beyond its connection and its goroutine.
func TestPlayMemory(t *testing.T) {
	const n = 1000
	srv := &Server{Log: quiet, conns: make(map[*conn]connState)}
	wire := playerWire(t)
	start := func() *playConn {
		nc := &fakeConn{in: wire}
		c := &conn{srv: srv, nc: nc, open: true}
		c.rd.init(nc, commandBuffer)
		r, err := c.commands()
		require.NoError(t, err)
		require.NotNil(t, r)
		c.rd.resize(playBuffer)
		return &playConn{Conn: nc, c: c}
	}
	players := make([]*playConn, n)
	before := liveHeap()
	for i := range players {
		players[i] = start()
	}
	each := (liveHeap() - before) / n
	t.Logf("%d bytes a player", each)
	require.Less(t, each, uint64(1500))
	runtime.KeepAlive(players)
}

// The goroutine of a waiting player shrinks to a stack of 4 KB, even if the
// handler needed more before.
func TestPlayStack(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes stack frames larger")
	}
	const n = 100
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	waiting := make(chan bool, n)
	srv := &Server{Log: quiet, Handler: &fakeHandler{play: func(_ context.Context, c stream.PlayConn, _ *auth.Request) error {
		deep(20)
		waiting <- true
		_, err := c.ReadControl()
		return err
	}}}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	stacks := func() int {
		var m runtime.MemStats
		liveHeap()
		runtime.ReadMemStats(&m)
		return int(m.StackInuse)
	}
	before := stacks()
	for range n {
		nc, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		defer nc.Close()
		require.NoError(t, clientHandshake(nc, true))
		_, err = nc.Write(playerWire(t))
		require.NoError(t, err)
		<-waiting
	}
	time.Sleep(10 * time.Millisecond) // for the last to wait
	each := (stacks() - before) / n
	t.Logf("%d bytes of stack a player", each)
	require.Less(t, each, 5<<10)
}

// deep needs much stack.
//
//go:noinline
func deep(n int) int {
	var b [256]byte
	if n == 0 {
		return 0
	}
	b[n] = byte(deep(n - 1))
	return int(b[n/2])
}

// playerWire is what ffmpeg's player sends after the handshake.
func playerWire(t testing.TB) []byte {
	var b []byte
	for _, values := range [][]any{
		{"connect", 1, amf.Object{
			{Name: "app", Value: "live"}, {Name: "flashVer", Value: "LNX 9,0,124,2"},
			{Name: "tcUrl", Value: "rtmp://server:1935/live"}, {Name: "fpad", Value: false}, {Name: "capabilities", Value: 15},
			{Name: "audioCodecs", Value: 4071}, {Name: "videoCodecs", Value: 252}, {Name: "videoFunction", Value: 1},
		}},
		{"createStream", 2, nil},
		{"play", 4, nil, "cam", -2000},
	} {
		body, err := amf.Append(nil, values...)
		require.NoError(t, err)
		b = appendChunks(b, defaultChunkSize, csidCommand, typeCommandAMF0, 0, 0, body, nil)
	}
	return b
}
