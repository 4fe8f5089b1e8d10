package redisauth_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/redisauth"
)

func TestOpen(t *testing.T) {
	for dsn, hosts := range map[string][]string{
		"redis://db.example.org":               {"db.example.org:6379"},
		"rediss://u:pw@[2001:db8::1]:6000/2":   {"[2001:db8::1]:6000"},
		"ip=192.0.2.1 dbname=2 password=pw":    {"192.0.2.1:6379"},
		"host=h port=1 db=3 connect_timeout=9": {"h:1"},
		"unix:///run/redis.sock":               nil,
	} {
		db, err := redisauth.Open(dsn)
		require.NoError(t, err, dsn)
		require.Equal(t, hosts, db.Hosts, dsn)
		require.NoError(t, db.Close())
	}
	for _, dsn := range []string{"redis://u:hunter2@host:port/2", "redis://u:hunter2@host/x", "http://u:hunter2@host/", "ip=h password=hunter2 dbname=x",
		"ip=h password=hunter2 dbname=-1", "ip=h hunter2", "hunter2\x7f://"} {
		_, err := redisauth.Open(dsn)
		require.Error(t, err, dsn)
		require.NotContains(t, err.Error(), "hunter2", dsn)
	}
}

func ExampleOpen() {
	db, err := redisauth.Open("ip=192.0.2.1 dbname=2 password=turn port=6379 connect_timeout=30")
	if err != nil {
		panic(err)
	}
	defer db.Close()
	fmt.Println(db.Hosts)
	// Output: [192.0.2.1:6379]
}
