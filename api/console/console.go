// Package console is a page for operators in a browser: what the server does,
// its streams with a player, sessions that can be ended, TURN allocations,
// recordings and events. It is made of embedded files of our own and asks the
// API beside it, /api/v2/, as whoever holds the token that was typed in.
//
//	h := &api.Handler{Media: media, Gate: gate, Console: console.Handler()}
//
// The page itself holds nothing that is secret: everybody may load it.
package console

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/runnel-media/runnel/internal/webpage"
)

//go:embed web
var files embed.FS

// Handler serves the page at the root of its path; mount it elsewhere with
// http.StripPrefix. The API, and the streams for the player, are to be found
// at the path above the page's: a page at /live/console/ asks /live/api/v2/.
func Handler() http.Handler {
	return webpage.New(webpage.Policy, web(), webpage.Player())
}

func web() fs.FS {
	sub, err := fs.Sub(files, "web")
	if err != nil {
		panic(err) // it is part of the program
	}
	return sub
}
