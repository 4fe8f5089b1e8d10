// Package audit writes down who did what, from where, with which result: calls
// of the control plane, failed authentications, denials by policy, limits that
// were reached. A Trail takes Events without ever waiting and passes them on to
// Sinks, files and syslog, from where a SIEM takes them.
//
//	trail := &audit.Trail{Sinks: []audit.Sink{&audit.Lines{W: file}}, Log: log}
//	go trail.Run(ctx)
//	in := &ingest.Server{Hub: hub, Auth: trail.Authorizer(authorizer)}
//	gate := &access.Gate{Auth: tokens, Trail: trail}
//	limits := &limit.Limiter{Tripped: trail.Tripped}
//
// Events never hold secrets, nor queries, which may.
package audit

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/limit"
)

// Kind is what an Event is about.
type Kind string

// The kinds.
const (
	Call   Kind = "call"   // of the control plane
	Auth   Kind = "auth"   // an authentication that failed
	Policy Kind = "policy" // a denial that no credentials would have changed
	Limit  Kind = "limit"  // a limit that was reached
	Lost   Kind = "lost"   // Count events, for want of room
)

// Results of Events.
const (
	Allowed = "allowed"
	Denied  = "denied"
	Failed  = "failed" // the server could not decide, or do it
)

// An Event is one thing to be remembered. Strings that peers chose are cut to
// 256 bytes.
type Event struct {
	Time     time.Time      `json:"time"` // Record fills it in if zero
	Kind     Kind           `json:"kind"`
	User     string         `json:"user,omitempty"` // of a failed authentication the one that was claimed
	Role     string         `json:"role,omitempty"`
	From     netip.AddrPort `json:"from,omitzero"`
	Action   string         `json:"action,omitempty"` // an auth.Action, or a method of HTTP
	Protocol string         `json:"protocol,omitempty"`
	Target   string         `json:"target,omitempty"` // a stream, or the path of a URL
	Result   string         `json:"result"`
	Status   int            `json:"status,omitempty"` // of HTTP
	Reason   string         `json:"reason,omitempty"`
	Count    int            `json:"count,omitempty"` // of what the Event stands for; 0: one
}

// A Sink is where Events go. One goroutine calls Write, and waits for it: it is
// to return soon after ctx ends.
type Sink interface {
	Write(ctx context.Context, e *Event) error
}

// A Trail takes Events in. All methods may be called from many goroutines at
// once; those that record never block, and do nothing on a nil Trail. Set the
// fields before first use.
type Trail struct {
	Sinks []Sink
	// Log is told of every Event but Calls, which the control plane logs
	// itself, and of Sinks that fail. nil: slog.Default().
	Log *slog.Logger
	// Queue is how many Events may wait for the Sinks; those beyond are lost,
	// which is counted, and an Event too. 0: 4096.
	Queue int

	once  sync.Once
	queue chan *Event
	lost  atomic.Uint64
	total atomic.Uint64
}

const (
	defaultQueue = 4096
	maxText      = 256
	sinkTimeout  = 5 * time.Second
	complainGap  = time.Minute
)

func (t *Trail) init() {
	t.once.Do(func() {
		n := t.Queue
		if n <= 0 {
			n = defaultQueue
		}
		t.queue = make(chan *Event, n)
	})
}

func (t *Trail) log() *slog.Logger {
	if t.Log != nil {
		return t.Log
	}
	return slog.Default()
}

// Record takes an Event in.
func (t *Trail) Record(e Event) {
	if t == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	for _, s := range []*string{&e.User, &e.Role, &e.Action, &e.Protocol, &e.Target, &e.Reason} {
		*s = cut(*s)
	}
	if e.Kind != Call {
		t.log().Warn("audit", "kind", e.Kind, "user", e.User, "from", e.From, "action", e.Action, "protocol", e.Protocol,
			"target", e.Target, "result", e.Result, "reason", e.Reason, "count", max(1, e.Count))
	}
	if len(t.Sinks) == 0 {
		return
	}
	t.init()
	select {
	case t.queue <- &e:
	default:
		t.lost.Add(1)
		t.total.Add(1)
	}
}

// cut bounds what peers may have chosen.
func cut(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// Lost returns how many Events were lost so far.
func (t *Trail) Lost() uint64 {
	if t == nil {
		return 0
	}
	return t.total.Load()
}

// Run passes Events on to the Sinks until ctx ends, and then for a few seconds
// those that are there. It returns ctx's error.
func (t *Trail) Run(ctx context.Context) error {
	t.init()
	var complained time.Time
	write := func(ctx context.Context, e *Event) {
		if n := t.lost.Swap(0); n > 0 {
			complained = t.write(ctx, &Event{Time: time.Now(), Kind: Lost, Result: Failed, Count: int(n)}, complained)
		}
		complained = t.write(ctx, e, complained)
	}
	for {
		select {
		case e := <-t.queue:
			write(ctx, e)
			continue
		case <-ctx.Done():
		}
		break
	}
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), sinkTimeout)
	defer cancel()
	for rest.Err() == nil {
		select {
		case e := <-t.queue:
			write(rest, e)
			continue
		default:
		}
		break
	}
	return ctx.Err()
}

// write hands an Event to each Sink. It complains of those that fail, not all
// the time, and returns when it did last.
func (t *Trail) write(ctx context.Context, e *Event, complained time.Time) time.Time {
	for _, s := range t.Sinks {
		in, cancel := context.WithTimeout(context.WithoutCancel(ctx), sinkTimeout)
		err := s.Write(in, e)
		cancel()
		if err != nil && time.Since(complained) > complainGap {
			complained = time.Now()
			t.log().Error("audit: events are not written", "err", err)
		}
	}
	return complained
}

// Authorizer returns next with its refusals recorded: those without credentials
// too, but for HTTP's first request before the peer is asked for them.
func (t *Trail) Authorizer(next auth.Authorizer) auth.Authorizer {
	return auth.Func(func(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
		g, err := auth.Check(ctx, next, r)
		redirect := (*auth.Redirect)(nil)
		if t == nil || err == nil || errors.As(err, &redirect) || ctx.Err() != nil {
			return g, err
		}
		e := Event{Kind: Auth, User: r.User, From: r.Remote, Action: string(r.Action), Protocol: r.Protocol, Target: r.Stream,
			Result: Denied, Reason: err.Error()}
		if r.Action == auth.Relay {
			e.Target = r.Realm
		}
		switch {
		case !errors.Is(err, auth.ErrDenied):
			e.Result, e.Reason = Failed, "the authorizer failed" // its text is the log's
		case errors.Is(err, auth.ErrPolicy), !r.HasCredentials():
			e.Kind = Policy
		}
		t.Record(e)
		return g, err
	})
}

// Tripped records limits that were reached: it is for limit.Limiter.Tripped.
func (t *Trail) Tripped(trip limit.Trip) {
	t.Record(Event{Kind: Limit, User: trip.User, From: netip.AddrPortFrom(trip.Addr, 0), Target: trip.Stream,
		Result: Denied, Reason: string(trip.Reason), Count: trip.Count})
}
