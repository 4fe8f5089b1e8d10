package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/prom"
	"github.com/runnel-media/runnel/api/turnapi"
)

// control serves -metrics and -admin, and follows the sessions for -statsdb.
func (s *server) control() error {
	if s.options.metrics != "" {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", (&prom.TURN{Server: s.turn, Coturn: s.options.coturnMetrics}).Handler())
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
		if err := s.http("-metrics", s.options.metrics, mux); err != nil {
			return err
		}
	}
	if s.options.admin != "" {
		tokens, err := s.options.admins()
		if err != nil {
			return err
		}
		// An address of its own, plain: whoever serves it beyond this machine
		// has put something before it, or knows the network.
		gate := &access.Gate{Auth: tokens, Insecure: true, Log: s.log.Logger}
		if err := s.http("-admin", s.options.admin, &turnapi.Handler{
			Server: s.turn,
			Gate:   gate,
			Users:  &s.who.users,
			Drain:  func() { s.drain() },
			ReloadCertificates: func() error {
				if s.options.cert == "" {
					return errors.New("there is no -cert")
				}
				return s.certs.load()
			},
		}); err != nil {
			return err
		}
	}
	return s.statistics()
}

// http serves a handler at an address of its own.
func (s *server) http(what, address string, h http.Handler) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	web := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	s.closers = append(s.closers, web)
	s.serve(what, func() error {
		if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// drain refuses new sessions; the process ends with the last one.
func (s *server) drain() {
	s.draining.Do(func() {
		s.log.Info("draining: it ends with the last session")
		go func() {
			_ = s.turn.Shutdown(context.Background()) // it has no end but the last session's
			close(s.drained)
		}()
	})
}
