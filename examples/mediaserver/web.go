package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed web
var webFiles embed.FS

// webTypes names the media types that the page consists of; a file of another
// type is a mistake that the test finds.
var webTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// The page runs its own scripts and styles and nothing else: text of a
// publisher that came to be taken for HTML could still not run.
const webPolicy = "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob:; " +
	"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

type webFile struct {
	contentType, etag string
	data              []byte
}

// webHandler serves the page at / and its files beside it, and 404 for every
// other path.
func webHandler() http.Handler {
	files := map[string]webFile{}
	err := fs.WalkDir(webFiles, "web", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := webFiles.ReadFile(name)
		sum := sha256.Sum256(data)
		files[name[len("web"):]] = webFile{
			contentType: webTypes[path.Ext(name)],
			etag:        `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`,
			data:        data,
		}
		return err
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	files["/"] = files["/index.html"]

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.contentType)
		h.Set("Content-Security-Policy", webPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		// A browser asks whether its copy is still right: the files change
		// together, with the program.
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", f.etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
	})
}
