package hooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// An Event is what a service is called for, by SRS's name.
type Event string

// The events.
const (
	OnConnect        Event = "on_connect"
	OnClose          Event = "on_close"
	OnPublish        Event = "on_publish"
	OnUnpublish      Event = "on_unpublish"
	OnPlay           Event = "on_play"
	OnStop           Event = "on_stop"
	OnDVR            Event = "on_dvr"
	OnHLS            Event = "on_hls"
	OnHLSNotify      Event = "on_hls_notify"
	OnForwardBackend Event = "on_forward_backend"
)

// posted are those that a URL for all is called for: the others have URLs, or
// answers, of another kind.
var posted = []Event{OnConnect, OnClose, OnPublish, OnUnpublish, OnPlay, OnStop, OnDVR, OnHLS}

func known(e Event) bool {
	for _, p := range posted {
		if p == e {
			return true
		}
	}
	return e == OnHLSNotify || e == OnForwardBackend
}

// URLs are the services of each event. All of them are called, and all must
// allow.
type URLs map[Event][]string

// Parse reads "EVENT=URL" and "URL", which is for every event but on_hls_notify
// and on_forward_backend.
func Parse(list ...string) (URLs, error) {
	urls := make(URLs)
	for _, s := range list {
		name, target, ok := strings.Cut(s, "=")
		events := []Event{Event(name)}
		if !ok || strings.Contains(name, ":") { // a URL whose query has an equals sign
			events, target = posted, s
		}
		for _, e := range events {
			if err := checkURL(e, target); err != nil {
				return nil, err
			}
			urls[e] = append(urls[e], target)
		}
	}
	return urls, nil
}

