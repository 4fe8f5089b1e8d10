package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/runnel-media/runnel/auth"
)

// allow lets everybody play, and those publish who know the token or, if there
// is none, those on this machine.
type allow struct {
	publishToken string
	hooks        bool // a service decides, see hookOptions
}

func (a allow) Authorize(_ context.Context, r *auth.Request) (*auth.Grant, error) {
	switch {
	case r.Action == auth.Play:
		return &auth.Grant{}, nil
	case r.Action != auth.Publish:
		return nil, auth.ErrDenied
	case a.publishToken != "":
		// Hashed first, for the comparison takes as long as the shorter one.
		want, got := sha256.Sum256([]byte(a.publishToken)), sha256.Sum256([]byte(r.Token))
		if subtle.ConstantTimeCompare(want[:], got[:]) == 1 {
			return &auth.Grant{}, nil
		}
		return nil, fmt.Errorf("%w: wrong publish token", auth.ErrDenied)
	case a.hooks:
		return &auth.Grant{}, nil
	case !r.Remote.Addr().Unmap().IsLoopback():
		return nil, fmt.Errorf("%w: without -publish-token only this machine may publish", auth.ErrDenied)
	case strings.HasPrefix(r.Protocol, "http") && r.Origin != "":
		// A page of any site could post through a browser on this machine.
		return nil, fmt.Errorf("%w: publishing from a browser needs -publish-token", auth.ErrDenied)
	}
	return &auth.Grant{}, nil
}
