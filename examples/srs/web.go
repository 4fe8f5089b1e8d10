package main

import (
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/runnel-media/runnel/stream"
)

// A website is http_server: the streams under the paths that the config gives them,
// and the files of a folder.
type website struct {
	set    *settings
	hub    *stream.Hub
	player http.Handler // a deliver.Server
	files  http.Handler
}

func newWebsite(set *settings, hub *stream.Hub, player http.Handler) *website {
	return &website{set: set, hub: hub, player: player, files: http.FileServer(folder{http.Dir(set.web.dir)})}
}

func (w *website) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	v := w.set.vhost(w.set.choose(host, r.URL.Query().Get("vhost")))
	if !v.enabled { // what it may be is a file's
		v = &vhost{}
	}
	switch target := w.stream(v, r.URL.Path); {
	case target != "":
		w.play(rw, r, v, target)
	case r.URL.Path == "/" && !w.hasFile("/index.html"):
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(rw, w.set.greeting(r.Host))
	default:
		w.file(rw, r)
	}
}

// remuxed are what a remux mount's streams are served as beside its own extension.
var remuxed = []string{".flv", ".ts", ".aac", ".mp3"}

// stream returns where the player has the live stream that a path is for, "" if it
// is for none: then it may be a file's.
func (w *website) stream(v *vhost, urlPath string) string {
	// What a pattern stands for, if that is live.
	find := func(m *mount, p, rest string, anyway bool) string {
		app, name, ok := m.match(p)
		if !ok || !anyway && w.hub.Stream(path.Join(v.name, app, name)) == nil {
			return ""
		}
		return "/" + path.Join(app, name) + rest
	}
	if head, below, packaged := strings.Cut(urlPath, "/_hls/"); packaged {
		// For a while the player has it when the stream has ended.
		if m := v.hls.m3u8Mount; m != nil {
			if target := find(m, head+m.ext, "/_hls/"+below, true); target != "" {
				return target
			}
		}
		if v.dash {
			return urlPath
		}
		return ""
	}
	ext := path.Ext(urlPath)
	stem := strings.TrimSuffix(urlPath, ext)
	switch {
	case v.hls.enabled && ext == ".m3u8":
		return find(v.hls.m3u8Mount, urlPath, ext, false)
	case v.dash && ext == ".mpd" && w.hub.Stream(path.Join(v.name, stem)) != nil:
		return urlPath
	case v.remux != nil && slices.Contains(remuxed, ext):
		return find(v.remux, stem+v.remux.ext, ext, false)
	}
	return ""
}

// play hands a request to the player, under the path that the stream has there.
func (w *website) play(rw http.ResponseWriter, r *http.Request, v *vhost, target string) {
	u := *r.URL
	u.Path, u.RawPath = target, ""
	q := u.Query()
	q.Del("vhost")
	if v.name != "" {
		q.Set("vhost", v.name)
	}
	u.RawQuery = q.Encode()
	there := *r
	there.URL = &u
	w.player.ServeHTTP(rw, &there)
}

func (w *website) hasFile(name string) bool {
	f, err := folder{http.Dir(w.set.web.dir)}.Open(path.Clean("/" + name))
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	return err == nil && !info.IsDir()
}

// mediaTypes are those of files that not every system knows.
var mediaTypes = map[string]string{
	".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t", ".flv": "video/x-flv", ".mp4": "video/mp4", ".mpd": "application/dash+xml",
}

func (w *website) file(rw http.ResponseWriter, r *http.Request) {
	h := rw.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if kind := mediaTypes[path.Ext(r.URL.Path)]; kind != "" {
		h.Set("Content-Type", kind)
	}
	if path.Ext(r.URL.Path) == ".m3u8" {
		h.Set("Cache-Control", "no-cache")
	}
	if w.set.web.crossdomain {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(rw, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	w.files.ServeHTTP(rw, r)
}

// A folder serves files, but lists none and has no hidden ones.
type folder struct{ http.FileSystem }

func (d folder) Open(name string) (http.File, error) {
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".tmp") {
			return nil, fs.ErrNotExist
		}
	}
	f, err := d.FileSystem.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		if index, err := d.FileSystem.Open(path.Join(name, "index.html")); err == nil {
			_ = index.Close()
			return f, nil
		}
		_ = f.Close()
		return nil, os.ErrNotExist
	}
	return f, nil
}

// greeting says what to do next.
func (s *settings) greeting(host string) string {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	port := s.listen[0][strings.LastIndexByte(s.listen[0], ':')+1:]
	text := "Publish\n  ffmpeg -re -i FILE -c copy -f flv rtmp://" + name + ":" + port + "/live/livestream\n\nPlay\n  rtmp://" + name + ":" + port + "/live/livestream\n"
	if v := s.vhosts[0]; v.remux != nil {
		text += "  http://" + host + "/live/livestream" + v.remux.ext + "\n"
	}
	if s.vhosts[0].hls.enabled {
		text += "  http://" + host + "/live/livestream.m3u8\n"
	}
	return text
}
