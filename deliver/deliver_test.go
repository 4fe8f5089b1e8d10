package deliver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/internal/memnet"
	"github.com/runnel-media/runnel/internal/rtmp"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A source publishes frames when it is told to, and remembers them.
type source struct {
	t       testing.TB
	pub     *stream.Publisher
	next    func() (*stream.Frame, bool)
	written []*stream.Frame
}

func publish(t testing.TB, hub *stream.Hub, name string, p *streamtest.Pattern) *source {
	pub, err := hub.Publish(t.Context(), name, nil)
	require.NoError(t, err)
	require.NoError(t, pub.SetTracks(p.Tracks()...))
	s := &source{t: t, pub: pub}
	s.use(p)
	return s
}

// use goes on with the frames of another pattern.
func (s *source) use(p *streamtest.Pattern) {
	next, stop := iter.Pull(p.Frames(-1))
	s.t.Cleanup(stop)
	s.next = next
}

// write writes n frames.
func (s *source) write(n int) {
	for range n {
		f, _ := s.next()
		require.NoError(s.t, s.pub.Write(f))
		s.written = append(s.written, f)
	}
}

// run writes frames in real time until stop is called.
func (s *source) run() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		began, at := time.Now(), time.Duration(-1)
		for {
			s.write(1)
			dts := s.written[len(s.written)-1].DTS
			if at < 0 {
				at = dts
			}
			select {
			case <-done:
				return
			case <-time.After(time.Until(began.Add(dts - at))):
			}
		}
	})
	return sync.OnceFunc(func() { close(done); wg.Wait() })
}

// A sink keeps what a player has got. It is a flv.Sink.
type sink struct {
	mu     sync.Mutex
	tracks []*stream.Track
	meta   stream.Metadata
	frames []*stream.Frame
}

func (s *sink) SetTracks(tracks ...*stream.Track) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracks = slices.Clone(tracks)
	return nil
}

func (s *sink) SetMetadata(m stream.Metadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meta = m
}

func (s *sink) Write(f *stream.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames = append(s.frames, f)
	return nil
}

func (s *sink) got() []*stream.Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.frames)
}

// A player is the client's side.
type player struct {
	*sink
	leave func()     // hangs up
	done  chan error // the end that it saw
}

// frames waits for n frames and returns all that have come.
func (p *player) waitFrames(t testing.TB, n int) []*stream.Frame {
	t.Helper()
	eventually(t, func() bool { return len(p.got()) >= n }, "%d frames", n)
	return p.got()
}

// waitLast waits for the last frame that was written.
func (p *player) waitLast(t testing.TB, src *source) []*stream.Frame {
	t.Helper()
	last := src.written[len(src.written)-1]
	eventually(t, func() bool {
		got := p.got()
		return len(got) > 0 && same(got[len(got)-1], last)
	}, "the last frame, at %v", last.DTS)
	return p.got()
}

// end waits for the end of what the player is sent.
func (p *player) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-time.After(30 * time.Second):
		require.Fail(t, "the player goes on")
		return nil
	}
}

// eventually waits for a condition, in virtual time too.
func eventually(t testing.TB, ok func() bool, format string, args ...any) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(t, "in vain: "+fmt.Sprintf(format, args...))
		}
	}
}

// A bed is a server with its clients.
type bed struct {
	t    testing.TB
	hub  *stream.Hub
	srv  *Server
	kind kind

	base   string // URL without the scheme's end: "://host:port"
	client *http.Client
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	tls    *tls.Config
}

// A kind is one way to play.
type kind struct {
	name      string
	container container
	ws        bool
	rtmp      bool
	memory    bool // no socket
	tls       bool
	h2        bool
}

var kinds = []kind{
	{name: "flv-memory", container: containerFLV, memory: true},
	{name: "flv-tcp", container: containerFLV},
	{name: "flv-tls", container: containerFLV, tls: true},
	{name: "flv-h2", container: containerFLV, tls: true, h2: true},
	{name: "flv-ws-memory", container: containerFLV, ws: true, memory: true},
	{name: "flv-ws-tcp", container: containerFLV, ws: true},
	{name: "flv-wss", container: containerFLV, ws: true, tls: true},
	{name: "mp4-tcp", container: containerMP4},
	{name: "mp4-h2", container: containerMP4, tls: true, h2: true},
	{name: "mp4-ws-tcp", container: containerMP4, ws: true},
	{name: "rtmp-memory", container: containerRTMP, rtmp: true, memory: true},
	{name: "rtmp-tcp", container: containerRTMP, rtmp: true},
	{name: "rtmps", container: containerRTMP, rtmp: true, tls: true},
}

func overKinds(t *testing.T, test func(t *testing.T, b *bed)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, newBed(t, k, nil)) })
	}
}

