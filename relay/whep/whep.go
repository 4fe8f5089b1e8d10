// Package whep is a transport for relays: it pulls streams from WHEP endpoints and
// pushes them to WHIP endpoints (RFC 9725), from behind a NAT too.
//
//	t := &whep.Transport{}
//	r := &relay.Relay{Hub: hub, Transports: map[string]relay.Transport{"wheps": t, "whips": t}}
//	err := r.Pull(ctx, "live/cam", "wheps://server.example/whep/live/cam?token=…")
//	err = r.Push(ctx, "live/cam", "whips://server.example/whip/live/cam?token=…")
//
// The schemes are whep and whip, for HTTP, and wheps and whips, for HTTPS; register
// the Transport for those that are used. A server in Relay.Origins or
// Relay.Forward without a path has its endpoints at /whep/ and /whip/, as the
// mediaserver does.
//
// What goes over WebRTC is what package deliver/whep says: no B-frames, and sound in
// Opus or G.711; streams in AAC need a rendition of their sound.
package whep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver/whep"
	"github.com/runnel-media/runnel/ingest/whip"
	"github.com/runnel-media/runnel/internal/callback"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
)

// An ICEServer is a STUN or TURN server.
type ICEServer = whep.ICEServer

// A Transport speaks WHEP and WHIP as a client. Its zero value works; its methods may
// be called from many goroutines at once.
type Transport struct {
	Token      string // sent as a bearer token; "": none
	ICEServers []ICEServer
	RelayOnly  bool          // media go by way of TURN servers alone
	Setup      time.Duration // how long it may take to connect; default 8 s
	HTTP       *http.Client  // for signalling; nil: http.DefaultClient
	Log        *slog.Logger  // nil: slog.Default()
}

var errURL = errors.New("relay/whep: malformed URL") // its text may hold a secret

// address returns the endpoint of a URL with a scheme of the kind that is wanted.
func address(raw, hops, want string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "", errURL
	}
	switch u.Scheme {
	case want:
		u.Scheme = "http"
	case want + "s":
		u.Scheme = "https"
	case "whep", "wheps":
		return "", fmt.Errorf("relay/whep: nothing can be pushed by WHEP, which is for players: %w", errors.ErrUnsupported)
	case "whip", "whips":
		return "", fmt.Errorf("relay/whep: nothing can be pulled by WHIP, which is for publishers: %w", errors.ErrUnsupported)
	default:
		return "", errURL
	}
	if hops != "" && u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += hops
	return u.String(), nil
}

func (t *Transport) setup() time.Duration {
	if t.Setup > 0 {
		return t.Setup
	}
	return 8 * time.Second
}

// said gives refusals their meaning.
func said(err error) error {
	var refused *whep.RefusedError
	if !errors.As(err, &refused) {
		return callback.WithoutURL(err)
	}
	switch refused.Status {
	case http.StatusNotFound:
		return fmt.Errorf("relay/whep: the server says %d: %w", refused.Status, stream.ErrNotFound)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("relay/whep: the server says %d: %w", refused.Status, auth.ErrDenied)
	}
	return fmt.Errorf("relay/whep: the server says %d", refused.Status) // its text is a stranger's
}

// Pull implements relay.Transport. Timestamps are repaired as a publisher's. It
// returns nil when the endpoint hangs up.
func (t *Transport) Pull(ctx context.Context, raw string, w *relay.Writer, o *relay.Options) error {
	at, err := address(raw, o.Hops, "whep")
	if err != nil {
		return err
	}
	// The client wants a Publisher: that of a hub of its own, which w's hub gets the
	// frames from.
	hub := &stream.Hub{Log: slog.New(slog.DiscardHandler)}
	defer hub.Close()
	const name = "pulled"
	pub, err := hub.Publish(ctx, name, &stream.PublishOptions{Jitter: stream.JitterOff})
	if err != nil {
		return err
	}
	sub, err := hub.Subscribe(ctx, name, nil)
	if err != nil {
		return err
	}
	defer sub.Close()
	c := &whep.Client{URL: at, Token: t.Token, ICEServers: t.ICEServers, RelayOnly: t.RelayOnly, Setup: t.setup(), HTTP: t.HTTP, Log: t.Log}
	playing, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		err := c.Play(playing, pub)
		_ = pub.Close()
		ended <- err
	}()
	fault := copyTo(ctx, sub, w)
	stop()
	err = <-ended
	switch cause := context.Cause(ctx); {
	case cause != nil:
		return cause
	case fault != nil:
		return fault
	}
	return said(err)
}

// copyTo writes what sub reads to w, until sub's end, for which it returns nil.
func copyTo(ctx context.Context, sub *stream.Subscriber, w *relay.Writer) error {
	var tracks []*stream.Track
	var batch [16]*stream.Frame
	for {
		n, err := sub.Read(ctx, batch[:])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, f := range batch[:n] {
			if !slices.Contains(tracks, f.Track) {
				tracks = slices.Clone(sub.Tracks())
				if i := slices.IndexFunc(tracks, func(t *stream.Track) bool { return t.ID == f.Track.ID }); i >= 0 {
					tracks[i] = f.Track // the stream may be ahead of us
				} else {
					tracks = append(tracks, f.Track)
				}
				if err := w.SetTracks(tracks...); err != nil {
					return err
				}
			}
			own := *f
			if err := w.Write(&own); err != nil {
				return err
			}
		}
		clear(batch[:n])
	}
}

// Push implements relay.Transport, but closes sub.
func (t *Transport) Push(ctx context.Context, raw string, sub *stream.Subscriber, o *relay.Options) error {
	at, err := address(raw, o.Hops, "whip")
	if err != nil {
		return err
	}
	c := &whip.Client{
		URL: at, Token: t.Token, ICEServers: t.ICEServers, RelayOnly: t.RelayOnly, Setup: t.setup(), HTTP: t.HTTP, Log: t.Log, Sent: o.Sent,
	}
	err = c.Publish(ctx, sub)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	if err == nil {
		return nil
	}
	return said(err)
}
