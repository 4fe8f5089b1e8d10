package rtmp

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/internal/memnet"
	"github.com/runnel-media/runnel/stream"
)

var quiet = slog.New(slog.DiscardHandler)

// A fakeHandler publishes to a hub and plays what its fields say.
type fakeHandler struct {
	hub     stream.Hub
	publish func(*auth.Request) error // refuses; nil: nobody
	play    func(context.Context, stream.PlayConn, *auth.Request) error
	options stream.PublishOptions

	mu       sync.Mutex
	requests []*auth.Request
	evict    func(error)
}

func (h *fakeHandler) note(r *auth.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = append(h.requests, r)
}

// last returns the newest request.
func (h *fakeHandler) last() auth.Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *h.requests[len(h.requests)-1]
}

func (h *fakeHandler) Publish(ctx context.Context, r *auth.Request, opts stream.PublishOptions) (*stream.Publisher, error) {
	h.note(r)
	if h.publish != nil {
		if err := h.publish(r); err != nil {
			return nil, err
		}
	}
	o := h.options
	o.OnEvict = opts.OnEvict
	o.Session = h.hub.OpenSession(stream.SessionInfo{Role: stream.RolePublish, Stream: r.Stream}, opts.OnEvict)
	p, err := h.hub.Publish(ctx, r.Stream, &o)
	if err != nil {
		o.Session.Close(err)
	}
	return p, err
}

func (h *fakeHandler) Play(ctx context.Context, c stream.PlayConn, r *auth.Request, ended func(error)) {
	h.note(r)
	if h.play == nil {
		ended(stream.ErrNotFound)
		return
	}
	ended(h.play(ctx, c, r))
}

// A world is a server on a network in memory.
type world struct {
	t   testing.TB
	net *memnet.Net
	srv *Server
	h   *fakeHandler
	end chan error // what Serve returned
}

func newWorld(t testing.TB, h *fakeHandler, srv *Server) *world {
	t.Helper()
	w := &world{t: t, net: memnet.New(), srv: srv, h: h, end: make(chan error, 1)}
	srv.Handler = h
	srv.Log = quiet
	ln, err := w.net.Listen("server:1935")
	require.NoError(t, err)
	go func() { w.end <- srv.Serve(ln) }()
	t.Cleanup(func() {
		_ = srv.Close()
		_ = w.net.Close()
		require.ErrorIs(t, <-w.end, ErrServerClosed)
	})
	return w
}

// dial connects a client to the application and stream of a URL.
func (w *world) dial(url string) *Client {
	w.t.Helper()
	d := Dialer{DialContext: w.net.Dial}
	c, err := d.Dial(w.t.Context(), url)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// A peer speaks raw RTMP.
type peer struct {
	t  testing.TB
	nc net.Conn
	rd reader
}

// raw connects without shaking hands.
func (w *world) raw() net.Conn {
	w.t.Helper()
	nc, err := w.net.Dial(w.t.Context(), "tcp", "server:1935")
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = nc.Close() })
	return nc
}

func (w *world) peer() *peer {
	w.t.Helper()
	return w.shake(w.raw())
}

// shake shakes hands over nc.
func (w *world) shake(nc net.Conn) *peer {
	w.t.Helper()
	p := &peer{t: w.t, nc: nc}
	require.NoError(w.t, clientHandshake(p.nc, true))
	p.rd.init(p.nc, commandBuffer)
	p.rd.expectMedia()
	return p
}

// connected is a peer whose connect command was answered.
func (w *world) connected(properties ...amf.Property) *peer {
	w.t.Helper()
	p := w.peer()
	p.connect(properties...)
	return p
}

func (p *peer) connect(properties ...amf.Property) {
	p.t.Helper()
	if properties == nil {
		properties = amf.Object{{Name: "app", Value: "live"}}
	}
	p.send(0, "connect", 1, amf.Object(properties))
	require.Equal(p.t, "_result", p.command().name)
}

// write sends whole messages; send one command, in chunks of 128 bytes.
func (p *peer) write(b []byte) {
	p.t.Helper()
	_, err := p.nc.Write(b)
	require.NoError(p.t, err)
}

func (p *peer) send(stream uint32, values ...any) {
	p.t.Helper()
	body, err := amf.Append(nil, values...)
	require.NoError(p.t, err)
	p.write(appendChunks(nil, defaultChunkSize, csidCommand, typeCommandAMF0, 0, stream, body, nil))
}

func (p *peer) message() message {
	p.t.Helper()
	m, err := p.rd.next()
	require.NoError(p.t, err)
	return m
}

// command returns the next command, and skips other messages.
func (p *peer) command() command {
	p.t.Helper()
	for {
		m := p.message()
		if m.typ == typeCommandAMF0 {
			cmd, err := parseCommand(m)
			require.NoError(p.t, err)
			return cmd
		}
	}
}

// status expects an onStatus with that code and returns its object.
func (p *peer) status(code string) amf.Object {
	p.t.Helper()
	cmd := p.command()
	require.Equal(p.t, "onStatus", cmd.name)
	require.Equal(p.t, code, cmd.info().String("code"))
	return cmd.info()
}

// closed expects nothing but the end, and returns after how long it came.
func (p *peer) closed() time.Duration {
	p.t.Helper()
	at := time.Now()
	_, err := p.rd.next()
	require.ErrorIs(p.t, err, io.EOF)
	return time.Since(at)
}

// frames collects what a stream's next n frames are.
func (w *world) subscribe(name string) *stream.Subscriber {
	w.t.Helper()
	s, err := w.h.hub.Subscribe(w.t.Context(), name, nil)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

// A record is a sink that keeps everything.
type record struct {
	mu       sync.Mutex
	tracks   []*stream.Track
	metadata stream.Metadata
	frames   []*stream.Frame
}

func (r *record) SetTracks(tracks ...*stream.Track) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tracks = tracks
	return nil
}

func (r *record) SetMetadata(m stream.Metadata) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.metadata = m
}

func (r *record) Write(f *stream.Frame) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, f)
	return nil
}
