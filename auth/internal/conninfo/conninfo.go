// Package conninfo reads the connection strings of coturn, such as
// "ip=127.0.0.1 dbname=2 password=turn port=6379 connect_timeout=30", and
// keeps passwords out of the errors of others.
package conninfo

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// An Info is what a connection string says. What it does not is zero.
type Info struct {
	Host, Port               string
	User, Password, Database string
	ConnectTimeout           time.Duration
	ReadTimeout              time.Duration
}

// Is reports whether a string looks like one of coturn's.
func Is(s string) bool {
	first, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	name, _, ok := strings.Cut(first, "=")
	return ok && !strings.ContainsAny(name, "/:@?")
}

// Parse reads a connection string. Errors name keys, never values.
func Parse(s string) (*Info, error) {
	var in Info
	for _, field := range strings.Fields(s) {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return nil, errors.New("a connection string is made of NAME=VALUE with spaces between")
		}
		var err error
		switch key {
		case "host", "ip", "addr", "ipaddr", "hostaddr":
			in.Host = value
		case "port", "p":
			if _, err = strconv.ParseUint(value, 10, 16); err == nil {
				in.Port = value
			}
		case "user", "uname", "name", "username":
			in.User = value
		case "password", "pwd", "passwd", "secret":
			in.Password = value
		case "dbname", "db", "database":
			in.Database = value
		case "connect_timeout", "timeout":
			in.ConnectTimeout, err = seconds(value)
		case "read_timeout":
			in.ReadTimeout, err = seconds(value)
		default:
			return nil, fmt.Errorf("%s= is not known in a connection string", key)
		}
		if err != nil {
			return nil, fmt.Errorf("%s= is not a number", key)
		}
	}
	return &in, nil
}

func seconds(s string) (time.Duration, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return time.Duration(n) * time.Second, err
}

// Address is host and port, with defaults.
func (in *Info) Address(port string) string {
	return net.JoinHostPort(cmp.Or(in.Host, "127.0.0.1"), cmp.Or(in.Port, port))
}

// WithoutURL takes the URL, which may hold a password, out of an error of
// net/url.
func WithoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}
