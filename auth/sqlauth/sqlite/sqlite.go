// Package sqlite opens SQLite databases with coturn's tables. It links the
// driver modernc.org/sqlite, which needs no C compiler and is large.
package sqlite

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // registers itself as "sqlite"

	"github.com/runnel-media/runnel/auth/sqlauth"
)

// Open prepares to use the database in a file, "/var/lib/turn/turndb",
// "sqlite:///var/lib/turn/turndb" or "sqlite://turndb" for one in the current
// folder. The file must be there; it is not an error of Open if it is not.
func Open(path string) (*sqlauth.DB, error) { return open(path, "rw") }

// Create is Open for a file that it makes if it is not there, for nobody but
// its owner to read. The tables are made by the Create of what it returns.
func Create(path string) (*sqlauth.DB, error) { return open(path, "rwc") }

func open(path, mode string) (*sqlauth.DB, error) {
	path = strings.TrimPrefix(path, "sqlite://")
	if path == "" || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("sqlite: %q is not the name of a file", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if mode == "rwc" {
		f, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("sqlite: %w", err)
		}
		if err := f.Close(); err != nil {
			return nil, fmt.Errorf("sqlite: %w", err)
		}
	}
	abs = filepath.ToSlash(abs)
	if !strings.HasPrefix(abs, "/") {
		abs = "/" + abs // C:/…
	}
	// A writer, such as turnadmin or a coturn, is waited for.
	options := url.Values{"mode": {mode}, "_pragma": {"busy_timeout(5000)"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: abs, RawQuery: options.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	db.SetMaxOpenConns(4)
	db.SetConnMaxIdleTime(time.Minute)
	return &sqlauth.DB{SQL: db, Dialect: sqlauth.SQLite}, nil
}
