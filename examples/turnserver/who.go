package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/redisauth"
	"github.com/runnel-media/runnel/auth/sqlauth/mysql"
	"github.com/runnel-media/runnel/auth/sqlauth/postgres"
	"github.com/runnel-media/runnel/auth/sqlauth/sqlite"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// who decides who may: users, secrets and tokens, of the flags and of the
// database.
type who struct {
	users   turnauth.Users
	secrets atomic.Pointer[[]string]
	store   *turnauth.Cache // nil: no database
	db      database
	hosts   []string // of db
	any     auth.Authorizer
}

// A database is a store that can be closed, and says where it is.
type database interface {
	turnauth.Store
	io.Closer
}

func (o *options) who() (*who, error) {
	w := &who{}
	if err := w.update(o); err != nil {
		return nil, err
	}
	all := []auth.Authorizer{&w.users, &turnauth.Secrets{
		List:      func(context.Context, string) ([]string, error) { return *w.secrets.Load(), nil },
		Separator: o.restSeparator,
	}}
	if o.db != "" {
		db, hosts, err := openDB(o.db)
		if err != nil {
			return nil, fmt.Errorf("-db: %w", err)
		}
		w.db, w.hosts = db, hosts
		w.store = &turnauth.Cache{Store: db}
		all = append(all, &turnauth.Stored{Store: w.store, ServerName: o.serverName, Separator: o.restSeparator})
	}
	w.any = auth.Any(all...)
	return w, nil
}

// update takes over the users and secrets of the flags.
func (w *who) update(o *options) error {
	users := make([]turnauth.User, 0, len(o.users))
	for _, s := range o.users {
		name, password, ok := strings.Cut(s, ":")
		if !ok || name == "" || password == "" {
			return errors.New("-user is name:password")
		}
		u := turnauth.User{Name: name, Password: password}
		if digits, ok := strings.CutPrefix(password, "0x"); ok {
			key, err := hex.DecodeString(digits)
			if err != nil || len(key) != 16 {
				return fmt.Errorf("-user %s: 0x stands before a key of 32 hexadecimal digits", name)
			}
			u = turnauth.User{Name: name, Realm: o.realm, Key: key}
		}
		users = append(users, u)
	}
	if err := w.users.Replace(users...); err != nil {
		return err
	}
	secrets := []string(o.secrets)
	w.secrets.Store(&secrets)
	if w.store != nil {
		w.store.Flush()
	}
	return nil
}

// Authorize asks all of them.
func (w *who) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	return w.any.Authorize(ctx, r)
}

// realms are the database's; nil without one.
func (w *who) realms() auth.Realms {
	if w.store == nil {
		return nil
	}
	return w.store
}

func (w *who) close() {
	if w.db != nil {
		_ = w.db.Close() // it was only read
	}
}

// openDB opens the database of a -db. What stands behind its scheme is a URL's
// rest, or a connection string of coturn's.
func openDB(dsn string) (db database, hosts []string, err error) {
	scheme, rest, ok := strings.Cut(dsn, ":")
	if !ok {
		return nil, nil, errors.New("redis://, postgres://, mysql:// or sqlite:// is needed")
	}
	dsn = connection(dsn)
	switch scheme {
	case "redis", "rediss":
		d, err := redisauth.Open(dsn)
		if err != nil {
			return nil, nil, err
		}
		return d, d.Hosts, nil
	case "postgres", "postgresql":
		d, err := postgres.Open(dsn)
		if err != nil {
			return nil, nil, err
		}
		return d, d.Hosts, nil
	case "mysql":
		d, err := mysql.Open(dsn)
		if err != nil {
			return nil, nil, err
		}
		return d, d.Hosts, nil
	case "sqlite":
		d, err := sqlite.Open(strings.TrimPrefix(rest, "//"))
		if err != nil {
			return nil, nil, err
		}
		return d, nil, nil
	}
	return nil, nil, errors.New("redis://, postgres://, mysql:// or sqlite:// is needed")
}

// connection takes the scheme off what is a connection string of coturn's
// behind it: "redis:ip=… dbname=…".
func connection(dsn string) string {
	if _, rest, ok := strings.Cut(dsn, ":"); ok && !strings.HasPrefix(rest, "//") {
		return rest
	}
	return dsn
}

// endpoints are the database's servers, which no client is relayed to.
func (w *who) endpoints() []netip.AddrPort { return resolve(w.hosts...) }

// resolve resolves "host:port". What has no address is nobody's to reach.
func resolve(hosts ...string) (all []netip.AddrPort) {
	for _, h := range hosts {
		if h == "" {
			continue
		}
		host, port, err := net.SplitHostPort(h)
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
		var addrs []netip.Addr
		if err == nil && host != "" {
			addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		} else if err == nil {
			addrs = localAddrs()
		}
		cancel()
		if err != nil {
			slog.Warn("peers: this address could not be resolved, so that it is not kept from them", "host", host)
		}
		for _, a := range addrs {
			all = append(all, netip.AddrPortFrom(a.Unmap(), uint16(n)))
		}
	}
	return all
}
