package main

import (
	"io"
	"log/slog"
	"os"
	"sync"
)

// A logger logs where -log-file, -log-format and -syslog say, and can begin
// anew while others log.
type logger struct {
	*slog.Logger
	level slog.LevelVar
	out   swapWriter
}

func openLog(o *options) (*logger, error) {
	l := &logger{}
	if err := l.reopen(o); err != nil {
		return nil, err
	}
	h := &slog.HandlerOptions{Level: &l.level}
	if o.logFormat == "json" {
		l.Logger = slog.New(slog.NewJSONHandler(&l.out, h))
	} else {
		l.Logger = slog.New(slog.NewTextHandler(&l.out, h))
	}
	return l, nil
}

// reopen opens the log anew, as after a rotation. After an error the old one
// is in use.
func (l *logger) reopen(o *options) error {
	l.level.Set(o.logLevel)
	var w io.Writer = os.Stderr
	var c io.Closer
	switch {
	case o.syslog:
		s, err := openSyslog()
		if err != nil {
			return err
		}
		w, c = s, s
	case o.logFile != "":
		f, err := os.OpenFile(o.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return err
		}
		w, c = f, f
	}
	l.out.swap(w, c)
	return nil
}

func (l *logger) close() { l.out.swap(io.Discard, nil) }

// A swapWriter writes to what it was last given.
type swapWriter struct {
	mu sync.Mutex
	w  io.Writer
	c  io.Closer // of w; nil: it stays open
}

func (s *swapWriter) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}

func (s *swapWriter) swap(w io.Writer, c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil {
		_ = s.c.Close() // what was logged is written
	}
	s.w, s.c = w, c
}
