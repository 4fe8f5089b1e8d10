// Turnserver is a STUN and TURN server that can take the place of coturn:
//
//	turnserver -user alice:secret
//
// Clients come by UDP, TCP, TLS and DTLS. With no credentials at all it refuses
// to start. -config reads an existing turnserver.conf; flags win over it. Every
// flag can be set by the environment too: -min-port by RUNNEL_MIN_PORT.
//
// SIGHUP reads the configuration and the certificates again, and opens the log
// file anew; what can't change while it runs is named in the log. SIGUSR1
// drains: live sessions go on, new ones are refused. SIGUSR2 reads the
// certificates alone. SIGTERM ends it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/runnel-media/runnel/turn"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "turnserver:", err)
		}
		os.Exit(1)
	}
}

// grace is how long SIGTERM lets sessions go on.
const grace = 2 * time.Second

// run serves until ctx ends or the last session after SIGUSR1, and returns nil
// then.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	log, err := openLog(o)
	if err != nil {
		return err
	}
	defer log.close()
	slog.SetDefault(log.Logger)
	for _, d := range o.unknown {
		log.Warn("configuration: not known", "directive", d)
	}
	who, err := o.who()
	if err != nil {
		return err
	}
	defer who.close()
	certs := &certificates{cert: o.cert, key: o.key}
	if err := certs.load(); err != nil {
		return err
	}

	srv := &turn.Server{
		Realm:      o.realm,
		Auth:       who,
		Realms:     who.realms(),
		MD5Only:    who.store != nil,
		ThirdParty: o.thirdParty(),
		Log:        log.Logger,
	}
	if o.nonceSecret != "" {
		srv.NonceSecret = []byte(o.nonceSecret)
	}
	if srv.Relays, err = o.relays(); err != nil {
		return err
	}
	srv.SetPolicy(o.policy(who))
	s := &server{options: o, args: args, turn: srv, who: who, certs: certs, log: log, failed: make(chan error, 16), drained: make(chan struct{})}
	defer s.close()
	if err := s.listen(); err != nil {
		return err
	}
	if err := s.control(); err != nil {
		return err
	}
	leave, err := o.cluster.join(s)
	if err != nil {
		return err
	}
	defer leave()
	fmt.Fprintln(stdout, "Listening on", s.listening)
	return s.wait(ctx)
}

// A server is what runs, with what it was made of.
type server struct {
	options   *options
	args      []string
	turn      *turn.Server
	who       *who
	certs     *certificates
	log       *logger
	listening []string
	closers   []io.Closer
	failed    chan error
	draining  sync.Once
	drained   chan struct{}
}

// wait follows the signals until the server is to end.
func (s *server) wait(ctx context.Context) error {
	signals := make(chan os.Signal, 4)
	if c := controls(); len(c) > 0 { // none would mean all
		signal.Notify(signals, c...)
	}
	defer signal.Stop(signals)
	for {
		select {
		case err := <-s.failed:
			return err
		case <-s.drained:
			return nil
		case <-ctx.Done():
			s.log.Info("ending")
			bound, cancel := context.WithTimeout(context.Background(), grace)
			defer cancel()
			if err := s.turn.Shutdown(bound); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return nil
		case sig := <-signals:
			switch actionOf(sig) {
			case reload:
				if err := s.reload(); err != nil {
					s.log.Error("reload: nothing has changed", "err", err)
				}
			case reloadCertificates:
				s.reloadCertificates()
			case drain:
				s.drain()
			}
		}
	}
}

// reload applies a configuration that was read anew.
func (s *server) reload() error {
	o, err := parse(s.args)
	if err != nil {
		return err
	}
	fixed := s.options.fixed(o)
	o.realm, o.metrics, o.admin = s.options.realm, s.options.metrics, s.options.admin // as they are, whatever the file says
	if err := s.who.update(o); err != nil {
		return err
	}
	if err := s.log.reopen(o); err != nil {
		s.log.Error("log file", "err", err)
	}
	for _, d := range o.unknown {
		s.log.Warn("configuration: not known", "directive", d)
	}
	for _, name := range fixed {
		s.log.Warn("reload: takes a restart", "flag", name)
	}
	s.turn.SetPolicy(o.policy(s.who))
	s.reloadCertificates()
	s.log.Info("configuration reloaded")
	return nil
}

func (s *server) reloadCertificates() {
	if err := s.certs.load(); err != nil {
		s.log.Error("certificates: the old ones stay", "err", err)
		return
	}
	s.log.Info("certificates reloaded")
}

func (s *server) close() {
	for _, c := range s.closers {
		_ = c.Close() // the process ends
	}
	_ = s.turn.Close()
}

// serve runs a server's blocking call; its failure ends the process.
func (s *server) serve(what string, run func() error) {
	go func() {
		if err := run(); err != nil && !errors.Is(err, turn.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.failed <- fmt.Errorf("%s: %w", what, err)
		}
	}()
}
