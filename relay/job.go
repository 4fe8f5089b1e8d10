package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// Kind says what a relayed stream does.
type Kind string

// The kinds.
const (
	Pulling  Kind = "pull"  // for good
	Fetching Kind = "fetch" // while somebody watches
	Pushing  Kind = "push"
)

// A Status is a stream on its way between servers.
type Status struct {
	ID       string    `json:"id"`
	Kind     Kind      `json:"kind"`
	Stream   string    `json:"stream"`
	URL      string    `json:"url"`      // without what may be a secret; "" before the first attempt
	Running  bool      `json:"running"`  // media flow, or did at the last look
	Since    time.Time `json:"since"`    // of Running
	Attempts int       `json:"attempts"` // connections made or tried
	Error    string    `json:"error"`    // of the last attempt, "" if there was none
	Bytes    uint64    `json:"bytes"`    // of media, all connections together
	Session  string    `json:"session"`  // in the hub
	Started  time.Time `json:"started"`  // when the relay began
}

// A job is one stream that is relayed.
type job struct {
	relay   *Relay
	id      string
	kind    Kind
	stream  string
	started time.Time
	done    chan struct{} // closed in the end

	mu      sync.Mutex
	outside bool // the source is none of the cluster
	cancel  context.CancelCauseFunc
	session *stream.Session
	path    []string // of a pull: the servers that the source says it went through
	status  Status
}

func (r *Relay) begin(kind Kind, name string) *job {
	r.prepare()
	now := time.Now()
	j := &job{relay: r, id: rand.Text(), kind: kind, stream: name, started: now, done: make(chan struct{})}
	j.status = Status{ID: j.id, Kind: kind, Stream: name, Since: now, Started: now}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.jobs == nil {
		r.jobs = make(map[*job]struct{})
	}
	r.jobs[j] = struct{}{}
	return j
}

// open derives the context that a Kick of the job's session ends, and opens
// the session.
func (j *job) open(ctx context.Context, h *stream.Hub, role stream.Role) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	session := h.OpenSession(stream.SessionInfo{
		ID: j.id, Role: role, Protocol: "relay", Stream: j.stream, User: "relay",
		Remote: netip.AddrPort{}, Labels: map[string]string{"relay": string(j.kind)},
	}, func(err error) {
		if err == nil {
			err = stream.ErrKicked
		}
		cancel(err)
	})
	j.mu.Lock()
	j.cancel, j.session, j.status.Session = cancel, session, session.ID()
	j.mu.Unlock()
	return ctx
}

// end takes the job off the list.
func (j *job) end(err error) {
	j.relay.mu.Lock()
	delete(j.relay.jobs, j)
	j.relay.mu.Unlock()
	j.mu.Lock()
	cancel, session := j.cancel, j.session
	j.mu.Unlock()
	if cancel != nil {
		cancel(err)
	}
	session.Close(err)
	close(j.done)
}

// stop has the job end with err.
func (j *job) stop(err error) {
	j.mu.Lock()
	cancel := j.cancel
	j.mu.Unlock()
	if cancel != nil {
		cancel(err)
	}
}

// fruitless reports whether nothing outside the cluster is lost when the job
// ends.
func (j *job) fruitless() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.outside || !j.status.Running
}

func (j *job) attempt(url string, outside bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.outside = outside
	j.status.URL = redact(url, j.stream)
	j.status.Attempts++
}

// running notes that media flow, or no more, for err.
func (j *job) running(on bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if on != j.status.Running {
		j.status.Running, j.status.Since = on, time.Now()
	}
	if j.status.Error = ""; err != nil {
		j.status.Error = err.Error()
	}
}

// Jobs returns what is being relayed, in no order.
func (r *Relay) Jobs() []Status {
	r.mu.Lock()
	jobs := make([]*job, 0, len(r.jobs))
	for j := range r.jobs {
		jobs = append(jobs, j)
	}
	r.mu.Unlock()
	list := make([]Status, len(jobs))
	for i, j := range jobs {
		j.mu.Lock()
		list[i] = j.status
		list[i].Bytes = j.session.Bytes()
		j.mu.Unlock()
	}
	return list
}

// source returns the kind of the pull that a stream comes from, "" if none.
func (r *Relay) source(name string) Kind {
	r.mu.Lock()
	defer r.mu.Unlock()
	for j := range r.jobs {
		if j.stream == name && j.kind != Pushing {
			return j.kind
		}
	}
	return ""
}

// ended reports whether err is the end of a context, or somebody's will, after
// which nothing is tried again.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, stream.ErrReplaced) || errors.Is(err, stream.ErrKicked) ||
		errors.Is(err, stream.ErrBusy) || errors.Is(err, stream.ErrName) || errors.Is(err, ErrScheme)
}
