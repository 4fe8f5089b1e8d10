package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/relay/natsregistry"
	"github.com/runnel-media/runnel/stream"
)

// serve runs server i until ctx ends. It calls left when the server has left the
// registry then, and keeps its NATS node for the others until that returns.
func (o *options) serve(ctx context.Context, i int, log *slog.Logger, left func()) error {
	conn, closeNode, err := o.registry(i, log)
	if err != nil {
		return err
	}
	defer closeNode()
	defer conn.Close()

	// The hub's grace keeps viewers while a publisher changes servers.
	hub := &stream.Hub{Log: log, Grace: 10 * time.Second}
	defer hub.Close()
	r := &relay.Relay{
		Hub: hub, Log: log, ID: names[i],
		Registry:  &natsregistry.Registry{Conn: conn},
		Advertise: "runnel://" + address(o.http, i),
		Edge:      i >= origins,
		Public:    map[string]string{"rtmp": "rtmp://" + address(o.rtmp, i), "http": "http://" + address(o.http, i)},
		Auth:      auth.AllowAll, // see docs/cluster.md before others can reach it
	}
	defer r.Close()
	hub.Source = r // what is not here comes from the server that has it
	guard := r.Guard(auth.AllowAll)
	in := &ingest.Server{Hub: hub, Auth: guard, Log: log}
	out := &deliver.Server{Hub: hub, Auth: guard, Log: log, Wait: 6 * time.Second}

	running, leave := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{}, 2)
	go func() { _ = r.Run(running); done <- struct{}{} }()
	go func() { _ = out.Run(running); done <- struct{}{} }()
	defer func() {
		leave()
		<-done
		<-done
		if ctx.Err() != nil {
			left()
		}
	}()

	mux := http.NewServeMux()
	mux.Handle(relay.PathPrefix, r)
	mux.Handle("/", out)
	mux.HandleFunc("GET /cluster", func(w http.ResponseWriter, _ *http.Request) { table(w, r) })
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	rtmp, err := net.Listen("tcp", address(o.rtmp, i))
	if err != nil {
		return err
	}
	defer rtmp.Close()
	plain, err := net.Listen("tcp", address(o.http, i))
	if err != nil {
		return err
	}
	defer plain.Close()
	failed := make(chan error, 2)
	go func() { failed <- in.ServeRTMP(rtmp, out) }()
	go func() { failed <- web.Serve(plain) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	leave()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err = errors.Join(err, ignore(in.Shutdown(drain)), ignore(out.Shutdown(drain)))
	_ = web.Shutdown(drain) // players are no error
	_ = web.Close()
	return err
}

// ignore forgives that peers did not leave in time.
func ignore(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// registry connects to NATS: origins to a node of their own, edges to those.
func (o *options) registry(i int, log *slog.Logger) (*nats.Conn, func(), error) {
	var urls, peers []string
	for n := range origins {
		urls = append(urls, "nats://"+address(o.nats, n))
		if n != i {
			peers = append(peers, address(o.peers, n))
		}
	}
	if i >= origins {
		conn, err := natsregistry.Connect(strings.Join(urls, ","))
		return conn, func() {}, err
	}
	node := &natsregistry.Embedded{
		Name: names[i], Dir: filepath.Join(o.dir, names[i]), Log: log,
		Listen: address(o.nats, i), Peers: address(o.peers, i), Routes: peers,
	}
	if err := node.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() {
		if err := node.Close(); err != nil {
			log.Warn("closing the NATS node", "err", err)
		}
	}
	conn, err := node.Connect()
	if err != nil {
		stop()
		return nil, nil, err
	}
	return conn, stop, nil
}

// table says who is in the cluster, and who has what.
func table(w http.ResponseWriter, r *relay.Relay) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	for _, m := range r.Members() {
		fmt.Fprintf(w, "%-8s %s %s\n", m.ID, m.URL, strings.Join(r.Owned(m.ID), " "))
	}
}
