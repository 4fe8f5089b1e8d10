package turndb

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/passwords"
	"github.com/runnel-media/runnel/auth/redisauth"
	"github.com/runnel-media/runnel/auth/sqlauth"
	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/rtmp"
	"github.com/runnel-media/runnel/stream"
)

// testMedia: users of a database publish over RTMP, those of coturn's tables and
// those with slow hashes of their own.
func testMedia(t *testing.T, s server) {
	dsn, _, _ := s.fresh(t)
	db := open(t, dsn)
	hash, err := passwords.Hash("tea at four")
	require.NoError(t, err)
	var lookup func(context.Context, string) (string, error)
	switch db := db.(type) {
	case *sqlauth.DB:
		require.NoError(t, db.Create(t.Context()))
		execSQL(t, db, "CREATE TABLE media_users (name VARCHAR(127) PRIMARY KEY, hash VARCHAR(127))",
			"INSERT INTO media_users VALUES ('hatter', '"+hash+"')", "INSERT INTO media_users VALUES ('dormouse', NULL)")
		lookup = db.PasswordHash("SELECT hash FROM media_users WHERE name = ?")
	case *redisauth.DB:
		require.NoError(t, db.Client.Set(t.Context(), "media/user/hatter", hash, 0).Err())
		lookup = db.PasswordHash("media/user/")
	}
	require.NoError(t, db.Put(t.Context(), turnauth.UserTable, turnauth.Row{
		Realm: "north.gov", Name: "alice", Value: hex.EncodeToString(turnauth.Key("alice", "north.gov", "wonderland")),
	}))
	own := func(user string) *auth.Rights {
		return &auth.Rights{Patterns: map[auth.Action][]string{auth.Publish: {"live/" + user}}}
	}
	log := slog.New(slog.DiscardHandler)
	hub := &stream.Hub{Log: log}
	defer hub.Close()
	in := &ingest.Server{Hub: hub, Log: log, Auth: &auth.Throttle{Auth: auth.Any(
		&turnauth.Passwords{Store: &turnauth.Cache{Store: db}, Realm: "north.gov", Rights: own},
		&passwords.Authorizer{Hash: lookup, Rights: own},
	)}}
	defer in.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go in.ServeRTMP(ln, nil)
	publish := func(name, user, password string) error {
		q := url.Values{"user": {user}, "password": {password}}
		c, err := (&rtmp.Dialer{}).Dial(t.Context(), "rtmp://"+ln.Addr().String()+"/live/"+name+"?"+q.Encode())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err = c.Publish(t.Context()); err != nil {
			return err
		}
		st := hub.Stream("live/" + name)
		require.NotNil(t, st)
		for session := range hub.Sessions() {
			if session.Info().Stream == st.Name() {
				require.Equal(t, user, session.Info().User)
			}
		}
		return nil
	}
	require.NoError(t, publish("alice", "alice", "wonderland"))
	require.NoError(t, publish("hatter", "hatter", "tea at four"))
	for _, no := range [][3]string{
		{"alice", "alice", "tea at four"}, {"hatter", "alice", "wonderland"}, {"alice", "Alice", "wonderland"}, {"x", "", ""},
		{"dormouse", "dormouse", "x"}, {"x", "' OR '1'='1", "x"}, {"x", "a\x00b", "x"}, {"hatter", "hatter", ""},
	} {
		err := publish(no[0], no[1], no[2])
		var status *rtmp.StatusError
		require.True(t, errors.As(err, &status), "%q: %v", no, err)
	}
	require.Empty(t, hub.Stream("live/x"))
	require.Eventually(t, func() bool {
		n := 0
		for range hub.Sessions() {
			n++
		}
		return n == 0
	}, 20*time.Second, 10*time.Millisecond)
}
