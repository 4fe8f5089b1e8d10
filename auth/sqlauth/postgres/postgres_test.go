package postgres_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/sqlauth/postgres"
)

func TestOpen(t *testing.T) {
	for dsn, hosts := range map[string][]string{
		"postgres://turn:pw@db.example.org/turn":                          {"db.example.org:5432"},
		"postgres://turn:pw@[2001:db8::1]:6000/turn?sslmode=disable":      {"[2001:db8::1]:6000"},
		"host=db.example.org dbname=turn user=turn password=pw port=6000": {"db.example.org:6000"},
		"postgres://turn@a:1,b:2/turn?sslmode=disable":                    {"a:1", "b:2"},
		"host=/run/postgresql dbname=turn user=turn":                      nil,
	} {
		db, err := postgres.Open(dsn)
		require.NoError(t, err, dsn)
		require.Equal(t, hosts, db.Hosts, dsn)
		require.NoError(t, db.Close())
	}
	for _, dsn := range []string{"postgres://turn:hunter2@host:port/turn", "postgres://turn:hunter2@host/turn?sslmode=maybe",
		"host=h password=hunter2 port=x", "postgres://turn:hunter2@ho st/", "password=hunter2 hunter2"} {
		_, err := postgres.Open(dsn)
		require.Error(t, err, dsn)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func ExampleOpen() {
	db, err := postgres.Open("postgres://turn:secret@db.example.org/coturn?sslmode=verify-full")
	if err != nil {
		panic(err)
	}
	defer db.Close()
	fmt.Println(db.Hosts)
	// Output: [db.example.org:5432]
}
