package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// A Transport copies one stream over one connection. Relay connects again,
// chooses among URLs and keeps count. Both methods return ctx's error when that
// ends; an error that wraps auth.ErrDenied or stream.ErrNotFound if that is
// what the server said; an *auth.Redirect if the stream is elsewhere.
type Transport interface {
	// Pull reads the stream at url into w, and returns nil when the server
	// says that it has ended. An error of w's ends it.
	Pull(ctx context.Context, url string, w *Writer, o *Options) error

	// Push sends what sub reads to url, and returns nil at sub's end. It does
	// not close sub.
	Push(ctx context.Context, url string, sub *stream.Subscriber, o *Options) error
}

// A Prober is a Transport that can find out whether a peer may play what is at
// a URL, credentials included, without playing it.
type Prober interface {
	// Probe returns nil if the server would play, and the errors of
	// Transport.Pull.
	Probe(ctx context.Context, url string, o *Options) error
}

// Options are what a Transport tells and is told beside the URL.
type Options struct {
	// Hops goes along as the server's protocol allows, in the form of a query:
	// the servers that the request has gone through, this one included.
	Hops string
	// Sent is called with the number of media bytes that Push has sent.
	Sent func(n int)
}

// transport returns what handles a URL.
func (r *Relay) transport(url string) (Transport, error) {
	r.prepare()
	scheme, _, ok := strings.Cut(url, "://")
	scheme = strings.ToLower(scheme)
	if t := r.Transports[scheme]; ok && t != nil {
		return t, nil
	}
	if t := r.builtin[scheme]; ok && t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrScheme, scheme)
}

// maxRedirects bounds how often a server may send us elsewhere.
const maxRedirects = 4

// follow calls f with url, and where the servers send us from there.
func follow(url string, f func(url string) error) error {
	for range maxRedirects {
		err := f(url)
		var to *auth.Redirect
		if !errors.As(err, &to) {
			return err
		}
		url = to.Location
	}
	return errors.New("relay: too many redirects")
}

// sink is what a Push writes to.
type sink interface {
	SetTracks(tracks ...*stream.Track) error
	SetMetadata(m stream.Metadata)
	Write(f *stream.Frame) error
}

// copyTo writes what sub reads to w, until sub's end, for which it returns nil.
func copyTo(ctx context.Context, sub *stream.Subscriber, w sink, o *Options) error {
	var tracks []*stream.Track
	var batch [64]*stream.Frame
	for {
		n, err := sub.Read(ctx, batch[:])
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		sent := 0
		for i, f := range batch[:n] {
			batch[i] = nil
			if !in(tracks, f.Track) {
				if tracks == nil {
					w.SetMetadata(sub.Metadata())
				}
				tracks = withTrack(sub.Tracks(), f.Track)
				if err := w.SetTracks(tracks...); err != nil {
					return err
				}
			}
			if err := w.Write(f); err != nil {
				return err
			}
			sent += len(f.Data)
		}
		if fl, ok := w.(interface{ Flush() error }); ok {
			if err := fl.Flush(); err != nil {
				return err
			}
		}
		if o.Sent != nil {
			o.Sent(sent)
		}
	}
}

func in(tracks []*stream.Track, t *stream.Track) bool {
	for _, have := range tracks {
		if have == t {
			return true
		}
	}
	return false
}

// withTrack returns the tracks with t in the place of the one with its ID: the
// stream may be ahead of the reader.
func withTrack(tracks []*stream.Track, t *stream.Track) []*stream.Track {
	out := make([]*stream.Track, 0, len(tracks)+1)
	found := false
	for _, have := range tracks {
		if have.ID == t.ID {
			have, found = t, true
		}
		out = append(out, have)
	}
	if !found {
		out = append(out, t)
	}
	return out
}
