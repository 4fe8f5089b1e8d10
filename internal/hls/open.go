package hls

import (
	"context"
	"crypto/subtle"
	"net/netip"
	"strings"

	"github.com/runnel-media/runnel/stream"
)

// Open returns the media with a name as playlists have it, after the
// MediaPrefix: "SECRET/v12.m4s". The part that a playlist hints at is waited for,
// as Wait does and with its errors. Anything else that is not there, a wrong
// secret, and names that the Packager does not make are stream.ErrNotFound.
//
// What it returns may be kept in caches for as long as one likes.
func (p *Packager) Open(ctx context.Context, path string, who netip.Addr) (Content, error) {
	secret, file, ok := strings.Cut(path, "/")
	if !ok || subtle.ConstantTimeCompare([]byte(secret), []byte(p.secret)) != 1 {
		return Content{}, stream.ErrNotFound
	}
	n, ok := parseName(file)
	if !ok {
		return Content{}, stream.ErrNotFound
	}
	snap := &p.out[n.r].snap
	var c Content
	switch n.kind {
	case kindSegment:
		if s := snap.Load().find(n.number); s != nil && !s.Gap {
			c = s.Content()
		}
	case kindInit:
		snap.Load().each(func(s *Segment) bool {
			if s.Init != nil && s.Init.Number == n.number {
				c = Content{Data: [][]byte{s.Init.Data}, Size: int64(len(s.Init.Data)), Type: n.r.contentType()}
			}
			return c.Data == nil
		})
	case kindPart:
		err := p.wait(ctx, n.r, wish{part: n.number, media: true}, who)
		if err != nil {
			return Content{}, err
		}
		if part := snap.Load().findPart(n.number); part != nil && part.data != nil {
			c = Content{Data: [][]byte{part.data}, Size: int64(len(part.data)), Type: n.r.contentType()}
		}
	}
	if c.Data == nil {
		return Content{}, stream.ErrNotFound
	}
	c.ETag = `"` + p.tag + "-" + file + `"`
	return c, nil
}

// hasPart reports whether the part with a number is there, or why it never will be.
func (s *snapshot) hasPart(number uint64) (bool, error) {
	if ok, err := s.there(); !ok {
		return false, err
	}
	part := s.findPart(number)
	switch hinted := number == s.parts && !s.ended; {
	case s.listsParts() && part != nil && part.data != nil:
		return true, nil
	case s.listsParts() && hinted:
		return false, nil
	}
	return false, stream.ErrNotFound
}

// Key returns the key with a name as playlists have it, such as "v3.key". Whoever
// gives it to a viewer has made sure of the viewer's right to it.
func (p *Packager) Key(file string) (key *Key, err error) {
	n, ok := parseName(file)
	if !ok || n.kind != kindKey {
		return nil, stream.ErrNotFound
	}
	p.out[n.r].snap.Load().each(func(s *Segment) bool {
		if s.Key != nil && s.Key.Number == n.number {
			key = s.Key
		}
		return key == nil
	})
	if key == nil {
		return nil, stream.ErrNotFound
	}
	return key, nil
}
