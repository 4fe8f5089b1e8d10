package relay

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// hopsKey is the query parameter that lists the servers a request has gone
// through, separated by commas, the first one first.
const hopsKey = "runnel-hops"

const (
	maxHops  = 16
	maxHopID = 64
)

var errHops = errors.New("relay: malformed hop list")

// parseHops returns the hop list of a query, nil if it has none.
func parseHops(query string) ([]string, error) {
	if !strings.Contains(query, hopsKey) {
		return nil, nil
	}
	values, _ := url.ParseQuery(query) // what of it is well-formed
	return splitHops(values.Get(hopsKey))
}

func splitHops(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	if len(s) > maxHops*(maxHopID+1) {
		return nil, errHops
	}
	hops := strings.Split(s, ",")
	if len(hops) > maxHops {
		return nil, errHops
	}
	for _, id := range hops {
		if !validID(id) {
			return nil, errHops
		}
	}
	return hops, nil
}

func validID(id string) bool {
	return id != "" && len(id) <= maxHopID && !strings.ContainsFunc(id, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-._", c)
	})
}

// hopQuery returns the query that tells of the hops and then of us.
func (r *Relay) hopQuery(hops []string) string {
	return hopsKey + "=" + strings.Join(append(slices.Clone(hops), r.id), ",")
}

// An asking is what Guard remembers of those who asked for a stream, for the
// Fetch that may follow: hubs don't tell on whose behalf it is.
type asking struct {
	hops        []string
	credentials string // a query
	at          time.Time
}

// memory has the last asking of each stream.
type memory struct {
	mu sync.Mutex
	m  map[string]asking
}

const (
	maxAskings = 4096
	askingLife = time.Minute
	together   = 10 * time.Second // askings within this share their hops: any of them may wait for the Fetch
)

func (m *memory) note(name string, a asking) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.m[name]; ok && a.at.Sub(old.at) < together {
		for _, id := range old.hops {
			if !slices.Contains(a.hops, id) && len(a.hops) < maxHops {
				a.hops = append(a.hops, id)
			}
		}
	} else if !ok && len(m.m) >= maxAskings {
		for k, old := range m.m {
			if a.at.Sub(old.at) > askingLife {
				delete(m.m, k)
			}
		}
		for k := range m.m {
			if len(m.m) < maxAskings {
				break
			}
			delete(m.m, k)
		}
	}
	if m.m == nil {
		m.m = make(map[string]asking)
	}
	m.m[name] = a
}

func (m *memory) of(name string) asking {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m[name]
}

// Guard returns the Authorizer that the servers of an edge are to ask, those of
// ingest, deliver and this Relay: it refuses requests that were here before,
// with ErrLoop, asks next about the others, and notes who asked for what, so
// that Fetch knows the hops and, with Traverse, the credentials. With Traverse
// it asks the origin whether a peer may play, too, unless the stream has its
// publisher here; with a Registry it claims what is to be published, and sends
// to other servers who is not to be served here, see Relay.Redirect.
func (r *Relay) Guard(next auth.Authorizer) auth.Authorizer {
	r.prepare()
	return auth.Func(func(ctx context.Context, q *auth.Request) (*auth.Grant, error) {
		if q.Action != auth.Play && q.Action != auth.Publish {
			return auth.Check(ctx, next, q)
		}
		hops, err := parseHops(q.RawQuery)
		if err != nil {
			return nil, errors.Join(auth.ErrDenied, err)
		}
		if slices.Contains(hops, r.id) {
			return nil, ErrLoop
		}
		grant, err := auth.Check(ctx, next, q)
		first := len(hops) == 0 || q.Action == auth.Publish && !r.isCopy(hops)
		if err == nil && first {
			err = r.place(q)
		}
		if err == nil && q.Action == auth.Publish && first {
			err = r.mayPublish(ctx, q.Stream)
		}
		if err != nil {
			return nil, err
		}
		if q.Action == auth.Publish {
			return grant, nil
		}
		a := asking{hops: slices.Clone(hops), at: time.Now()}
		if r.Traverse {
			a.credentials = credentials(q.RawQuery, q.Token)
			if !r.publishedHere(q.Stream) {
				if err := r.probe(ctx, q.Stream, a); err != nil {
					return nil, err
				}
			}
		}
		r.asked.note(q.Stream, a)
		return grant, nil
	})
}

// credentials returns what of a query goes along to an origin.
func credentials(query, token string) string {
	values, _ := url.ParseQuery(query)
	for _, own := range []string{hopsKey, movedKey, "vhost"} {
		values.Del(own)
	}
	if token != "" && !values.Has("token") {
		values.Set("token", token)
	}
	return values.Encode()
}

// publishedHere reports whether a stream has a publisher that is not one of
// our own pulls.
func (r *Relay) publishedHere(name string) bool {
	s := r.Hub.Stream(name)
	return s != nil && s.Publishing() && r.source(name) == ""
}

// probe asks the origins whether they would play a stream to who asks. That
// none of them has it, or answers, is for Fetch to find out.
func (r *Relay) probe(ctx context.Context, name string, a asking) error {
	o := &Options{Hops: r.hopQuery(a.hops)}
	for _, t := range r.originsOf(name) {
		url, err := r.signed(ctx, name, addQuery(t.url, a.credentials))
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, r.timeout())
		err = follow(url, func(url string) error {
			transport, err := r.transport(url)
			if err != nil {
				return err
			}
			if p, ok := transport.(Prober); ok {
				return p.Probe(ctx, url, o)
			}
			return auth.ErrDenied
		})
		cancel()
		switch {
		case err == nil, errors.Is(err, stream.ErrNotFound):
			r.origins.answered(t.server)
			return nil
		case errors.Is(err, auth.ErrDenied):
			return auth.ErrDenied
		}
		r.origins.failed(t.server)
	}
	return auth.ErrDenied // nobody can vouch for them
}

func (r *Relay) signed(ctx context.Context, name, url string) (string, error) {
	if r.Sign == nil {
		return url, nil
	}
	return r.Sign(ctx, name, url)
}
