package webhook

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/callback"
)

// DefaultTimeout is how long a question may take if Authorizer.Timeout is zero.
const DefaultTimeout = 3 * time.Second

// maxConns is how many connections to the service an Authorizer has at most;
// questions beyond wait for one.
const maxConns = 64

// An Authorizer asks the service at a URL. Its fields are set before it is
// used; it must not be copied after.
type Authorizer struct {
	URL     string
	Key     []byte        // signs the requests with HMAC-SHA256; nil: not signed
	Header  http.Header   // further fields of the requests, such as Authorization
	Timeout time.Duration // of one question, answer included; DefaultTimeout if zero
	// Client makes the requests, if its proxy or certificates are special. It
	// is not changed, and it does not follow redirects here either.
	Client *http.Client

	once   sync.Once
	client *http.Client
}

// Authorize asks. It returns at ctx's end or after the timeout.
func (a *Authorizer) Authorize(ctx context.Context, r *auth.Request) (*auth.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(a.Timeout, DefaultTimeout))
	defer cancel()
	body, err := json.Marshal(question(r))
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	answer, err := a.post(ctx, body)
	if err != nil {
		return nil, err
	}
	return answer.grant(r)
}

func (a *Authorizer) post(ctx context.Context, body []byte) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", callback.WithoutURL(err))
	}
	maps.Copy(req.Header, a.Header)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if len(a.Key) > 0 {
		req.Header.Set(SignatureHeader, Sign(a.Key, time.Now(), body))
	}
	a.once.Do(a.start)
	res, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", callback.WithoutURL(err))
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return nil, auth.ErrDenied
	case res.StatusCode/100 == 3:
		return nil, fmt.Errorf("webhook: status %d: redirects are not followed", res.StatusCode)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("webhook: status %d", res.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, callback.MaxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("webhook: reading the answer: %w", err)
	}
	if len(b) > callback.MaxAnswer {
		return nil, fmt.Errorf("webhook: the answer has more than %d bytes", callback.MaxAnswer)
	}
	var answer Answer
	if json.Unmarshal(b, &answer) != nil { // its error may quote a password
		return nil, errors.New("webhook: the answer is not the JSON of one")
	}
	return &answer, nil
}

func (a *Authorizer) start() { a.client = callback.Client(a.Client, maxConns) }
