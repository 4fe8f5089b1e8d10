package mysql_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/sqlauth/mysql"
)

func TestOpen(t *testing.T) {
	for dsn, hosts := range map[string][]string{
		"mysql://turn:pw@db.example.org/turn":             {"db.example.org:3306"},
		"mariadb://turn@[2001:db8::1]:6000/turn?tls=true": {"[2001:db8::1]:6000"},
		"mysql:///turn": {"127.0.0.1:3306"},
		"host=db.example.org dbname=turn user=turn password=pw port=6000": {"db.example.org:6000"},
		"turn:pw@tcp(db.example.org:6000)/turn":                           {"db.example.org:6000"},
		"turn:pw@unix(/run/mysqld/mysqld.sock)/turn":                      nil,
		// What would put arguments into the statement is not to be had.
		"mysql://turn@h/turn?interpolateParams=true&multiStatements=true": {"h:3306"},
	} {
		db, err := mysql.Open(dsn)
		require.NoError(t, err, dsn)
		require.Equal(t, hosts, db.Hosts, dsn)
		require.NoError(t, db.Close())
	}
	for _, dsn := range []string{"mysql://turn:hunter2@host:port/turn", "mysql://turn:hunter2@host/turn?timeout=hunter2", "mysql://turn:hunter2@h/t?tls=hunter2",
		"host=h password=hunter2 port=x", "hunter2", "oracle://turn:hunter2@h/t", "turn:hunter2@tcp(h/turn"} {
		_, err := mysql.Open(dsn)
		require.Error(t, err, dsn)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func ExampleOpen() {
	db, err := mysql.Open("mysql://turn:secret@db.example.org/coturn?tls=true")
	if err != nil {
		panic(err)
	}
	defer db.Close()
	fmt.Println(db.Hosts)
	// Output: [db.example.org:3306]
}
