package main

import (
	"context"
	"fmt"

	"github.com/runnel-media/runnel/api/statsdb"
	"github.com/runnel-media/runnel/auth/redisauth"
)

// statistics follows the sessions for -statsdb.
func (s *server) statistics() error {
	if s.options.statsdb == "" {
		return nil
	}
	db, err := redisauth.Open(connection(s.options.statsdb))
	if err != nil {
		return fmt.Errorf("-statsdb: %w", err)
	}
	s.closers = append(s.closers, db)
	w := &statsdb.Writer{Server: s.turn, Client: db.Client, Log: s.log.Logger}
	go func() { _ = w.Run(context.Background()) }() // ends with the server
	return nil
}
