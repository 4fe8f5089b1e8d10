package natsregistry

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-media/runnel/relay"
)

// claimValue is a claim's value in the bucket.
type claimValue struct {
	Server  string `json:"server"`  // ID
	Session string `json:"session"` // of the server's lease
}

func parseClaim(b []byte) (v claimValue, err error) {
	if len(b) > maxValue {
		return v, errTooLarge
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, err
	}
	if v.Server == "" || len(v.Server) > maxID || v.Session == "" || len(v.Session) > maxID {
		return v, errKey
	}
	return v, nil
}

// session returns the session of a server whose lease certainly holds, "" if
// there is none.
func (r *Registry) session(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.mine[id]; l != nil && time.Now().Before(l.until) {
		return l.session
	}
	return ""
}

// Claim implements relay.Registry. The server must have been announced by this
// Registry. It takes one question to NATS for a name that nobody has, and about
// 2 s if the one who has it is not to be found.
func (r *Registry) Claim(ctx context.Context, server, stream string) error {
	return persist(ctx, func(ctx context.Context) error { return r.claim(ctx, server, stream) })
}

func (r *Registry) claim(ctx context.Context, server, stream string) error {
	if stream == "" || len(stream) > maxStream {
		return errKey
	}
	session := r.session(server)
	if session == "" {
		return relay.ErrUnknown
	}
	kv, err := r.open(ctx)
	if err != nil {
		return err
	}
	key := encodeKey(claimPrefix, stream)
	value, err := json.Marshal(claimValue{server, session})
	if err != nil {
		return err
	}
	for range maxTries {
		_, err := kv.Create(ctx, key, value)
		if !errors.Is(err, jetstream.ErrKeyExists) && !mismatch(err) {
			return r.failed(err)
		}
		e, err := kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue // it has been released
		}
		if err != nil {
			return r.failed(err)
		}
		have, err := parseClaim(e.Value())
		if err == nil && have.Server == server && have.Session == session {
			return nil
		}
		if err == nil && have.Server != server { // else by nobody, or us in another life
			holds, err := r.holds(ctx, kv, have)
			if err != nil {
				return err
			}
			if holds {
				return relay.ErrClaimed
			}
		}
		if _, err = kv.Update(ctx, key, value, e.Revision()); !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return r.failed(err)
		}
	}
	return errContest
}

// holds reports whether a claim's server is there.
func (r *Registry) holds(ctx context.Context, kv jetstream.KeyValue, c claimValue) (bool, error) {
	e, err := kv.Get(ctx, encodeKey(serverPrefix, c.Server))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, r.failed(err)
	}
	if v, _, err := parseLease(e.Value()); err != nil || v.Session != c.Session {
		return false, nil
	}
	there, err := r.listening(ctx, c.Server, c.Session)
	return there, r.failed(err)
}

// Release implements relay.Registry.
func (r *Registry) Release(ctx context.Context, server, stream string) error {
	return persist(ctx, func(ctx context.Context) error { return r.release(ctx, server, stream) })
}

func (r *Registry) release(ctx context.Context, server, stream string) error {
	if stream == "" || len(stream) > maxStream {
		return errKey
	}
	kv, err := r.open(ctx)
	if err != nil {
		return err
	}
	key := encodeKey(claimPrefix, stream)
	e, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return r.failed(err)
	}
	if have, err := parseClaim(e.Value()); err == nil && have.Server != server {
		return nil
	}
	err = kv.Purge(ctx, key, jetstream.LastRevision(e.Revision()), jetstream.PurgeTTL(markerLife))
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return nil // somebody else has it now
	}
	return r.failed(err)
}
