// Package natsregistry is a relay.Registry in a NATS JetStream key-value
// bucket, for the servers of a cluster on many machines. The NATS server runs
// inside the process, alone or with those of other processes (Embedded), or is
// an operator's own.
//
//	node := &natsregistry.Embedded{Dir: "cluster"}
//	err := node.Start()
//	conn, err := node.Connect() // or natsregistry.Connect("nats://host")
//	r := &relay.Relay{Hub: hub, Registry: &natsregistry.Registry{Conn: conn}, Advertise: "runnels://host"}
//
// # What is in the bucket
//
// Each server has one lease, a key "s.ID" that NATS removes when it is not
// renewed. Each stream has a key "c.NAME" with the ID of the server that claims
// it and the session of that server's lease: a claim holds as long as there is
// a lease of that session, so that thousands of claims cost one renewal.
// Everything is written by create or by compare-and-set on the key's revision:
// of several that claim a stream at once NATS lets one win, and so it does when
// a claim whose server is gone is taken over.
//
// # When servers and NATS nodes fail
//
// A claim is taken over when its server's lease has ended, or when NATS says for
// 1.5 s that nobody listens in that server's name: a process that was killed
// holds nothing up. The same goes for one whose NATS node has no route to ours: whoever
// publishes there is ended then, as after a partition. Where NATS has no majority nothing can be written: servers
// on that side keep what they have, by relay.Relay's rule, and their
// announcements and claims fail. NATS takes 4 to 9 s to elect another leader
// of the bucket when a node is gone without a word; during that time claims
// wait or fail, for which a lease is longer.
//
// # Permissions
//
// On an operator's NATS the user must be allowed to publish and subscribe to
// "$KV.NAME.>", "$JS.API.>", "_INBOX.>" and "runnel.NAME.>", for the Name of
// the Registry.
package natsregistry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Registry is a relay.Registry in NATS. Set its fields before first use. It
// needs no closing: it runs nothing of its own but an answer to those who ask
// whether its servers are there, until Withdraw or the end of Conn.
type Registry struct {
	// Conn is the connection to NATS, which stays the caller's; Connect and
	// Embedded.Connect make one that fits.
	Conn *nats.Conn

	// Name is the cluster's: servers with the same one are together. It is
	// the bucket's name, of letters, digits, "-" and "_"; default "runnel".
	Name string

	// Lease is how long a server is known after its last announcement, in
	// whole seconds; default 15 s. It should outlast an election in NATS.
	Lease time.Duration

	// Replicas is how many NATS nodes keep the bucket when this server is the
	// one that makes it: 1, 3 or 5. 0: 3 in a NATS cluster, which must have as
	// many nodes then, else 1.
	Replicas int

	enlisting sync.Mutex // one new lease at a time

	mu   sync.Mutex
	kv   jetstream.KeyValue // nil: not yet, or not to be had any more
	js   jetstream.JetStream
	mine map[string]*lease // servers announced here, by ID
}

const (
	defaultName  = "runnel"
	defaultLease = 15 * time.Second

	// markerLife is how long NATS remembers that a key was removed. A Watch
	// that was away longer would not notice; it has ended before.
	markerLife = time.Hour

	limit    = 10 * time.Second // for what the caller's context does not bound
	maxValue = 16 << 10         // bytes of a value
	maxTries = 8                // compare-and-set against others before giving up
)

// Errors of configuration, and of a bucket that is not ours.
var (
	errNoConn   = errors.New("natsregistry: no connection")
	errName     = errors.New("natsregistry: a cluster's name has letters, digits, - and _, 64 at most")
	errBucket   = errors.New("natsregistry: the bucket of that name does not let keys expire")
	errTooLarge = errors.New("natsregistry: too large")
	errContest  = errors.New("natsregistry: others change the same key all the time")
)

func (r *Registry) name() string {
	if r.Name == "" {
		return defaultName
	}
	return r.Name
}

// TTL implements relay.Registry.
func (r *Registry) TTL() time.Duration {
	if r.Lease <= 0 {
		return defaultLease
	}
	return max(r.Lease.Round(time.Second), time.Second) // NATS counts seconds
}

func validName(name string) bool {
	for i := range len(name) {
		if !plain(name[i]) || name[i] == '/' {
			return false
		}
	}
	return name != "" && len(name) <= 64
}

// How long a question to NATS may take before it is asked again, and the pause
// then: without a leader NATS says nothing.
const (
	tryLimit = 4 * time.Second // more than listening takes
	tryPause = 50 * time.Millisecond
)

// persist calls f, which can be repeated, until NATS answers or ctx ends.
func persist(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		bounded, cancel := context.WithTimeout(ctx, tryLimit)
		err := f(bounded)
		cancel()
		if err == nil || ctx.Err() != nil || !passing(err) {
			return err
		}
		select {
		case <-time.After(tryPause):
		case <-ctx.Done():
			return err
		}
	}
}

// passing reports whether an error may be over soon: NATS has no leader, or we
// no connection.
func passing(err error) bool {
	for _, e := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrReconnectBufExceeded, nats.ErrDisconnected,
		jetstream.ErrNoStreamResponse, jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// open returns the bucket, which it makes if there is none.
func (r *Registry) open(ctx context.Context) (jetstream.KeyValue, error) {
	r.mu.Lock()
	kv := r.kv
	r.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	if r.Conn == nil {
		return nil, errNoConn
	}
	name := r.name()
	if !validName(name) {
		return nil, errName
	}
	js, err := jetstream.New(r.Conn)
	if err != nil {
		return nil, err
	}
	kv, err = js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		_, err = js.CreateStream(ctx, r.bucket(name))
		if err == nil || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			kv, err = js.KeyValue(ctx, name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("natsregistry: bucket %s: %w", name, err)
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("natsregistry: bucket %s: %w", name, err)
	}
	if status.LimitMarkerTTL() <= 0 {
		return nil, errBucket
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.js, r.kv = js, kv
	return kv, nil
}

// bucket describes the bucket as jetstream.CreateKeyValue would make it, but
// for one thing: it is read from its leader, since a replica that lags could
// say that a stream is claimed when it is not.
func (r *Registry) bucket(name string) jetstream.StreamConfig {
	replicas := r.Replicas
	if replicas == 0 {
		replicas = 1
		if r.Conn.ConnectedClusterName() != "" {
			replicas = 3
		}
	}
	return jetstream.StreamConfig{
		Name: "KV_" + name, Subjects: []string{"$KV." + name + ".>"}, Description: "servers and streams of a Runnel cluster",
		MaxMsgsPerSubject: 1, MaxMsgs: -1, MaxBytes: -1, MaxConsumers: -1, MaxMsgSize: maxValue,
		Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Replicas: replicas,
		AllowRollup: true, DenyDelete: true, AllowMsgTTL: true, SubjectDeleteMarkerTTL: markerLife,
	}
}

// failed looks at an error of NATS: a bucket that does not answer may be gone,
// and is looked for or made anew next time.
func (r *Registry) failed(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		r.mu.Lock()
		r.kv = nil
		r.mu.Unlock()
	}
	return fmt.Errorf("natsregistry: %w", err)
}