func newBed(t testing.TB, k kind, change func(*stream.Hub, *Server)) *bed {
	hub := &stream.Hub{}
	b := &bed{t: t, kind: k, hub: hub, srv: &Server{Hub: hub, Auth: auth.AllowAll}}
	if change != nil {
		change(b.hub, b.srv)
	}
	var ln net.Listener
	var err error
	if k.memory {
		n := memnet.New()
		ln, err = n.Listen("server:80")
		b.dial = n.Dial
	} else {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
		b.dial = (&net.Dialer{}).DialContext
	}
	require.NoError(t, err)
	b.base = "://" + ln.Addr().String()
	if k.rtmp {
		b.serveRTMP(ln)
	} else {
		b.serveHTTP(ln)
	}
	t.Cleanup(func() { b.srv.Close(); b.hub.Close() })
	return b
}

func (b *bed) serveHTTP(ln net.Listener) {
	s := httptest.NewUnstartedServer(b.srv)
	s.Listener.Close()
	s.Listener = ln
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = b.kind.h2
	if b.kind.tls {
		s.StartTLS()
		b.base = "https" + b.base
		b.client = s.Client()
	} else {
		s.Start()
		b.base = "http" + b.base
		b.client = &http.Client{Transport: &http.Transport{DialContext: b.dial}}
	}
	b.t.Cleanup(func() {
		b.client.CloseIdleConnections()
		s.Close()
	})
}

func (b *bed) serveRTMP(ln net.Listener) {
	b.base = "rtmp" + b.base
	if b.kind.tls {
		cert := testCertificate()
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})
		b.base = "rtmps" + b.base[len("rtmp"):]
		b.tls = &tls.Config{InsecureSkipVerify: true}
	}
	s := &rtmp.Server{Handler: rtmpHandler{b.srv}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	b.t.Cleanup(func() {
		s.Close()
		<-done
	})
}

var testCertificate = sync.OnceValue(func() tls.Certificate {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return s.TLS.Certificates[0]
})

// rtmpHandler has what package ingest does with players.
type rtmpHandler struct{ srv *Server }

func (h rtmpHandler) Play(ctx context.Context, c stream.PlayConn, r *auth.Request, ended func(error)) {
	if err := h.srv.StartPlay(ctx, c, r, ended); err != nil {
		ended(err)
	}
}

func (h rtmpHandler) Publish(context.Context, *auth.Request, stream.PublishOptions) (*stream.Publisher, error) {
	return nil, auth.ErrDenied
}

// play starts a player of "live/x", or of name, which may have a query, and
// returns how it was refused.
func (b *bed) play(name string) (*player, error) {
	b.t.Helper()
	p := &player{sink: &sink{}, done: make(chan error, 1)}
	if b.kind.rtmp {
		return p, b.playRTMP(p, name, p.sink)
	}
	body, leave, err := b.get(name)
	if err != nil {
		return nil, err
	}
	p.leave = leave
	go func() {
		if b.kind.container == containerMP4 {
			p.done <- readMP4(body, p.sink)
		} else {
			r := &flv.Reader{R: body, Demuxer: &flv.Demuxer{Sink: p.sink}}
			p.done <- r.ReadAll()
		}
	}()
	return p, nil
}

func (b *bed) playRTMP(p *player, name string, into flv.Sink) error {
	ctx, cancel := context.WithCancel(context.Background())
	c, err := (&rtmp.Dialer{DialContext: b.dial, TLS: b.tls}).Dial(ctx, b.base+"/"+cmp.Or(name, "live/x"))
	if err != nil {
		cancel()
		return err
	}
	p.leave = func() { cancel(); c.Close() }
	b.t.Cleanup(p.leave)
	started := make(chan struct{}, 1)
	go func() {
		p.done <- c.Play(ctx, startSink{into, started})
		c.Close()
	}()
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-started:
	case <-time.After(100 * time.Millisecond): // granted, it seems, and nothing to see yet
	}
	return nil
}

// get opens a stream over HTTP or WebSocket.
func (b *bed) get(name string) (body io.Reader, leave func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	leave = cancel
	path, query, _ := strings.Cut(cmp.Or(name, "live/x"), "?")
	url := fmt.Sprintf("%s/%s.%s?%s", b.base, path, b.kind.container, query)
	var resp *http.Response
	if b.kind.ws {
		var ws *websocket.Conn
		ws, resp, err = websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: b.client})
		if err == nil {
			ws.SetReadLimit(-1)
			body, leave = &wsReader{ctx: ctx, ws: ws}, func() { cancel(); ws.CloseNow() }
		}
	} else {
		var req *http.Request
		req, err = http.NewRequestWithContext(ctx, "GET", url, nil)
		require.NoError(b.t, err)
		resp, err = b.client.Do(req)
		if err == nil {
			body, leave = resp.Body, func() { cancel(); resp.Body.Close() }
			require.Equal(b.t, b.kind.h2, resp.ProtoMajor == 2)
		}
	}
	if resp != nil && resp.StatusCode >= 300 {
		err = statusError(resp.StatusCode)
		resp.Body.Close()
	}
	if err != nil {
		leave()
		return nil, nil, err
	}
	b.t.Cleanup(leave)
	return body, leave, nil
}

