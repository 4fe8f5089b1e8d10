package turnapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/turnapi"
	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/turn"
)

func ExampleHandler() {
	users := &turnauth.Users{}
	srv := &turn.Server{Realm: "example.org", Auth: users}
	token, err := access.ParseToken("operator:a token with 128 random bits")
	if err != nil {
		fmt.Println(err)
		return
	}
	api := &turnapi.Handler{Server: srv, Gate: &access.Gate{Auth: access.Tokens{token}}, Users: users}
	mux := http.NewServeMux()
	mux.Handle("/turn/", http.StripPrefix("/turn", api))

	r := httptest.NewRequest("GET", "https://example.org/turn/sessions", nil)
	r.Header.Set("Authorization", "Bearer a token with 128 random bits")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Print(w.Code, " ", w.Body)
	// Output: 200 {"sessions":[]}
}
