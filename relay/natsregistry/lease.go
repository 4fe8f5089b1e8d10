package natsregistry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-media/runnel/relay"
)

// A lease is a server's that was announced here.
type lease struct {
	session string             // names this life of the server
	alive   *nats.Subscription // answers who asks for it

	// guarded by Registry.mu
	revision uint64    // of the key; 0: see there
	until    time.Time // the earliest time at which NATS may have forgotten it
}

// leaseValue is a lease's value in the bucket.
type leaseValue struct {
	Session string          `json:"session"`
	Server  json.RawMessage `json:"server"` // a relay.Server
}

func parseLease(b []byte) (v leaseValue, s relay.Server, err error) {
	if len(b) > maxValue {
		return v, s, errTooLarge
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, s, err
	}
	if v.Session == "" || len(v.Session) > maxID {
		return v, s, errKey
	}
	return v, s, json.Unmarshal(v.Server, &s)
}

// aliveSubject is where a server answers during a session.
func (r *Registry) aliveSubject(id, session string) string {
	return encodeKey(encodeKey("runnel."+r.name()+".alive.", id)+".", session)
}

// Announce implements relay.Registry. It fails if another process announces a
// server of the same ID.
func (r *Registry) Announce(ctx context.Context, s relay.Server) error {
	return persist(ctx, func(ctx context.Context) error { return r.announce(ctx, s) })
}

func (r *Registry) announce(ctx context.Context, s relay.Server) error {
	if s.ID == "" || len(s.ID) > maxID {
		return errKey
	}
	kv, err := r.open(ctx)
	if err != nil {
		return err
	}
	l, err := r.enlist(ctx, s.ID)
	if err != nil {
		return err
	}
	server, err := json.Marshal(s)
	if err != nil {
		return err
	}
	value, err := json.Marshal(leaseValue{l.session, server})
	if err != nil {
		return err
	}
	if len(value) > maxValue {
		return errTooLarge
	}
	r.mu.Lock()
	revision := l.revision
	r.mu.Unlock()
	start := time.Now()
	revision, err = r.renew(ctx, kv, l, s.ID, value, revision)
	if err != nil {
		return r.failed(err)
	}
	r.mu.Lock()
	l.revision, l.until = max(l.revision, revision), start.Add(r.TTL())
	here := r.mine[s.ID] == l
	r.mu.Unlock()
	if !here { // withdrawn meanwhile
		return r.failed(kv.Purge(ctx, encodeKey(serverPrefix, s.ID), jetstream.LastRevision(revision), jetstream.PurgeTTL(markerLife)))
	}
	return nil
}

// enlist returns the lease of a server that is announced here, which begins to
// answer if it is new.
func (r *Registry) enlist(ctx context.Context, id string) (*lease, error) {
	r.enlisting.Lock()
	defer r.enlisting.Unlock()
	r.mu.Lock()
	old := r.mine[id]
	r.mu.Unlock()
	if old != nil && old.alive.IsValid() {
		return old, nil
	}
	l := &lease{session: rand.Text()}
	var err error
	if l.alive, err = r.Conn.Subscribe(r.aliveSubject(id, l.session), func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		return nil, fmt.Errorf("natsregistry: %w", err)
	}
	// Who may not listen would seem dead to others.
	if err := r.listens(ctx, r.aliveSubject(id, l.session)); err != nil {
		_ = l.alive.Unsubscribe()
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mine == nil {
		r.mine = make(map[string]*lease)
	}
	r.mine[id] = l
	return l, nil
}

// listens makes sure that questions at a subject of ours arrive.
func (r *Registry) listens(ctx context.Context, subject string) error {
	if err := r.Conn.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("natsregistry: %w", err)
	}
	if _, err := r.Conn.RequestWithContext(ctx, subject, nil); err != nil {
		return fmt.Errorf("natsregistry: cannot be heard at %s: %w", subject, err)
	}
	return nil
}

// renew writes a lease and returns its revision. revision is what it had, 0 if
// that is not known.
func (r *Registry) renew(ctx context.Context, kv jetstream.KeyValue, l *lease, id string, value []byte, revision uint64) (uint64, error) {
	key := encodeKey(serverPrefix, id)
	for range maxTries {
		var err error
		if revision == 0 {
			revision, err = kv.Create(ctx, key, value, jetstream.KeyTTL(r.TTL()))
			if !errors.Is(err, jetstream.ErrKeyExists) {
				return revision, err
			}
		} else {
			revision, err = r.update(ctx, key, value, revision)
			if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
				return revision, err
			}
		}
		e, err := kv.Get(ctx, key)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound): // it has expired
			revision = 0
			continue
		case err != nil:
			return 0, err
		}
		if v, _, err := parseLease(e.Value()); err == nil && v.Session != l.session {
			if other, err := r.listening(ctx, id, v.Session); err != nil || other {
				return 0, errors.Join(fmt.Errorf("another server %s is announced", id), err)
			}
		}
		revision = e.Revision()
	}
	return 0, errContest
}

// update is jetstream.KeyValue.Update for a key that expires.
func (r *Registry) update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	r.mu.Lock()
	js := r.js
	r.mu.Unlock()
	ack, err := js.Publish(ctx, "$KV."+r.name()+"."+key, value, jetstream.WithExpectLastSequencePerSubject(revision), jetstream.WithMsgTTL(r.TTL()))
	if err != nil {
		if mismatch(err) {
			return 0, jetstream.ErrKeyRevisionMismatch
		}
		return 0, err
	}
	return ack.Sequence, nil
}

// mismatch reports whether NATS refused a write since the key has another
// revision, or is being written by somebody else.
func mismatch(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// How often and how long to ask for a server. NATS says at once that nobody
// listens, which is soon wrong for a server, or a NATS node, that is about to
// connect again: they try once a second.
const (
	askings     = 7
	askingPause = 250 * time.Millisecond
	askingLimit = 500 * time.Millisecond
)

// listening reports whether a session of a server listens. Silence of one that
// NATS still knows counts as yes.
func (r *Registry) listening(ctx context.Context, id, session string) (bool, error) {
	for i := range askings {
		if i > 0 {
			select {
			case <-time.After(askingPause):
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}
		bounded, cancel := context.WithTimeout(ctx, askingLimit)
		_, err := r.Conn.RequestWithContext(bounded, r.aliveSubject(id, session), nil)
		cancel()
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, nats.ErrNoResponders):
		case ctx.Err() != nil:
			return false, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			return true, nil
		default:
			return false, err
		}
	}
	return false, nil
}

// Withdraw implements relay.Registry. The server's claims are void from then
// on; their keys go later.
func (r *Registry) Withdraw(ctx context.Context, id string) error {
	return persist(ctx, func(ctx context.Context) error { return r.withdraw(ctx, id) })
}

func (r *Registry) withdraw(ctx context.Context, id string) error {
	r.mu.Lock()
	if l := r.mine[id]; l != nil {
		delete(r.mine, id)
		_ = l.alive.Unsubscribe()
	}
	r.mu.Unlock()
	kv, err := r.open(ctx)
	if err != nil {
		return err
	}
	key := encodeKey(serverPrefix, id)
	for range maxTries {
		e, err := kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return r.failed(err)
		}
		err = kv.Purge(ctx, key, jetstream.LastRevision(e.Revision()), jetstream.PurgeTTL(markerLife))
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return r.failed(err)
		}
	}
	return errContest
}
