package relay

import (
	"net/url"
	"strings"
)

// expand puts a stream into a URL: {stream}, {app} and {name}, or
// the key as the path if there is none.
func expand(template, key string) string {
	scheme, rest, ok := strings.Cut(template, "://")
	if !ok {
		return template
	}
	escape := func(s string) string { return (&url.URL{Path: s}).EscapedPath() }
	prefix, suffix := "", ""
	switch scheme := strings.ToLower(scheme); scheme {
	case "http", "https":
		suffix = ".flv"
	case "hls", "hlss":
		suffix = ".m3u8"
	case "whep", "wheps", "whip", "whips":
		prefix = scheme[:4] + "/"
	case "runnel", "runnels":
	default:
		escape = func(s string) string { return s } // RTMP's names are not escaped
	}
	base, query, _ := strings.Cut(rest, "?")
	host, path, _ := strings.Cut(base, "/")
	if path == "" && !strings.Contains(rest, "{") {
		path = prefix + escape(key) + suffix
	}
	app, name := "", key
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		app, name = key[:i], key[i+1:]
	}
	replace := func(s string, escape func(string) string) string {
		return strings.NewReplacer("{stream}", escape(key), "{app}", escape(app), "{name}", escape(name)).Replace(s)
	}
	out := scheme + "://" + host + "/" + replace(path, escape)
	if query != "" {
		out += "?" + replace(query, url.QueryEscape)
	}
	return out
}

// addQuery returns the URL with more of a query.
func addQuery(to, query string) string {
	switch {
	case query == "":
		return to
	case strings.Contains(to, "?"):
		return to + "&" + query
	}
	return to + "?" + query
}

// redact returns a URL as logs may have it: without what can be a secret, the
// query and who asks. The stream key of a public platform is one too, so of
// the path all but the first segment goes unless the stream's own name is the end of it.
func redact(to, key string) string {
	scheme, rest, _ := strings.Cut(to, "://")
	rest, _, _ = strings.Cut(rest, "?")
	host, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	_, name, _ := cutLast(key)
	dir, last, deep := cutLast(path)
	if !deep {
		dir, last = "", path
	}
	if strings.TrimSuffix(strings.TrimSuffix(last, ".flv"), ".m3u8") != name {
		last = "…"
	}
	if dir != "" {
		last = dir + "/" + last
	}
	return scheme + "://" + host + "/" + last
}

// cutLast cuts s at its last slash. Without one all of it is the end.
func cutLast(s string) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}
