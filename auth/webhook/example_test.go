package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/webhook"
)

// A web service that decides, and a server that asks it.
func Example() {
	key := []byte("what both know")
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err != nil || webhook.Verify(key, r.Header, body, time.Minute) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var q webhook.Question
		if err := json.Unmarshal(body, &q); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(webhook.Answer{Allow: q.Action == auth.Play || q.Token == "s3cret", User: "somebody"})
	}))
	defer service.Close()

	authorizer := &webhook.Authorizer{URL: service.URL, Key: key}
	for _, r := range []*auth.Request{
		{Action: auth.Play, Stream: "live/demo"},
		{Action: auth.Publish, Stream: "live/demo", Token: "guess"},
	} {
		grant, err := authorizer.Authorize(context.Background(), r)
		fmt.Println(r.Action, grant != nil, err)
	}
	// Output:
	// play true <nil>
	// publish false auth: denied
}
