// Package srsname has the names that SRS gives to virtual hosts and streams, which
// the HTTP API and the callbacks must agree on.
package srsname

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// DefaultVHost is the virtual host of streams that name none.
const DefaultVHost = "__defaultVhost__"

// A Stream is a stream's name in its parts.
type Stream struct {
	VHost string // DefaultVHost for none
	App   string
	Name  string
}

// Parts makes a Stream of the parts of an auth.Request, in which the default
// virtual host is "".
func Parts(vhost, app, name string) Stream {
	if vhost == "" {
		vhost = DefaultVHost
	}
	return Stream{vhost, app, name}
}

// Cut takes a hub key apart of which nobody knows the parts: its first segment is
// a virtual host if isVHost says so. isVHost may be nil.
func Cut(key string, isVHost func(string) bool) Stream {
	s := Stream{VHost: DefaultVHost}
	if first, rest, ok := strings.Cut(key, "/"); ok && isVHost != nil && isVHost(first) {
		s.VHost, key = first, rest
	}
	i := strings.LastIndexByte(key, '/')
	s.App, s.Name = key[:max(i, 0)], key[i+1:]
	return s
}

// URL returns what SRS calls stream_url, and url in its API: "/app/name", with the
// virtual host before it unless that is the default.
func (s Stream) URL() string {
	host := s.VHost
	if host == DefaultVHost {
		host = ""
	}
	return host + "/" + s.App + "/" + s.Name
}

// TCURL returns the tcUrl of a client that sent none.
func (s Stream) TCURL() string { return "rtmp://" + s.VHost + "/" + s.App }

// ID returns the stream's ID.
func (s Stream) ID() string { return ID(s.URL()) }

// VHostID returns the virtual host's ID.
func (s Stream) VHostID() string { return ID(s.VHost) }

// ID makes an ID as SRS's look, always the same of one name.
func ID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "vid-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))
}
