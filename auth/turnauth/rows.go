package turnauth

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"strings"

	"github.com/runnel-media/runnel/auth"
)

// A Table is one of those that a coturn database has. Whatever it holds, its
// rows are a Row each; OAuth keys have methods of their own.
type Table int

// The tables, and what Name and Value of their rows are.
const (
	UserTable   Table = iota // Name: the user; Value: his key in hexadecimal digits
	SecretTable              // Name: the secret
	AllowTable               // Name: a range of peer addresses that are allowed
	DenyTable                // Name: a range of peer addresses that are denied
	OriginTable              // Name: an origin, of which there is one; Realm: where it belongs
	OptionTable              // Name: max-bps, total-quota or user-quota; Value: a number
	AdminTable               // Name: the administrator; Value: see AdminPassword; Realm: "" for all
)

// A Row of a Table.
type Row struct{ Realm, Name, Value string }

// An Editor is a database that can be changed. A Cache in front of it learns
// of changes when the time of its answers is over, or is to be flushed.
type Editor interface {
	Store
	// Rows yields the rows of a realm, of all realms if it is "", in no
	// particular order. An error is the last that it yields.
	Rows(ctx context.Context, t Table, realm string) iter.Seq2[Row, error]
	// Put adds a row in place of that of the same realm and name.
	Put(ctx context.Context, t Table, r Row) error
	// Delete removes the row of that realm and name, and returns ErrUnknown if
	// there is none.
	Delete(ctx context.Context, t Table, r Row) error

	OAuthKeys(ctx context.Context) iter.Seq2[*OAuthKey, error]
	PutOAuthKey(ctx context.Context, k *OAuthKey) error
	DeleteOAuthKey(ctx context.Context, id string) error
}

// MaxBPS, TotalQuota and UserQuota are the names of the OptionTable.
const (
	MaxBPS     = "max-bps" // bytes a second
	TotalQuota = "total-quota"
	UserQuota  = "user-quota"
)

// Check returns the row as it is to be stored, and as coturn reads it: origins
// and ranges in one form. The error says what is wrong with it.
func (t Table) Check(r Row) (Row, error) {
	longest := map[Table]int{UserTable: maxName, SecretTable: 256, AllowTable: 256, DenyTable: 256, OriginTable: 127, OptionTable: 32, AdminTable: 32}
	most, ok := longest[t]
	if !ok {
		return r, fmt.Errorf("turnauth: there is no table %d", t)
	}
	if t == OriginTable {
		r.Name = CanonicalOrigin(r.Name)
	}
	if !storable(r.Name, most) {
		return r, fmt.Errorf("turnauth: a name has 1 to %d bytes of UTF-8 and no zero", most)
	}
	if r.Realm != "" && !storable(r.Realm, maxRealm) {
		return r, fmt.Errorf("turnauth: a realm has at most %d bytes of UTF-8 and no zero", maxRealm)
	}
	var err error
	switch t {
	case UserTable:
		_, err = ParseKey(r.Value)
		r.Value = strings.TrimPrefix(strings.TrimSpace(r.Value), "0x")
	case AllowTable, DenyTable:
		var p auth.IPRange
		if p, err = auth.ParseIPRange(r.Name); err == nil {
			r.Name = p.String()
		}
	case OptionTable:
		var n int64
		if n, err = parseOption(r.Value); err == nil {
			r.Value = strconv.FormatInt(n, 10)
			err = setOption(&auth.RealmOptions{}, r.Name, n)
		}
	case OriginTable, SecretTable:
		if r.Realm == "" {
			err = errors.New("turnauth: it takes a realm")
		}
	case AdminTable:
		if !strings.HasPrefix(r.Value, "$5$") {
			err = errors.New("turnauth: an administrator's password is stored as AdminPassword makes it")
		}
	}
	return r, err
}

// Options makes the options of a realm of their rows. A number that is none is
// an error, so that a slip does not lift a limit; names that are unknown are
// somebody else's.
func Options(rows iter.Seq2[Row, error]) (auth.RealmOptions, error) {
	var o auth.RealmOptions
	for r, err := range rows {
		if err != nil {
			return auth.RealmOptions{}, err
		}
		n, err := parseOption(r.Value)
		if err != nil {
			return auth.RealmOptions{}, fmt.Errorf("turnauth: option %q of realm %q: %w", r.Name, r.Realm, err)
		}
		_ = setOption(&o, r.Name, n)
	}
	return o, nil
}

func parseOption(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("turnauth: %q is not a number from 0 to %d", s, 1<<31-1)
	}
	return n, nil
}

func setOption(o *auth.RealmOptions, name string, n int64) error {
	switch name {
	case MaxBPS:
		o.BitRate = n * 8
	case TotalQuota:
		o.TotalQuota = int(n)
	case UserQuota:
		o.UserQuota = int(n)
	default:
		return fmt.Errorf("turnauth: a realm has %s, %s and %s, not %q", MaxBPS, TotalQuota, UserQuota, name)
	}
	return nil
}

// Ranges makes the ranges of addresses of rows. One that can't be read is an
// error, so that a slip does not open what was to be closed.
func Ranges(rows iter.Seq2[Row, error]) ([]auth.IPRange, error) {
	var list []auth.IPRange
	for r, err := range rows {
		if err != nil {
			return nil, err
		}
		p, err := auth.ParseIPRange(r.Name)
		if err != nil {
			return nil, fmt.Errorf("turnauth: realm %q: %w", r.Realm, err)
		}
		list = append(list, p)
	}
	return list, nil
}

// CanonicalOrigin brings an origin into the form in which it is stored and
// looked up: "https://example.org:443", in lower case, with a port. What does
// not look like an origin remains as it is.
func CanonicalOrigin(origin string) string {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Hostname() == "" {
		return origin
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" {
		port = map[string]string{
			"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21",
			"stun": "3478", "turn": "3478", "stuns": "5349", "turns": "5349", "sip": "5060", "sips": "5061",
		}[u.Scheme]
	}
	if port == "" {
		return u.Scheme + "://" + host
	}
	return u.Scheme + "://" + host + ":" + port
}
