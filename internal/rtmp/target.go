package rtmp

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/runnel-media/runnel/internal/name"
)

const maxQuery = 4 << 10

// A target is the stream that a peer names in connect and publish or play.
type target struct {
	key              string // of the hub
	vhost, app, name string
	query, token     string
}

// parseTarget makes out which stream is meant by the forms that RTMP users
// write:
//
//	rtmp://host/app/stream?token=…
//	rtmp://host/a/b/c/stream
//	rtmp://host/app?vhost=V/stream
//	rtmp://host/app/stream?vhost=V
//	rtmp://host/app...vhost...V/stream
//
// Clients cut the URL into app and stream at one slash or another, and some not
// at all. The stream is always the last segment here, whatever the cut.
func parseTarget(app, tcURL, stream string) (target, error) {
	app, appQuery := splitQuery(app)
	stream, query := splitQuery(stream)
	if appQuery == "" {
		_, appQuery = splitQuery(tcURL)
	}
	appQuery = strings.Trim(appQuery, "/")
	for _, kind := range []string{"flv:", "mp4:", "f4v:", "mp3:"} {
		// What Flash players and ffmpeg put in front of a name with a suffix.
		stream = strings.TrimPrefix(stream, kind)
	}
	path := strings.Trim(app, "/")
	if stream = strings.Trim(stream, "/"); stream != "" || !strings.Contains(path, "/") {
		path += "/" + stream
	}
	cut := strings.LastIndexByte(path, '/')
	t := target{app: strings.TrimPrefix(path[:cut], "/"), name: path[cut+1:], query: query}
	if appQuery != "" && appQuery != query {
		t.query = strings.TrimPrefix(query+"&"+appQuery, "&")
	}
	if len(t.query) > maxQuery || strings.ContainsFunc(t.query, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return target{}, fmt.Errorf("%w: query", name.ErrName)
	}
	values, _ := url.ParseQuery(t.query) // what of it is well-formed
	t.token = values.Get("token")
	if t.vhost = values.Get("vhost"); t.vhost == name.DefaultVHost {
		t.vhost = ""
	}
	if strings.Contains(t.vhost, "/") {
		return target{}, fmt.Errorf("%w: vhost of several segments", name.ErrName)
	}
	var err error
	t.key, err = name.Join(t.vhost, t.app, t.name)
	return t, err
}

// splitQuery cuts s at its question mark. The dotted form of a virtual host,
// for clients that can't write "?" into an application's name, is one too.
func splitQuery(s string) (path, query string) {
	s = strings.Replace(s, "...vhost...", "?vhost=", 1)
	path, query, _ = strings.Cut(s, "?")
	return path, query
}
