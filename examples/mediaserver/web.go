package main

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/runnel-media/runnel/internal/webpage"
)

//go:embed web
var webFiles embed.FS

// The page runs its own scripts and styles and nothing else: text of a
// publisher that came to be taken for HTML could still not run.
const webPolicy = "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob:; " +
	"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

// webHandler serves the page at / and its files beside it, and 404 for every
// other path.
func webHandler() http.Handler { return webpage.New(webPolicy, web(), webpage.Player()) }

func web() fs.FS {
	sub, err := fs.Sub(webFiles, "web")
	if err != nil {
		panic(err) // it is part of the program
	}
	return sub
}
