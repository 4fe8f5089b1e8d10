package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// logLevels are SRS's. Its trace is what happens to each client.
var logLevels = map[string]slog.Level{
	"verbose": slog.LevelDebug, "info": slog.LevelDebug, "debug": slog.LevelDebug, "trace": slog.LevelInfo,
	"warn": slog.LevelWarn, "error": slog.LevelError,
}

// A logFile is a file that can be opened anew, when another program has moved it
// away.
type logFile struct {
	name string

	mu   sync.Mutex
	file *os.File
}

// openLog returns where the log goes. Without a file that is stdout.
func openLog(s logSettings, stdout io.Writer) (*slog.Logger, *logFile, error) {
	level, ok := logLevels[s.level]
	if !ok {
		level = slog.LevelInfo
	}
	f := &logFile{name: s.file}
	if f.name == "" {
		return slog.New(slog.NewTextHandler(stdout, &slog.HandlerOptions{Level: level})), f, nil
	}
	if err := f.reopen(); err != nil {
		return nil, nil, err
	}
	return slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: level})), f, nil
}

func (f *logFile) reopen() error {
	if f.name == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(f.name), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(f.name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		_ = f.file.Close()
	}
	f.file = file
	return nil
}

func (f *logFile) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Write(b)
}

func (f *logFile) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		_ = f.file.Close()
	}
}
