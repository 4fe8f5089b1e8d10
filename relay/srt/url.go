package srt

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/srt"
)

// A target is what a URL says.
type target struct {
	addr    string
	latency time.Duration // 0: not said
	dial    srt.DialOptions
}

// maxStreamID is how long a stream id can be (draft-sharabayko-srt, section
// 3.2.1.3), maxLatency how long a connection may hold packets.
const (
	maxStreamID = 512
	maxLatency  = 30 * time.Second
)

// errURL tells nothing of the URL, which may hold a secret.
var errURL = errors.New("relay/srt: malformed URL")

// parse takes a URL apart. hops, a query, goes along where the stream id is ours to
// write.
func parse(raw string, publish bool, hops string) (t target, err error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Port() == "" {
		return target{}, errURL
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return target{}, errURL
	}
	t.addr = u.Host
	if m := q.Get("mode"); m != "" && m != "caller" {
		return target{}, fmt.Errorf("relay/srt: mode %q: only callers are", m)
	}
	if v := q.Get("latency"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 || n > maxLatency.Microseconds() {
			return target{}, fmt.Errorf("relay/srt: latency: 0 to %d microseconds", maxLatency.Microseconds())
		}
		t.latency = time.Duration(n) * time.Microsecond
	}
	t.dial.Passphrase = q.Get("passphrase")
	if n := len(t.dial.Passphrase); n != 0 && (n < 10 || n > 79) {
		return target{}, errors.New("relay/srt: a passphrase has 10 to 79 bytes")
	}
	switch v := q.Get("pbkeylen"); v {
	case "", "0":
	case "16", "24", "32":
		t.dial.KeyLength, _ = strconv.Atoi(v)
	default:
		return target{}, errors.New("relay/srt: pbkeylen: 16, 24 or 32")
	}
	if t.dial.StreamID = q.Get("streamid"); t.dial.StreamID == "" {
		if t.dial.StreamID, err = streamID(strings.Trim(u.Path, "/"), q, publish, hops); err != nil {
			return target{}, err
		}
	}
	if len(t.dial.StreamID) > maxStreamID {
		return target{}, fmt.Errorf("relay/srt: a stream id has %d bytes at most", maxStreamID)
	}
	return t, nil
}

// ours are the parameters that the stream id does not repeat.
var ours = []string{"streamid", "passphrase", "pbkeylen", "latency", "mode"}

// streamID writes the stream id for a path. It is empty if that is.
func streamID(path string, q url.Values, publish bool, hops string) (string, error) {
	if path == "" {
		return "", nil
	}
	if strings.ContainsAny(path, ",?&{}") {
		return "", errURL
	}
	mode := "request"
	if publish {
		mode = "publish"
	}
	id := "#!::r=" + path + ",m=" + mode
	for _, key := range slices.Sorted(maps.Keys(q)) {
		v := url.QueryEscape(q.Get(key))
		switch {
		case slices.Contains(ours, key):
		case key == "token":
			if strings.ContainsAny(q.Get(key), ",?&}") { // a token is not unescaped
				id += ",token=" + v
			} else {
				id += ",s=" + q.Get(key)
			}
		default:
			id += "," + url.QueryEscape(key) + "=" + v
		}
	}
	if key, v, ok := strings.Cut(hops, "="); ok {
		id += "," + key + "=" + url.QueryEscape(v)
	}
	return id, nil
}
