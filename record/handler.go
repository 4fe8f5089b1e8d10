package record

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// A Handler serves a Library over HTTP. What it is asked for is the path that it
// sees; use http.StripPrefix. All methods may be called from many goroutines at once.
//
//	GET /                  list, as JSON; ?stream=, ?session=, ?prefix=, ?from= and ?to= (RFC 3339), ?limit=
//	GET /NAME              the recording, with Range
//	GET /NAME.json         its manifest
//	GET /NAME.mp4/_hls/index.m3u8   an MP4 recording as HLS
//	DELETE /NAME           deletes it
//
// For the list and for deletion, Auth is asked for auth.Admin; for the rest, a valid
// signature in the URL will do (see Sign), or else Auth is asked for auth.Play of the
// recording's stream. Without Auth only signed URLs work.
type Handler struct {
	Library *Library
	Auth    auth.Authorizer

	// Key signs URLs: some 32 random bytes that only this service knows. nil: no
	// URL is signed.
	Key []byte

	vod vodCache
}

// Sign returns the query with which a recording, and what belongs to it, can be
// fetched by anybody until a time: "expires=…&signature=…".
func (h *Handler) Sign(name string, expires time.Time) string {
	if len(h.Key) == 0 {
		return ""
	}
	at := strconv.FormatInt(expires.Unix(), 10)
	return "expires=" + at + "&signature=" + base64.RawURLEncoding.EncodeToString(h.mac(name, at))
}

func (h *Handler) mac(name, expires string) []byte {
	m := hmac.New(sha256.New, h.Key)
	m.Write([]byte("runnel recording\n" + expires + "\n" + name))
	return m.Sum(nil)
}

// signed reports whether the query allows a recording.
func (h *Handler) signed(name string, q url.Values) bool {
	expires := q.Get("expires")
	at, err := strconv.ParseInt(expires, 10, 64)
	mac, err2 := base64.RawURLEncoding.DecodeString(q.Get("signature"))
	return len(h.Key) > 0 && err == nil && err2 == nil &&
		hmac.Equal(mac, h.mac(name, expires)) && time.Now().Before(time.Unix(at, 0))
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	var err error
	switch {
	case r.Method == http.MethodDelete && name != "":
		err = h.delete(w, r, name)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD, DELETE")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	case name == "":
		err = h.list(w, r)
	default:
		err = h.get(w, r, name)
	}
	if err == nil {
		return
	}
	code := status(err)
	if code >= http.StatusInternalServerError && r.Context().Err() == nil {
		h.Library.log().Warn("record: http", "path", r.URL.Path, "err", err)
	}
	http.Error(w, http.StatusText(code), code)
}

var errForbidden = errors.New("record: not allowed")

// status is that of an error. Peers see no more of it.
func status(err error) int {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, stream.ErrName):
		return http.StatusNotFound
	case errors.Is(err, errForbidden), errors.Is(err, auth.ErrDenied):
		return http.StatusForbidden
	case errors.Is(err, errQuery):
		return http.StatusBadRequest
	case errors.Is(err, stream.ErrUnsupported):
		return http.StatusUnsupportedMediaType
	}
	return http.StatusInternalServerError
}

// ask asks Auth, and returns who it is.
func (h *Handler) ask(r *http.Request, action auth.Action, streamName string) (string, error) {
	q := &auth.Request{Action: action, Protocol: "record", TLS: r.TLS, Stream: streamName, RawQuery: r.URL.RawQuery,
		PageURL: r.Referer(), Origin: r.Header.Get("Origin"), Token: r.URL.Query().Get("token")}
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		q.Remote = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	}
	if streamName != "" {
		q.Name = path.Base(streamName)
		if app := path.Dir(streamName); app != "." {
			q.App = app
		}
	}
	q.User, q.Password, _ = r.BasicAuth()
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		q.Token = bearer
	}
	g, err := auth.Check(r.Context(), h.Auth, q)
	if err != nil {
		if !errors.Is(err, auth.ErrDenied) {
			h.Library.log().Warn("record: authorizer", "err", err)
		}
		return "", errForbidden
	}
	return g.User, nil
}

var errQuery = errors.New("record: bad query")

func (h *Handler) list(w http.ResponseWriter, r *http.Request) error {
	if _, err := h.ask(r, auth.Admin, ""); err != nil {
		return err
	}
	v := r.URL.Query()
	q := Query{Prefix: v.Get("prefix"), Stream: v.Get("stream"), Session: v.Get("session"), Limit: 1000}
	for _, f := range []struct {
		name string
		to   *time.Time
	}{{"from", &q.From}, {"to", &q.To}} {
		if text := v.Get(f.name); text != "" {
			t, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return errQuery
			}
			*f.to = t
		}
	}
	if text := v.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return errQuery
		}
		q.Limit = n
	}
	list, err := h.Library.List(r.Context(), q)
	if err != nil {
		return err
	}
	if list == nil {
		list = []*Info{}
	}
	return writeJSON(w, map[string]any{"recordings": list})
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	return json.NewEncoder(w).Encode(v)
}

func (h *Handler) delete(w http.ResponseWriter, r *http.Request, name string) error {
	who, err := h.ask(r, auth.Admin, "")
	if err != nil {
		return err
	}
	if who == "" {
		who = "http"
	}
	if err := h.Library.Delete(r.Context(), name, who, r.URL.Query().Get("reason")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// get serves a file of a recording.
func (h *Handler) get(w http.ResponseWriter, r *http.Request, name string) error {
	recording, part, virtual := strings.Cut(name, "/_hls/")
	if !virtual {
		recording = strings.TrimSuffix(name, manifestSuffix)
	}
	info, err := h.find(r.Context(), recording)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && !h.signed(recording, r.URL.Query()) {
			// Who may not play anything is not told what there is.
			if _, denied := h.ask(r, auth.Play, ""); denied != nil {
				return denied
			}
		}
		return err
	}
	if !h.signed(info.Name, r.URL.Query()) {
		if _, err := h.ask(r, auth.Play, info.Stream); err != nil {
			return err
		}
	}
	w.Header().Set("Access-Control-Allow-Origin", "*") // what is allowed is in the URL, or in a header that scripts set
	switch {
	case virtual:
		return h.serveVOD(w, r, info, part)
	case name == info.Name+manifestSuffix:
		return writeJSON(w, info)
	}
	return h.serveFile(w, r, info, name)
}

// find returns the recording that a file belongs to.
func (h *Handler) find(ctx context.Context, file string) (*Info, error) {
	info, err := h.Library.Info(ctx, file)
	if !errors.Is(err, fs.ErrNotExist) || path.Base(file) == hlsIndex {
		return info, err
	}
	return h.Library.Info(ctx, path.Dir(file)+"/"+hlsIndex) // a file of an HLS recording
}

var types = map[string]string{
	".mp4": "video/mp4", ".m4s": "video/mp4", ".flv": "video/x-flv", ".m3u8": "application/vnd.apple.mpegurl",
}

func (h *Handler) serveFile(w http.ResponseWriter, r *http.Request, info *Info, name string) error {
	if !owns(info.Name, name) {
		return fs.ErrNotExist
	}
	f, err := h.Library.Storage.Open(r.Context(), name)
	if err != nil {
		return err
	}
	defer f.Close()
	if t := types[path.Ext(name)]; t != "" {
		w.Header().Set("Content-Type", t)
	} else {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	if path.Ext(name) == ".m3u8" {
		return h.servePlaylist(w, r, f)
	}
	http.ServeContent(w, r, "", f.Info().ModTime, f)
	return nil
}
