// Package declared goes by what a stream.Hub has declared of streams ahead: who
// may publish them, with which key, and how many may watch. It also keeps the
// declarations in a file.
package declared

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/api/internal/state"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// An Authorizer decides about streams that are declared, and asks Next about
// all else. A publisher of a stream with a key needs that key, as
// auth.Request.Token, and nothing else: Next is not asked. Its fields must not
// change once it is in use.
type Authorizer struct {
	Hub  *stream.Hub
	Next auth.Authorizer // nil refuses

	// Only lets nobody publish what is not declared. It may change at any time.
	Only atomic.Bool
}

// Authorize implements auth.Authorizer.
func (a *Authorizer) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	var d *stream.Declaration
	if r.Action == auth.Publish || r.Action == auth.Play {
		d = a.Hub.Declaration(r.Stream)
	}
	switch {
	case r.Action == auth.Publish && d != nil:
		return a.publish(ctx, r, d)
	case r.Action == auth.Publish && a.Only.Load():
		return nil, fmt.Errorf("%w: the stream is not declared", auth.ErrDenied)
	case r.Action == auth.Play && d != nil && d.MaxViewers > 0 && a.viewers(r.Stream) >= d.MaxViewers:
		return nil, fmt.Errorf("%w: the stream has as many viewers as it may", auth.ErrDenied)
	}
	return auth.Check(ctx, a.Next, r)
}

func (a *Authorizer) publish(ctx context.Context, r *auth.Request, d *stream.Declaration) (*auth.Grant, error) {
	switch {
	case d.Disabled:
		return nil, fmt.Errorf("%w: publishing is disabled", auth.ErrDenied)
	case !d.Expires.IsZero() && !time.Now().Before(d.Expires):
		return nil, fmt.Errorf("%w: the declaration has expired", auth.ErrDenied)
	case len(d.Protocols) > 0 && !slices.Contains(d.Protocols, r.Protocol):
		return nil, fmt.Errorf("%w: not by this protocol", auth.ErrDenied)
	}
	g := &auth.Grant{}
	if d.KeyHash != nil {
		got := sha256.Sum256([]byte(r.Token))
		if subtle.ConstantTimeCompare(got[:], d.KeyHash) != 1 {
			return nil, fmt.Errorf("%w: wrong publish key", auth.ErrDenied)
		}
	} else {
		asked, err := auth.Check(ctx, a.Next, r)
		if err != nil {
			return nil, err
		}
		*g = *asked // which is not ours to change
	}
	if !d.Expires.IsZero() && (g.Expires.IsZero() || d.Expires.Before(g.Expires)) {
		g.Expires = d.Expires
	}
	if d.MaxBitRate > 0 && (g.Limits.BitRate <= 0 || d.MaxBitRate < g.Limits.BitRate) {
		g.Limits.BitRate = d.MaxBitRate
	}
	return g, nil
}

// viewers counts who plays a stream. Of many that come at the same moment some
// may be let in beyond the bound.
func (a *Authorizer) viewers(name string) (n int) {
	for s := range a.Hub.Sessions() {
		if i := s.Info(); i.Role == stream.RolePlay && i.Stream == name {
			n++
		}
	}
	return n
}

// HashKey returns what stream.Declaration.KeyHash is for a key.
func HashKey(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// A File keeps declarations as JSON. Of keys it has hashes only.
type File struct{ Path string } // its directory must be there

// Load declares what the file has, if there is one.
func (f *File) Load(hub *stream.Hub) error {
	var all map[string]*stream.Declaration
	if err := state.Read(f.Path, &all); err != nil {
		return err
	}
	for name, d := range all {
		if d == nil || d.KeyHash != nil && len(d.KeyHash) != sha256.Size {
			return fmt.Errorf("declared: %s: %q is no declaration", f.Path, name)
		}
		if err := hub.Declare(name, d); err != nil {
			return fmt.Errorf("declared: %s: %w", f.Path, err)
		}
	}
	return nil
}

// Save writes what the hub has declared, the whole file or nothing of it. It is
// for one goroutine at a time.
func (f *File) Save(_ context.Context, hub *stream.Hub) error {
	all := map[string]*stream.Declaration{}
	for name, d := range hub.Declarations() {
		all[name] = d
	}
	return state.Write(f.Path, all)
}
