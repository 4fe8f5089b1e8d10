package hls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
)

// A Transport pulls from HLS servers. Its zero value works; its methods may be
// called from many goroutines at once. It pushes nowhere: HLS is for players.
type Transport struct {
	// MaxBandwidth bounds the variant that is taken, in bits a second. The highest
	// below it is; 0: of all.
	MaxBandwidth int64
	// MaxSegment bounds a segment, in bytes, of which five are held at once for
	// each playlist. Default 32 MiB.
	MaxSegment int64
	// Allow are addresses that playlists may refer to, and servers redirect to,
	// beside public ones and the server that the URL names.
	Allow []netip.Prefix

	TLS     *tls.Config   // of the client; nil: the default
	Timeout time.Duration // for connecting and for an answer to begin; default 5 s

	// DialContext makes connections, to any address: Allow does not count. nil: a
	// net.Dialer does.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

var (
	errURL = errors.New("relay/hls: malformed URL") // its text may hold a secret

	// ErrPush is what Push returns.
	ErrPush = fmt.Errorf("relay/hls: nothing can be pushed by HLS: %w", errors.ErrUnsupported)
)

// Push implements relay.Transport: it returns ErrPush.
func (*Transport) Push(context.Context, string, *stream.Subscriber, *relay.Options) error {
	return ErrPush
}

func (t *Transport) timeout() time.Duration {
	if t.Timeout > 0 {
		return t.Timeout
	}
	return 5 * time.Second
}

func (t *Transport) maxSegment() int64 {
	if t.MaxSegment > 0 {
		return t.MaxSegment
	}
	return 32 << 20
}

// address returns what to fetch for a URL.
func address(raw, hops string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return nil, errURL
	}
	switch strings.ToLower(u.Scheme) {
	case "hls", "http":
		u.Scheme = "http"
	case "hlss", "https":
		u.Scheme = "https"
	default:
		return nil, errURL
	}
	if hops != "" && u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += hops
	u.Fragment = ""
	return u, nil
}

// open fetches the playlist of a URL.
func (t *Transport) open(ctx context.Context, raw string, o *relay.Options) (*client, *playlist, *url.URL, error) {
	u, err := address(raw, o.Hops)
	if err != nil {
		return nil, nil, nil, err
	}
	c := t.newClient(u, t.timeout())
	p, at, err := c.playlist(ctx, u)
	if err != nil {
		c.idle()
		return nil, nil, nil, err
	}
	return c, p, at, nil
}

func (c *client) playlist(ctx context.Context, u *url.URL) (*playlist, *url.URL, error) {
	text, at, err := c.get(ctx, u, 0, 0, maxPlaylist)
	if err != nil {
		return nil, nil, err
	}
	p, err := parse(text)
	return p, at, err
}

// Probe implements relay.Prober.
func (t *Transport) Probe(ctx context.Context, raw string, o *relay.Options) error {
	c, _, _, err := t.open(ctx, raw, o)
	if err == nil {
		c.idle()
	}
	return err
}

// Pull implements relay.Transport. Timestamps are repaired as a publisher's. It
// returns nil at the end of a presentation.
func (t *Transport) Pull(ctx context.Context, raw string, w *relay.Writer, o *relay.Options) error {
	c, p, at, err := t.open(ctx, raw, o)
	if err != nil {
		return err
	}
	defer c.idle()
	var sound *url.URL
	if len(p.variants) > 0 {
		video, audio := p.choose(t.MaxBandwidth)
		if audio != "" {
			if sound, err = resolve(at, audio); err != nil {
				return err
			}
		}
		if at, err = resolve(at, video); err != nil {
			return err
		}
		if p, at, err = c.playlist(ctx, at); err != nil {
			return err
		}
	}
	if p.over() {
		return fmt.Errorf("relay/hls: the stream has ended: %w", stream.ErrNotFound)
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	m := &mixer{w: w}
	m.follow(ctx, &following, &follower{client: c, at: at, limit: t.maxSegment()}, p)
	if sound != nil {
		m.lines[0].only = stream.Video
		m.follow(ctx, &following, &follower{client: c.fork(), at: sound, limit: t.maxSegment()}, nil)
		m.lines[1].only = stream.Audio
	}
	err = m.run(ctx)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
