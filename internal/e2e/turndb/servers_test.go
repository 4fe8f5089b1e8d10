package turndb

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/redisauth"
	"github.com/runnel-media/runnel/auth/sqlauth"
	"github.com/runnel-media/runnel/auth/sqlauth/mysql"
	"github.com/runnel-media/runnel/auth/sqlauth/postgres"
	"github.com/runnel-media/runnel/auth/sqlauth/sqlite"
	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// password is that of the user turn, with what a URL has to escape.
const password = "p@ss/w:rd"

// A server is a database server that runs.
type server struct {
	// fresh makes an empty database and returns its name for us, and coturn's
	// flag and name for it.
	fresh func(t *testing.T) (dsn, flag, coturn string)
	// sample fills a database with coturn's sample.
	sample func(t *testing.T, db editor)
	noCase bool   // to its default, names that differ by case are the same
	stop   func() // ends the server without a word; nil: there is none
}

// editor is what the packages under test return.
type editor interface {
	turnauth.Editor
	turnauth.Names
	Ping(context.Context) error
	Close() error
}

func open(t *testing.T, dsn string) editor {
	t.Helper()
	scheme, _, _ := strings.Cut(dsn, ":")
	var db editor
	var err error
	switch scheme {
	case "redis":
		db, err = redisauth.Open(dsn)
	case "postgres":
		db, err = postgres.Open(dsn)
	case "mysql":
		db, err = mysql.Open(dsn)
	default:
		db, err = sqlite.Create(dsn)
	}
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

var servers = map[string]func(*testing.T) server{
	"SQLite":     startSQLite,
	"PostgreSQL": startPostgreSQL,
	"MariaDB":    startMariaDB,
	"Redis":      startRedis,
}

func startSQLite(t *testing.T) server {
	return server{
		fresh: func(t *testing.T) (string, string, string) {
			file := filepath.Join(t.TempDir(), "turn db.sqlite")
			return "sqlite://" + file, "-b", file
		},
		sample: sampleSQL,
	}
}

func startPostgreSQL(t *testing.T) server {
	initdb := debian(t, "initdb", "/usr/lib/postgresql/*/bin")
	dir, as := unprivileged(t)
	pw := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(pw, []byte(password), 0o644))
	data := filepath.Join(dir, "data")
	runAs(t, as, initdb, "-D", data, "-U", "turn", "--auth=scram-sha-256", "--pwfile="+pw, "-E", "UTF8", "--locale=C", "--no-sync")
	addr := peer.FreeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	p := startAs(t, as, filepath.Join(filepath.Dir(initdb), "postgres"),
		"-D", data, "-h", host, "-p", port, "-c", "unix_socket_directories=", "-c", "fsync=off")
	p.WaitLog(t, "ready to accept connections", 60*time.Second)

	dsn := func(name string) string {
		return fmt.Sprintf("postgres://turn:p%%40ss%%2Fw%%3Ard@%s/%s?sslmode=disable", addr, name)
	}
	n := 0
	return server{
		fresh: func(t *testing.T) (string, string, string) {
			n++
			name := fmt.Sprint("turn", n)
			execSQL(t, open(t, dsn("postgres")), "CREATE DATABASE "+name)
			return dsn(name), "-e", fmt.Sprintf("host=%s port=%s dbname=%s user=turn password=%s", host, port, name, password)
		},
		sample: sampleSQL,
		stop:   p.Kill,
	}
}

func startMariaDB(t *testing.T) server {
	install := debian(t, "mariadb-install-db", "/usr/bin")
	mariadbd := debian(t, "mariadbd", "/usr/sbin")
	dir, as := unprivileged(t)
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "s")
	runAs(t, as, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	addr := peer.FreeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	p := startAs(t, as, mariadbd, "--no-defaults", "--datadir="+data, "--socket="+socket, "--bind-address="+host, "--port="+port,
		"--pid-file="+filepath.Join(dir, "pid"), "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M")
	p.WaitLog(t, "ready for connections", 60*time.Second)

	root, err := mysql.Open("root@unix(" + socket + ")/")
	require.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	execSQL(t, root, "CREATE USER turn@'%' IDENTIFIED BY '"+password+"'", "CREATE USER turn@localhost IDENTIFIED BY '"+password+"'",
		"GRANT ALL ON *.* TO turn@'%'", "GRANT ALL ON *.* TO turn@localhost")
	n := 0
	return server{
		fresh: func(t *testing.T) (string, string, string) {
			n++
			name := fmt.Sprint("turn", n)
			execSQL(t, root, "CREATE DATABASE "+name)
			return fmt.Sprintf("mysql://turn:p%%40ss%%2Fw%%3Ard@%s/%s", addr, name), "-M",
				fmt.Sprintf("host=%s port=%s dbname=%s user=turn password=%s connect_timeout=10 read_timeout=10", host, port, name, password)
		},
		sample: sampleSQL,
		noCase: true,
		stop:   p.Kill,
	}
}

func startRedis(t *testing.T) server {
	addr := peer.FreeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	p := peer.Start(t, "redis-server", "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir(), "--requirepass", password)
	p.WaitLog(t, "Ready to accept connections", 20*time.Second)
	n := 0
	return server{
		fresh: func(t *testing.T) (string, string, string) {
			n++
			return fmt.Sprintf("redis://:p%%40ss%%2Fw%%3Ard@%s/%d", addr, n), "-N",
				fmt.Sprintf("ip=%s port=%s dbname=%d password=%s connect_timeout=10", host, port, n, password)
		},
		sample: sampleRedis,
		stop:   p.Kill,
	}
}

// debian finds a program that Debian keeps out of the search path.
func debian(t *testing.T, program, dirs string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	found, err := filepath.Glob(filepath.Join(dirs, program))
	require.NoError(t, err)
	if len(found) == 0 {
		return peer.Need(t, program)
	}
	return slices.Max(found)
}

// unprivileged makes a folder for a server that refuses to be run by root, and
// returns the words before a command that is run by its owner.
func unprivileged(t *testing.T) (dir string, as []string) {
	t.Helper()
	// Not t.TempDir, which only its owner may enter.
	dir, err := os.MkdirTemp("", "runnel-db-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Geteuid() != 0 {
		return dir, nil
	}
	const nobody = 65534
	require.NoError(t, os.Chown(dir, nobody, nobody))
	id := fmt.Sprint(nobody)
	return dir, []string{peer.Need(t, "setpriv"), "--reuid=" + id, "--regid=" + id, "--clear-groups", "--"}
}

func runAs(t *testing.T, as []string, program string, args ...string) {
	t.Helper()
	all := append(append(slices.Clone(as), program), args...)
	peer.Run(t, 2*time.Minute, all[0], all[1:]...)
}

func startAs(t *testing.T, as []string, program string, args ...string) *peer.Process {
	t.Helper()
	all := append(append(slices.Clone(as), program), args...)
	return peer.StartIn(t, os.TempDir(), nil, all[0], all[1:]...)
}

// execSQL runs statements of ours, or of coturn's files.
func execSQL(t *testing.T, db any, statements ...string) {
	t.Helper()
	var d *sql.DB
	switch db := db.(type) {
	case *sqlauth.DB:
		d = db.SQL
	default:
		t.Fatalf("%T has no SQL", db)
	}
	for _, s := range statements {
		if s = strings.TrimSpace(s); s != "" {
			_, err := d.ExecContext(t.Context(), s)
			require.NoError(t, err, s)
		}
	}
}
