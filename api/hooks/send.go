package hooks

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/runnel-media/runnel/auth/webhook"
	"github.com/runnel-media/runnel/internal/callback"
	"github.com/runnel-media/runnel/stream"
)

const (
	defaultTimeout = webhook.DefaultTimeout
	maxConns       = 64 // to one service
	maxBackoff     = 30 * time.Second
	maxForwards    = 64
)

func (c *Callbacks) prepare() {
	c.client = callback.Client(c.Client, maxConns)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.pending = make(map[string]pending)
	c.open = make(map[string]stream.SessionInfo)
	c.publishers = make(map[string]*publisher)
	c.queue.most, c.queue.do = cmp.Or(c.MaxQueue, 10_000), c.deliver
}

// A request is what is sent, perhaps again and again.
type request struct {
	event       Event
	stream      string
	method, url string
	body        []byte
	id          string // Idempotency-Key
}

func newID() string { return rand.Text() }

// statusError is a status that is no success.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("status %d", int(s)) }

// errAnswer is a body that says neither yes nor no.
var errAnswer = errors.New(`the answer is neither 0 nor {"code": …}`)

// call sends a request once and returns the body of the answer.
func (c *Callbacks) call(ctx context.Context, r request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, callback.WithoutURL(err)
	}
	maps.Copy(req.Header, c.Header)
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Idempotency-Key", r.id)
	if len(c.Key) > 0 {
		req.Header.Set(webhook.SignatureHeader, webhook.Sign(c.Key, time.Now(), r.body))
	}
	res, err := c.client.Do(req)
	if err != nil {
		return nil, callback.WithoutURL(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		return nil, statusError(res.StatusCode)
	}
	if r.event == OnHLSNotify { // a cache is to fetch the segment: so much of it will do
		_, err = io.CopyN(io.Discard, res.Body, cmp.Or(c.NotifyBytes, 64))
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, callback.MaxAnswer+1))
	if err == nil && len(b) > callback.MaxAnswer {
		err = fmt.Errorf("the answer has more than %d bytes", callback.MaxAnswer)
	}
	return b, err
}

// codeOf reads an answer: nil for 0 and {"code": 0}, a *codeError for others.
func codeOf(b []byte) error {
	var code *int
	if json.Unmarshal(b, &code) != nil || code == nil {
		var answer struct {
			Code *int `json:"code"`
		}
		if json.Unmarshal(b, &answer) != nil || answer.Code == nil {
			return errAnswer
		}
		code = answer.Code
	}
	if *code != 0 {
		return &codeError{*code}
	}
	return nil
}

// tell queues a notification for every service of the event.
func (c *Callbacks) tell(e Event, info *stream.SessionInfo, m *message) {
	urls := c.urls(info.VHost)[e]
	if len(urls) == 0 {
		return
	}
	body := encode(m)
	for _, u := range urls {
		c.put(request{event: e, stream: info.Stream, method: http.MethodPost, url: u, body: body, id: newID()})
	}
}

func (c *Callbacks) put(r request) {
	if !c.queue.put(r) {
		c.drop(r, errors.New("too many wait"))
	}
}

// drop counts a notification that is not sent. The log gets one in ten seconds.
func (c *Callbacks) drop(r request, err error) {
	n := c.dropped.Add(1)
	now, last := time.Now().UnixNano(), c.warned.Load()
	if now-last > int64(10*time.Second) && c.warned.CompareAndSwap(last, now) {
		c.log().Warn("hooks: dropped", "event", string(r.event), "stream", r.stream, "service", service(r.url), "dropped", n, "err", err)
	}
}

// deliver sends a notification until it is taken.
func (c *Callbacks) deliver(r request) {
	wait := cmp.Or(c.Backoff, time.Second)
	for try := 1; ; try++ {
		answer, err := c.call(c.ctx, r)
		if err == nil && r.event != OnHLSNotify {
			err = codeOf(answer)
		}
		if err == nil {
			return
		}
		if try >= cmp.Or(c.Attempts, 6) || !again(err) || c.ctx.Err() != nil {
			c.drop(r, err)
			return
		}
		// Between half of it and all, so that many do not come back together.
		pause := wait/2 + mathrand.N(wait/2+1)
		wait = min(2*wait, maxBackoff)
		select {
		case <-time.After(pause):
		case <-c.ctx.Done():
		}
	}
}

// again reports whether a notification that failed may succeed later: the service
// was not there, or is in trouble. What it did not like it will not like then.
func again(err error) bool {
	var status statusError
	if errors.As(err, &status) {
		return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
	}
	var code *codeError
	return !errors.As(err, &code) && !errors.Is(err, errAnswer)
}

// service is what of a URL may be logged, and whose requests are kept in order.
func service(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Forward asks the services of on_forward_backend where a stream is to be sent, and
// returns the URLs that they name. It is for who relays; the answer is
//
//	{"code": 0, "data": {"urls": ["rtmp://…"]}}
//
// A service that fails is an error.
func (c *Callbacks) Forward(ctx context.Context, info stream.SessionInfo) ([]string, error) {
	c.once.Do(c.prepare)
	body := encode(c.message(OnForwardBackend, &info))
	var all []string
	for _, u := range c.urls(info.VHost)[OnForwardBackend] {
		b, err := c.call(ctx, request{method: http.MethodPost, url: u, body: body, id: newID()})
		if err == nil {
			err = codeOf(b)
		}
		var answer struct {
			Data struct {
				URLs []string `json:"urls"`
			} `json:"data"`
		}
		if err == nil && strings.TrimSpace(string(b)) != "0" && json.Unmarshal(b, &answer) != nil {
			err = errAnswer
		}
		if err != nil {
			return nil, fmt.Errorf("hooks: %s: %w", OnForwardBackend, err)
		}
		for _, s := range answer.Data.URLs {
			if u, err := url.Parse(s); err != nil || u.Scheme == "" || u.Host == "" || len(all) == maxForwards {
				return nil, fmt.Errorf("hooks: %s: the answer has something that is no URL, or more than %d", OnForwardBackend, maxForwards)
			}
			all = append(all, s)
		}
	}
	return all, nil
}
