// Package webpage serves the pages that are part of our programs: files that
// were embedded, with headers that let the page run its own scripts and styles
// and nothing else. It also has the scripts of the player that several pages
// share.
package webpage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"time"
)

// Policy is a Content-Security-Policy under which text of a peer's that came to
// be taken for HTML could not run, and which lets the player play. Nobody may
// frame the page.
const Policy = "default-src 'self'; media-src 'self' blob:; " +
	"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed player
var player embed.FS

// Player returns the scripts of the player: player.js, which imports the others.
// A page has them beside its own.
func Player() fs.FS {
	files, err := fs.Sub(player, "player")
	if err != nil {
		panic(err) // it is part of the program
	}
	return files
}

// types are the media types of the files that there may be.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

type file struct {
	contentType, etag string
	data              []byte
}

// New returns a handler that serves the files of all of from under one root,
// index.html as "/" too, and 404 for every other path. It panics if files
// cannot be read or are of a type that a page does not need: they are part of
// the program.
func New(policy string, from ...fs.FS) http.Handler {
	files := map[string]file{}
	for _, f := range from {
		err := fs.WalkDir(f, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(f, name)
			sum := sha256.Sum256(data)
			files["/"+name] = file{types[path.Ext(name)], `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, data}
			if types[path.Ext(name)] == "" {
				return fmt.Errorf("webpage: %s is no file of a page", name)
			}
			return err
		})
		if err != nil {
			panic(err)
		}
	}
	if index, ok := files["/index.html"]; ok {
		files["/"] = index
	}
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
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		// A browser asks whether its copy is still right: the files change
		// together, with the program.
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", f.etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
	})
}

// What Policy forbids, and what would take text for HTML, by the type of the
// file.
var forbidden = map[string]*regexp.Regexp{
	".html": regexp.MustCompile(`(?i)<script[^>]*>[^<]|<style|\sstyle=|\son[a-z]+=|(src|href)="(https?:)?//|javascript:`),
	".js":   regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\("style"|from "[^.]|import\(`),
	".css":  regexp.MustCompile(`@import|url\(`),
	".svg":  regexp.MustCompile(`<script|<style|xlink`),
}

// reference is what a file names beside itself.
var reference = regexp.MustCompile(`(?:src|href)="([a-z][^":]*)"|from "\./([^"]*)"`)

// Check looks for what would not work in a browser, or not be safe there: for
// tests of pages. The files of all of from are beside each other.
func Check(from ...fs.FS) error {
	var all []string
	beside := map[string]bool{}
	read := func(f fs.FS, do func(name string, data []byte) error) error {
		return fs.WalkDir(f, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(f, name)
			if err != nil {
				return err
			}
			return do(name, data)
		})
	}
	for _, f := range from {
		if err := read(f, func(name string, _ []byte) error {
			if beside[name] {
				return fmt.Errorf("webpage: %s is there twice", name)
			}
			beside[name] = true
			all = append(all, name)
			return nil
		}); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return fmt.Errorf("webpage: no files")
	}
	for _, f := range from {
		if err := read(f, func(name string, data []byte) error { return check(name, data, beside) }); err != nil {
			return err
		}
	}
	return nil
}

func check(name string, data []byte, beside map[string]bool) error {
	ext := path.Ext(name)
	switch {
	case types[ext] == "":
		return fmt.Errorf("webpage: %s is no file of a page", name)
	case bytes.ContainsRune(data, '\r'):
		return fmt.Errorf("webpage: %s has carriage returns", name)
	}
	if bad := forbidden[ext].Find(data); bad != nil {
		return fmt.Errorf("webpage: %s has %q", name, bad)
	}
	for _, m := range reference.FindAllSubmatch(data, -1) {
		if to := string(m[1]) + string(m[2]); !beside[to] {
			return fmt.Errorf("webpage: %s names %s, which is not there", name, to)
		}
	}
	return nil
}
