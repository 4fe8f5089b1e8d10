package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/rtmp"
	"github.com/runnel-media/runnel/stream"
)

// rtmpTransport is the Transport of rtmp and rtmps URLs. Hops go with the
// tcUrl.
type rtmpTransport struct{ *Relay }

func (t rtmpTransport) dial(ctx context.Context, url string, o *Options) (*rtmp.Client, error) {
	d := rtmp.Dialer{DialContext: t.dialer(), TLS: t.TLS, Timeout: t.timeout(), IdleTimeout: t.idleTimeout(), Query: o.Hops}
	c, err := d.Dial(ctx, url)
	return c, saidByRTMP(err)
}

// Pull implements Transport.
func (t rtmpTransport) Pull(ctx context.Context, url string, w *Writer, o *Options) error {
	c, err := t.dial(ctx, url, o)
	if err != nil {
		return err
	}
	defer c.Close()
	return saidByRTMP(c.Play(ctx, w))
}

// Push implements Transport.
func (t rtmpTransport) Push(ctx context.Context, url string, sub *stream.Subscriber, o *Options) error {
	c, err := t.dial(ctx, url, o)
	if err != nil {
		return err
	}
	defer c.Close()
	w, err := c.Publish(ctx)
	if err != nil {
		return saidByRTMP(err)
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-w.Done(): // the server has gone, between two frames perhaps
			cancel()
		case <-ctx.Done():
			// A write that blocks ends with its own deadline.
		}
	}()
	err = copyTo(ctx, sub, rtmpSink{w}, o)
	if gone := w.Err(); gone != nil {
		return saidByRTMP(gone)
	}
	return err
}

// rtmpSink leaves out tracks that RTMP can't carry, unless none is left.
type rtmpSink struct{ *rtmp.Writer }

func (s rtmpSink) SetTracks(tracks ...*stream.Track) error {
	if err := s.Writer.SetTracks(tracks...); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	return nil
}

// errProbed ends a play that was for finding out only.
var errProbed = errors.New("relay: it would play")

// Probe implements Prober.
func (t rtmpTransport) Probe(ctx context.Context, url string, o *Options) error {
	c, err := t.dial(ctx, url, o)
	if err != nil {
		return err
	}
	defer c.Close()
	if err = c.Play(ctx, probeSink{}); err == nil || errors.Is(err, errProbed) {
		return nil
	}
	return saidByRTMP(err)
}

type probeSink struct{}

func (probeSink) SetTracks(...*stream.Track) error { return errProbed }
func (probeSink) SetMetadata(stream.Metadata)      {}
func (probeSink) Write(*stream.Frame) error        { return errProbed }

// saidByRTMP gives the codes of refusals their meaning.
func saidByRTMP(err error) error {
	var said *rtmp.StatusError
	if !errors.As(err, &said) {
		return err
	}
	switch said.Code {
	case "NetStream.Play.StreamNotFound":
		return fmt.Errorf("%w: %w", stream.ErrNotFound, err)
	case "NetStream.Publish.Denied", "NetStream.Play.Failed", "NetConnection.Connect.Rejected":
		return fmt.Errorf("%w: %w", auth.ErrDenied, err)
	}
	return err
}
