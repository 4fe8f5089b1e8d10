// Package httpauth puts the question of an HTTP request for a stream to an
// Authorizer into words, and its refusals into statuses. Publishers and players
// over HTTP are asked and refused alike.
package httpauth

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/name"
)

// Request makes the Authorizer's question of a request for the stream at
// streamPath, which is "/app/name". The virtual host is that of a query
// parameter vhost=. The token is that of token=, or a bearer token if there is
// one; user and password are those of basic authorization. The protocol is for
// the caller to say. The error, a name.ErrName, says that there can be no such
// stream.
func Request(r *http.Request, action auth.Action, streamPath string) (*auth.Request, error) {
	q := r.URL.Query()
	dir, file := path.Split(strings.TrimPrefix(streamPath, "/"))
	req := &auth.Request{
		Action:   action,
		TLS:      r.TLS,
		VHost:    q.Get("vhost"),
		App:      strings.TrimSuffix(dir, "/"),
		Name:     file,
		RawQuery: r.URL.RawQuery,
		PageURL:  r.Referer(),
		Origin:   r.Header.Get("Origin"),
		Token:    q.Get("token"),
	}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		req.Remote = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		req.Token = strings.TrimSpace(token)
	}
	if user, password, ok := r.BasicAuth(); ok {
		req.User, req.Password = user, password
	}
	if req.VHost == name.DefaultVHost {
		req.VHost = ""
	}
	if strings.Contains(req.VHost, "/") {
		return nil, name.ErrName
	}
	var err error
	req.Stream, err = name.Join(req.VHost, req.App, req.Name)
	return req, err
}

// Refuse answers a request that was not granted, if err is an *auth.Redirect or
// auth.ErrDenied, and reports whether it is: 302 (307 where a body is to go with it: a
// publisher's, an offer), 401 if the peer has said nothing of itself, and 403. A
// redirect to a URL without a path is one to the same path there, and the query
// of the request stays beside that of the URL.
func Refuse(w http.ResponseWriter, r *http.Request, req *auth.Request, err error) bool {
	var redirect *auth.Redirect
	switch {
	case errors.As(err, &redirect):
		status := http.StatusFound
		if req.Action == auth.Publish || r.Method == http.MethodPost {
			status = http.StatusTemporaryRedirect
		}
		http.Redirect(w, r, location(r, redirect.Location), status)
	case !errors.Is(err, auth.ErrDenied):
		return false
	case req.Token == "" && req.User == "":
		w.Header().Set("WWW-Authenticate", `Bearer realm="runnel"`)
		if !Browser(r) {
			w.Header().Add("WWW-Authenticate", `Basic realm="runnel"`)
		}
		http.Error(w, "a token is needed", http.StatusUnauthorized)
	default:
		http.Error(w, "not allowed", http.StatusForbidden)
	}
	return true
}

// location returns where to is for a request.
func location(r *http.Request, to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.Path != "" || !strings.HasPrefix(r.RequestURI, "/") {
		return to
	}
	path, query, _ := strings.Cut(r.RequestURI, "?") // what the peer asked for, whatever was stripped since
	own := u.Query()
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		if key, _, _ := strings.Cut(part, "="); part != "" && !own.Has(key) {
			kept = append(kept, part)
		}
	}
	if u.RawQuery != "" {
		kept = append(kept, u.RawQuery)
	}
	to = u.Scheme + "://" + u.Host + path
	if len(kept) > 0 {
		to += "?" + strings.Join(kept, "&")
	}
	return to
}

// Browser reports whether a request looks like a browser's, which is not to be
// asked for HTTP basic authentication: it would ask its user for a password, in
// a window of its own, before any page could do better.
func Browser(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Mode") != "" || strings.HasPrefix(r.UserAgent(), "Mozilla/") ||
		strings.Contains(r.Header.Get("Accept"), "text/html")
}
