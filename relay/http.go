package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
)

// What the relay protocol has in HTTP's headers.
const (
	// PathPrefix is where ServeHTTP is to be mounted: no stream's name begins so.
	PathPrefix = "/_relay/"

	headerEpoch = "Runnel-Epoch" // of a response: names the timeline
	headerPath  = "Runnel-Path"  // of a response: the servers that the stream came through
)

// httpTransport is the Transport of http and https URLs, HTTP-FLV, and with
// exact that of runnel and runnels ones. Hops go with the query.
type httpTransport struct {
	relay *Relay
	exact bool
}

// address returns the URL to ask.
func (t httpTransport) address(raw string, o *Options) (string, error) {
	raw = addQuery(raw, o.Hops)
	if !t.exact {
		return raw, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", errors.New("relay: malformed URL") // its text may hold a secret
	}
	u.Scheme = strings.Replace(strings.ToLower(u.Scheme), "runnel", "http", 1)
	u.RawPath = PathPrefix + strings.TrimPrefix(u.EscapedPath(), "/") + ".flv"
	u.Path = PathPrefix + strings.TrimPrefix(u.Path, "/") + ".flv"
	return u.String(), nil
}

// get asks for a stream. The caller closes the body, and ends ctx.
func (t httpTransport) get(ctx context.Context, raw string, o *Options) (*http.Response, error) {
	to, err := t.address(raw, o)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return nil, errors.New("relay: malformed URL")
	}
	return t.do(req)
}

func (t httpTransport) do(req *http.Request) (*http.Response, error) {
	resp, err := t.relay.httpClient.Do(req)
	if err != nil {
		if cause := context.Cause(req.Context()); cause != nil {
			return nil, cause
		}
		var with *url.Error
		if errors.As(err, &with) {
			err = with.Err // the text of the other has the query
		}
		return nil, err
	}
	if err := saidByHTTP(resp.StatusCode); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

func saidByHTTP(status int) error {
	switch {
	case status/100 == 2:
		return nil
	case status == http.StatusNotFound:
		return fmt.Errorf("relay: the server says %d: %w", status, stream.ErrNotFound)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("relay: the server says %d: %w", status, auth.ErrDenied)
	}
	return fmt.Errorf("relay: the server says %d", status)
}

// Pull implements Transport.
func (t httpTransport) Pull(ctx context.Context, raw string, w *Writer, o *Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := t.get(ctx, raw, o)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	d := &flv.Demuxer{Sink: w}
	if t.exact {
		if err := w.came(resp.Header.Get(headerPath)); err != nil {
			return err
		}
		if epoch := resp.Header.Get(headerEpoch); epoch != "" && len(epoch) <= 64 {
			w.KeepTime(epoch)
		}
		d.Sink = &marked{Sink: w}
	}
	err = (&flv.Reader{R: resp.Body, Demuxer: d}).ReadAll()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if errors.Is(err, stream.ErrUnsupported) && w.media {
		return nil // of one track among others
	}
	return err
}

// came notes the servers that the stream came through.
func (w *Writer) came(path string) error {
	hops, err := splitHops(path)
	if err != nil {
		return err
	}
	for _, id := range hops {
		if id == w.pull.relay.id {
			return ErrLoop
		}
	}
	j := w.pull.job
	j.mu.Lock()
	defer j.mu.Unlock()
	j.path = hops
	return nil
}

// Probe implements Prober.
func (t httpTransport) Probe(ctx context.Context, raw string, o *Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := t.get(ctx, raw, o)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

// Push implements Transport.
func (t httpTransport) Push(ctx context.Context, raw string, sub *stream.Subscriber, o *Options) error {
	to, err := t.address(raw, o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, feed := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, body)
	if err != nil {
		return errors.New("relay: malformed URL")
	}
	req.Header.Set("Content-Type", "video/x-flv")
	if t.exact {
		req.Header.Set(headerEpoch, epochOf(sub.Stream()))
	}
	fed := make(chan error, 1)
	go func() {
		err := copyTo(ctx, sub, &flvSink{w: &stalling{w: feed, limit: t.relay.timeout(), end: cancel}, marks: t.exact}, o)
		_ = feed.CloseWithError(err)
		fed <- err
	}()
	resp, err := t.do(req)
	if err == nil {
		// An answer before the body's end ends it too.
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10))
		_ = resp.Body.Close()
	}
	_ = body.CloseWithError(errAnswered)
	cancel()
	switch fault := <-fed; {
	case err != nil:
		return err
	case errors.Is(fault, context.Canceled):
		return errAnswered
	default:
		return fault
	}
}

var errAnswered = errors.New("relay: the server has ended the request")

// stalling ends a push whose server takes nothing any more.
type stalling struct {
	w     io.Writer
	limit time.Duration
	end   context.CancelFunc
}

func (s *stalling) Write(b []byte) (int, error) {
	t := time.AfterFunc(s.limit, s.end)
	defer t.Stop()
	return s.w.Write(b)
}

// epochOf names a stream's timeline: another stream of the same name has
// another.
func epochOf(s *stream.Stream) string {
	return fmt.Sprintf("%x", s.Started().UnixNano())
}
