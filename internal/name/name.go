// Package name holds the rules for the names that peers choose: stream names
// become hub keys, and from there parts of paths, log lines and metrics, so
// they are checked once, before they reach any of those.
package name

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLen bounds a hub key, in bytes: no file system takes longer names.
const MaxLen = 255

// DefaultVHost is what SRS users call the virtual host that needs no name.
const DefaultVHost = "__defaultVhost__"

// ErrName is wrapped by every refusal.
var ErrName = errors.New("bad stream name")

// Check says whether key can be a hub key: segments separated by "/", none
// empty or beginning with "_" (reserved for paths of our own) or ".", only
// printable UTF-8, and none of the characters that a URL, a shell or a file
// system would read as more than a letter.
func Check(key string) error { return check(key, MaxLen) }

// MaxPath bounds the names of stored files, in bytes: no object store takes
// longer ones.
const MaxPath = 1024

// CheckPath says whether path can name a stored file: as Check, but it may be
// longer as a whole, since it has a hub key and more.
func CheckPath(path string) error {
	if err := check(path, MaxPath); err != nil {
		return err
	}
	for seg := range strings.SplitSeq(path, "/") {
		if len(seg) > MaxLen {
			return fmt.Errorf("%w: segment of %d bytes, more than %d", ErrName, len(seg), MaxLen)
		}
	}
	return nil
}

func check(key string, most int) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: empty", ErrName)
	case len(key) > most:
		return fmt.Errorf("%w: %d bytes, more than %d", ErrName, len(key), most)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: not UTF-8", ErrName)
	}
	for _, r := range key {
		if !unicode.IsPrint(r) || strings.ContainsRune(`\%?#"<>|*:`, r) {
			return fmt.Errorf("%w: character %+q", ErrName, r)
		}
	}
	for seg := range strings.SplitSeq(key, "/") {
		switch {
		case seg == "":
			return fmt.Errorf("%w: empty segment", ErrName)
		case seg[0] == '_' || seg[0] == '.':
			return fmt.Errorf("%w: segment begins with %q", ErrName, seg[0])
		case seg != strings.TrimSpace(seg):
			return fmt.Errorf("%w: segment begins or ends with a space", ErrName)
		}
	}
	return nil
}

// Join makes the hub key of a stream: "app/name", with "vhost/" before it
// unless vhost is empty or DefaultVHost. app may have several segments, and
// may be empty.
func Join(vhost, app, stream string) (string, error) {
	if stream == "" || strings.Contains(stream, "/") {
		return "", fmt.Errorf("%w: stream %q", ErrName, clip(stream))
	}
	key := stream
	if app != "" {
		key = app + "/" + key
	}
	if vhost != "" && vhost != DefaultVHost {
		key = vhost + "/" + key
	}
	if err := Check(key); err != nil {
		return "", err
	}
	return key, nil
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