// Check says what is wrong with events or URLs. The error does not hold them, as
// URLs may have passwords.
func (u URLs) Check() error {
	for e, list := range u {
		for _, s := range list {
			if err := checkURL(e, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkURL(e Event, s string) error {
	if !known(e) {
		return fmt.Errorf("hooks: no event is called %q", string(e))
	}
	bad := fmt.Errorf("hooks: %s takes a URL, http:// or https://", e)
	if e == OnHLSNotify {
		// Words in the host would let peers choose whom to call.
		if host, _ := cutHost(s); notifyWords.Replace(host) != host {
			return bad
		}
		s = notifyWords.Replace(s)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return bad
	}
	return nil
}

// Callbacks call the services. Set the fields before first use; all methods may be
// called from many goroutines at once.
type Callbacks struct {
	Hub  *stream.Hub
	Auth auth.Authorizer // asked before the services are; nil refuses everybody
	Log  *slog.Logger    // nil: slog.Default()

	URLs   URLs
	VHosts map[string]URLs // in the place of URLs, for the streams of a virtual host

	Key     []byte        // signs requests as webhook.Sign does; nil: they are not signed
	Header  http.Header   // further fields of the requests, such as Authorization
	Timeout time.Duration // of one request, answer included; 0: webhook.DefaultTimeout
	// Client makes the requests, if its proxy or certificates are special. It is not
	// changed, and it does not follow redirects here either.
	Client *http.Client

	// ServerID and ServiceID are in every message; srsapi.Handler has them too.
	ServerID  string
	ServiceID string

	// File returns the path of a file that a recorder, or who packages HLS, has
	// stored of a stream under a name. nil: the name.
	File func(streamName, storageName string) string

	Attempts int           // how often a notification is sent at most; 0: 6
	Backoff  time.Duration // before the second time, at most; twice that each time, up to 30 s. 0: 1 s
	MaxQueue int           // notifications that wait; more are dropped. 0: 10,000
	Drain    time.Duration // for what waits when Run ends; 0: 5 s
	// NotifyBytes is how much of the answer to on_hls_notify is read; 0: 64.
	NotifyBytes int64

	once    sync.Once
	client  *http.Client
	ctx     context.Context // of notifications
	cancel  context.CancelFunc
	queue   queue
	dropped atomic.Uint64
	warned  atomic.Int64 // when that was last logged, Unix ns

	mu         sync.Mutex
	pending    map[string]pending            // sessions that are allowed and not open yet, by ID
	open       map[string]stream.SessionInfo // sessions
	publishers map[string]*publisher         // by stream
}

// A pending session has been allowed.
type pending struct {
	info stream.SessionInfo
	at   time.Time
}

// A publisher is the last one of a stream, who is named in what comes of its
// media, perhaps when it has gone.
type publisher struct {
	info  stream.SessionInfo
	ended time.Time // of the stream; zero: it goes on
}

const (
	maxPending    = 10_000
	pendingTime   = time.Minute
	publisherTime = 10 * time.Minute
	sweepInterval = 5 * time.Second
)

// Dropped returns how many notifications were dropped: there were too many, or
// the service did not take them.
func (c *Callbacks) Dropped() uint64 { return c.dropped.Load() }

// Authorize implements auth.Authorizer: it asks Auth, then on_connect, then
// on_publish or on_play. The grant is Auth's. A session that is open already is
// not asked about again.
func (c *Callbacks) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	grant, err := auth.Check(ctx, c.Auth, r)
	if err != nil {
		return nil, err
	}
	event := OnPlay
	switch r.Action {
	case auth.Play:
	case auth.Publish:
		event = OnPublish
	default:
		return grant, nil
	}
	c.once.Do(c.prepare)
	info := infoOf(r, grant)
	c.mu.Lock()
	_, again := c.open[info.ID]
	c.mu.Unlock()
	if again {
		return grant, nil
	}
	if event == OnPublish {
		c.settle(ctx, info.Stream)
	}
	if err := c.decide(ctx, OnConnect, &info); err != nil {
		return nil, err
	}
	if err := c.decide(ctx, event, &info); err != nil {
		c.tell(OnClose, &info, c.closeMessage(&info, stream.SessionStats{}))
		return nil, err
	}
	c.expect(info)
	return grant, nil
}

func infoOf(r *auth.Request, grant *auth.Grant) stream.SessionInfo {
	role := stream.RolePlay
	if r.Action == auth.Publish {
		role = stream.RolePublish
	}
	return stream.SessionInfo{
		ID: r.Session, Role: role, Protocol: r.Protocol, Stream: r.Stream, User: grant.User, Remote: r.Remote,
		VHost: r.VHost, App: r.App, Name: r.Name, RawQuery: r.RawQuery, TCURL: r.TCURL, PageURL: r.PageURL,
	}
}

// expect remembers that a session may open.
func (c *Callbacks) expect(info stream.SessionInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if info.ID != "" && len(c.pending) < maxPending {
		c.pending[info.ID] = pending{info, time.Now()}
	}
}

// settle waits, no longer than a request takes, until the services know of what
// was before: a stream that is published again has been unpublished.
func (c *Callbacks) settle(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	for _, done := range c.queue.barriers(name) {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}

// decide asks the services of an event in turn.
func (c *Callbacks) decide(ctx context.Context, e Event, info *stream.SessionInfo) error {
	urls := c.urls(info.VHost)[e]
	if len(urls) == 0 {
		return nil
	}
	body := encode(c.message(e, info))
	for _, u := range urls {
		answer, err := c.call(ctx, request{method: http.MethodPost, url: u, body: body, id: newID()})
		if err == nil {
			err = codeOf(answer)
		}
		switch code := (*codeError)(nil); {
		case errors.As(err, &code):
			return fmt.Errorf("%w: %s said %w", auth.ErrDenied, e, err)
		case err != nil:
			return fmt.Errorf("hooks: %s: %w", e, err)
		}
	}
	return nil
}

func (c *Callbacks) urls(vhost string) URLs {
	if u, ok := c.VHosts[vhost]; ok {
		return u
	}
	return c.URLs
}

func (c *Callbacks) timeout() time.Duration { return cmp.Or(c.Timeout, defaultTimeout) }

func (c *Callbacks) log() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	return slog.Default()
}
