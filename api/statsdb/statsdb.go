// Package statsdb writes what TURN sessions do to Redis, under the keys and in
// the form of coturn's redis-statsdb, for what reads them there. For anything
// new, turn.Server's Events and api/turnapi say more.
//
//	turn/realm/REALM/user/USER/allocation/ID/status             key and channel: "new lifetime=600, type=UDP, local=…, remote=…",
//	                                                            "refreshed …"; channel only: "deleted"
//	turn/realm/REALM/user/USER/allocation/ID/traffic            channel: "rcvp=…, rcvb=…, sentp=…, sentb=…", with the client
//	turn/realm/REALM/user/USER/allocation/ID/traffic/peer       the same with peers
//	turn/realm/REALM/user/USER/allocation/ID/total_traffic      at the end; total_traffic/peer too
//
// Without a realm the keys begin with turn/user/. Unlike coturn's, status keys
// expire by themselves a minute after the allocation would have, so that a
// server which was killed leaves none behind.
package statsdb

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runnel-media/runnel/turn"
)

// A Writer writes the statistics of a server. Its fields must not change while
// it runs.
type Writer struct {
	Server *turn.Server
	Client redis.UniversalClient

	// Interval is how often the traffic of live sessions is published. 0: 10
	// seconds.
	Interval time.Duration

	Log *slog.Logger // of writes that failed; nil: nothing is logged
}

// timeout bounds one write. What Redis does not take in time is lost; sessions
// never wait for it.
const timeout = 5 * time.Second

// expireAfter is how long a status outlives its allocation's time.
const expireAfter = time.Minute

// Run follows the server until ctx ends or the server is closed. It returns
// ctx's error, or nil.
func (w *Writer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ticks := make(chan struct{})
	go func() {
		defer close(ticks)
		w.publishTraffic(ctx)
	}()
	for e := range w.Server.Events(ctx) {
		switch e := e.(type) {
		case turn.AllocationCreated:
			w.status(ctx, "new", &e.Session, e.Expires.Sub(e.Time))
		case turn.AllocationRefreshed:
			w.status(ctx, "refreshed", &e.Session, e.Expires.Sub(e.Time))
		case turn.AllocationEnded:
			w.ended(ctx, &e)
		case turn.EventsLost:
			w.failed(fmt.Errorf("statsdb: Redis is too slow: %d events were lost", e.Count))
		}
	}
	err := ctx.Err()
	cancel()
	<-ticks
	return err
}

func (w *Writer) status(ctx context.Context, what string, s *turn.Session, life time.Duration) {
	life = max(life, 0)
	key := keyOf(s) + "/status"
	value := fmt.Sprintf("%s lifetime=%d, type=%s, local=%s, remote=%s", what, int64((life+time.Second/2)/time.Second), types[s.Transport], s.Server, s.Client)
	w.write(ctx, func(ctx context.Context, p redis.Pipeliner) {
		p.Set(ctx, key, value, life+expireAfter)
		p.Publish(ctx, key, value)
	})
}

func (w *Writer) ended(ctx context.Context, e *turn.AllocationEnded) {
	key := keyOf(&e.Session)
	w.write(ctx, func(ctx context.Context, p redis.Pipeliner) {
		p.Del(ctx, key+"/status")
		p.Publish(ctx, key+"/status", "deleted")
		p.Publish(ctx, key+"/total_traffic", traffic(e.Usage.FromClient, e.Usage.ToClient))
		p.Publish(ctx, key+"/total_traffic/peer", traffic(e.Usage.FromPeer, e.Usage.ToPeer))
	})
}

// publishTraffic publishes what sessions have relayed since the last time.
func (w *Writer) publishTraffic(ctx context.Context) {
	tick := time.NewTicker(cmp.Or(max(w.Interval, 0), 10*time.Second))
	defer tick.Stop()
	before := map[uint64]turn.Usage{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := make(map[uint64]turn.Usage, len(before))
		for a := range w.Server.Allocations() {
			i := a.Info()
			u, old := i.Usage, before[i.ID]
			now[i.ID] = u
			if u == old {
				continue
			}
			s := i.Session()
			key := keyOf(&s)
			w.write(ctx, func(ctx context.Context, p redis.Pipeliner) {
				p.Publish(ctx, key+"/traffic", traffic(since(u.FromClient, old.FromClient), since(u.ToClient, old.ToClient)))
				p.Publish(ctx, key+"/traffic/peer", traffic(since(u.FromPeer, old.FromPeer), since(u.ToPeer, old.ToPeer)))
			})
		}
		before = now
	}
}

func (w *Writer) write(ctx context.Context, add func(context.Context, redis.Pipeliner)) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	p := w.Client.Pipeline()
	add(ctx, p)
	if _, err := p.Exec(ctx); err != nil {
		w.failed(fmt.Errorf("statsdb: %w", err))
	}
}

func (w *Writer) failed(err error) {
	if w.Log != nil {
		w.Log.Warn("turn statistics were lost", "err", err)
	}
}

// types are coturn's names of transports.
var types = map[string]string{"udp": "UDP", "tcp": "TCP", "tls": "TLS/TCP", "dtls": "DTLS"}

// keyOf is the beginning of a session's keys.
func keyOf(s *turn.Session) string {
	if s.Realm == "" {
		return fmt.Sprintf("turn/user/%s/allocation/%018d", s.User, s.ID)
	}
	return fmt.Sprintf("turn/realm/%s/user/%s/allocation/%018d", s.Realm, s.User, s.ID)
}

// traffic is what came from somebody and what went to him.
func traffic(from, to turn.Traffic) string {
	return fmt.Sprintf("rcvp=%d, rcvb=%d, sentp=%d, sentb=%d", from.Packets, from.Bytes, to.Packets, to.Bytes)
}

func since(now, before turn.Traffic) turn.Traffic {
	return turn.Traffic{Packets: now.Packets - before.Packets, Bytes: now.Bytes - before.Bytes}
}
