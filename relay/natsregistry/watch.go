package natsregistry

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-media/runnel/relay"
)

var (
	errSilent = errors.New("natsregistry: NATS says nothing of servers that ought to be renewed")
	errEnded  = errors.New("natsregistry: the watch has ended")
)

// Watch implements relay.Registry. A short loss of the connection to NATS is
// made up for; after a long one, and where NATS has no majority, it yields an
// error. While it runs, the live server with the least ID, if that was
// announced by this Registry, removes claims that have been void for a minute.
func (r *Registry) Watch(ctx context.Context) iter.Seq2[relay.Change, error] {
	return func(yield func(relay.Change, error) bool) {
		if err := r.watch(ctx, func(c relay.Change) bool { return yield(c, nil) }); err != nil {
			yield(relay.Change{}, err)
		}
	}
}

// heartbeat is how often NATS says that there is nothing to say. After two that
// are missing a subscription is made anew, where it was.
const heartbeat = 500 * time.Millisecond

// A feed is what NATS says of the bucket's keys.
type feed struct {
	entries chan entry
	sub     *nats.Subscription
	ended   chan struct{} // closed by NATS
	stopped chan struct{}
	initial uint64 // how many entries were there
}

// listen begins with what is in the bucket.
func (r *Registry) listen() (*feed, error) {
	// The older API makes its subscriptions anew within seconds; jetstream's
	// waits longer each time.
	js, err := r.Conn.JetStream(nats.MaxWait(2 * time.Second))
	if err != nil {
		return nil, err
	}
	f := &feed{entries: make(chan entry, 256), ended: make(chan struct{}), stopped: make(chan struct{})}
	prefix := "$KV." + r.name() + "."
	f.sub, err = js.Subscribe(prefix+">", func(m *nats.Msg) {
		about, err := m.Metadata()
		if err != nil {
			return
		}
		e := entry{
			key: strings.TrimPrefix(m.Subject, prefix), value: m.Data, revision: about.Sequence.Stream,
			last: about.NumPending == 0,
			gone: m.Header.Get("KV-Operation") != "" || m.Header.Get(jetstream.MarkerReasonHeader) != "",
		}
		select {
		case f.entries <- e:
		case <-f.stopped:
		}
	}, nats.BindStream("KV_"+r.name()), nats.OrderedConsumer(), nats.DeliverLastPerSubject(), nats.IdleHeartbeat(heartbeat))
	if err != nil {
		return nil, err
	}
	f.sub.SetClosedHandler(func(string) { close(f.ended) })
	if f.initial, err = f.sub.InitialConsumerPending(); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *feed) stop() {
	close(f.stopped)
	_ = f.sub.Unsubscribe()
	<-f.ended
}

// watch returns nil if yield did not want more.
func (r *Registry) watch(ctx context.Context, yield func(relay.Change) bool) error {
	var kv jetstream.KeyValue
	var f *feed
	err := persist(ctx, func(ctx context.Context) (err error) {
		if kv, err = r.open(ctx); err == nil {
			f, err = r.listen()
		}
		return r.failed(err)
	})
	if err != nil {
		return err
	}
	defer f.stop()
	v := newView()
	sweep := sweeper{registry: r, kv: kv}
	defer sweep.stop()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	// Every server renews its lease three times in its length, so that a watch
	// of servers has something to tell all the time.
	patience := r.TTL() * 3 / 2
	silence := time.NewTimer(patience)
	defer silence.Stop()
	all := func(changes []relay.Change) bool {
		for _, c := range changes {
			if !yield(c) {
				return false
			}
		}
		return true
	}
	warm := false
	for received := uint64(0); ; {
		if !warm && received >= f.initial {
			warm = true
			if !all(append(v.all(), relay.Change{})) {
				return nil
			}
		}
		select {
		case e := <-f.entries:
			if received++; e.last {
				received = max(received, f.initial) // some went meanwhile
			}
			silence.Reset(patience)
			changes, err := v.apply(e)
			if err != nil {
				return err
			}
			if warm && !all(changes) {
				return nil
			}
		case <-silence.C:
			if !warm || len(v.servers) > 0 || r.announces() {
				return r.failed(errSilent)
			}
			silence.Reset(patience)
		case <-tick.C:
			if warm {
				sweep.next(ctx, v)
			}
		case <-f.ended:
			return errEnded
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// announces reports whether a server has been announced here.
func (r *Registry) announces() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mine) > 0
}

const (
	sweepEvery = time.Minute
	maxSwept   = 20_000 // at a time
)

// A sweeper removes claims that nobody holds.
type sweeper struct {
	registry *Registry
	kv       jetstream.KeyValue

	void   map[string]uint64 // revisions by stream, at the last look
	cancel context.CancelFunc
	done   chan struct{}
}

// next removes what has been void since the last call, if that is for this
// Registry to do.
func (s *sweeper) next(ctx context.Context, v *view) {
	if s.done != nil {
		select {
		case <-s.done:
		default:
			return // there is much to do
		}
	}
	if first, ok := v.first(); !ok || s.registry.session(first) == "" {
		s.void = nil
		return
	}
	void := v.void()
	old := make(map[string]uint64)
	for stream, revision := range s.void {
		if void[stream] == revision && len(old) < maxSwept {
			old[stream] = revision
		}
	}
	s.void = void
	if len(old) == 0 {
		return
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		for stream, revision := range old {
			err := s.kv.Purge(ctx, encodeKey(claimPrefix, stream), jetstream.LastRevision(revision), jetstream.PurgeTTL(markerLife))
			if err != nil && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
				return // another time
			}
		}
	}()
}

func (s *sweeper) stop() {
	if s.done != nil {
		s.cancel()
		<-s.done
	}
}