// stuck starts a player that does not read, and returns how it hangs up.
func (b *bed) stuck() (leave func()) {
	if !b.kind.rtmp {
		_, leave, err := b.get("")
		require.NoError(b.t, err)
		return leave
	}
	p := &player{sink: &sink{}, done: make(chan error, 1)}
	held := make(chan struct{})
	require.NoError(b.t, b.playRTMP(p, "", stuckSink{p.sink, held}))
	return sync.OnceFunc(func() { close(held); p.leave() })
}

type stuckSink struct {
	*sink
	held chan struct{}
}

func (s stuckSink) Write(f *stream.Frame) error {
	<-s.held
	return errors.New("no more")
}

type statusError int

func (e statusError) Error() string { return http.StatusText(int(e)) }

// must is play for those that are not to be refused.
func (b *bed) must(name string) *player {
	b.t.Helper()
	p, err := b.play(name)
	require.NoError(b.t, err)
	return p
}

// startSink tells when the first frame has come.
type startSink struct {
	flv.Sink
	started chan struct{}
}

func (s startSink) Write(f *stream.Frame) error {
	select {
	case s.started <- struct{}{}:
	default:
	}
	return s.Sink.Write(f)
}

// wsReader reads the bytes of the messages, and checks that each is one unit of
// the container by itself: players hand messages on as they are.
type wsReader struct {
	ctx  context.Context
	ws   *websocket.Conn
	rest []byte
	n    int // messages
}

func (r *wsReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		typ, msg, err := r.ws.Read(r.ctx)
		if err != nil {
			if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
				err = io.EOF
			}
			return 0, err
		}
		if typ != websocket.MessageBinary || len(msg) == 0 {
			return 0, errors.New("not a binary message, or empty")
		}
		r.rest = msg
		r.n++
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// checkRun checks that got is, of each kind of media, an uninterrupted run of
// what was written, and begins with a key frame. It returns the index in
// written of the first frame of the run.
func checkRun(t testing.TB, got, written []*stream.Frame) int {
	t.Helper()
	require.NotEmpty(t, got)
	if slices.ContainsFunc(written, func(f *stream.Frame) bool { return f.Track.Kind() == stream.Video }) {
		require.Equal(t, stream.Video, got[0].Track.Kind())
		require.True(t, got[0].Key)
	}
	first := slices.IndexFunc(written, func(f *stream.Frame) bool { return same(f, got[0]) })
	require.GreaterOrEqual(t, first, 0, "a frame that nobody wrote")
	for i, f := range got {
		require.Less(t, first+i, len(written), "more than was written")
		w := written[first+i]
		require.Truef(t, same(f, w), "frame %d: %v of %v at %v, not %v at %v", i, f.Track.Codec, f.Track.Kind(), f.DTS, w.Track.Kind(), w.DTS)
		require.Equal(t, w.Data, f.Data)
		require.Equal(t, w.Key, f.Key || f.Track.Kind() == stream.Audio)
		require.InDelta(t, w.PTS, f.PTS, float64(2*time.Millisecond))
	}
	return first
}

func same(a, b *stream.Frame) bool {
	return a.Track.Kind() == b.Track.Kind() && (a.DTS-b.DTS).Abs() <= time.Millisecond
}

// baseline returns a function that waits until there are as many goroutines as
// now again, and no session and feed.
func (b *bed) baseline() func() {
	n := runtime.NumGoroutine()
	return func() {
		b.t.Helper()
		b.idle()
		eventually(b.t, func() bool {
			if b.client != nil {
				b.client.CloseIdleConnections()
			}
			return runtime.NumGoroutine() <= n
		}, "%d goroutines, now %d", n, runtime.NumGoroutine())
	}
}

// idle waits until nobody plays.
func (b *bed) idle() {
	b.t.Helper()
	eventually(b.t, b.isIdle, "players, feeds or sessions are left")
}

func (b *bed) isIdle() bool {
	b.srv.mu.Lock()
	defer b.srv.mu.Unlock()
	return len(b.srv.players) == 0 && len(b.srv.feeds) == 0 && len(slices.Collect(b.hub.Sessions())) == 0
}

// playing returns how many players there are.
func (b *bed) playing() int { return b.srv.playing() }
