package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"sync"

	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/natsregistry"
	"github.com/runnel-media/runnel/relay/turncluster"
	"github.com/runnel-media/runnel/stream"
)

// clusterOptions are the flags about other servers that share the clients.
type clusterOptions struct {
	nats      string
	name      string
	advertise config.List
	capacity  int
}

func (o *clusterOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.nats, "cluster", "", "NATS, as nats://HOST, with JetStream, where servers know of each other: new clients are sent to the one with the fewest sessions")
	fs.StringVar(&o.name, "cluster-name", "", "which servers are together there (default runnel)")
	fs.Var(&o.advertise, "advertise", "address and port at which clients of the cluster reach this server over UDP and TCP; repeatable")
	fs.IntVar(&o.capacity, "cluster-capacity", 10_000, "sessions that make this server full")
}

func (o *clusterOptions) check(all *options) error {
	switch {
	case o.nats == "" && len(o.advertise) > 0:
		return errors.New("-advertise is for a -cluster")
	case o.nats == "":
		return nil
	case len(o.advertise) == 0:
		return errors.New("-cluster needs -advertise, where clients of others find this server")
	case len(all.alternates) > 0:
		return errors.New("-cluster chooses the alternates: -alternate-server does not go with it")
	case o.capacity < 1:
		return errors.New("-cluster-capacity is 1 or more")
	}
	_, err := o.addresses()
	return err
}

func (o *clusterOptions) addresses() (list []netip.AddrPort, err error) {
	for _, s := range o.advertise {
		at, err := netip.ParseAddrPort(s)
		if err != nil {
			return nil, fmt.Errorf("-advertise: %w", err)
		}
		list = append(list, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	}
	return list, nil
}

// join makes the server one of the cluster until leave is called.
func (o *clusterOptions) join(s *server) (leave func(), err error) {
	if o.nats == "" {
		return func() {}, nil
	}
	conn, err := natsregistry.Connect(o.nats)
	if err != nil {
		return nil, fmt.Errorf("-cluster: %w", err)
	}
	at, _ := o.addresses() // check has seen them
	hub := &stream.Hub{Log: s.log.Logger}
	member := &relay.Relay{
		Hub: hub, Log: s.log.Logger, TURN: at, Load: turncluster.Load(s.turn, o.capacity),
		Registry: &natsregistry.Registry{Conn: conn, Name: o.name},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = member.Run(ctx) })
	running.Go(func() { _ = (&turncluster.Spread{Server: s.turn, Relay: member}).Run(ctx) })
	return func() {
		cancel()
		running.Wait()
		_ = hub.Close()
		conn.Close()
	}, nil
}
