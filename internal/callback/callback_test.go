package callback

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNoRedirects(t *testing.T) {
	var asked int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "/inside", http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	base := &http.Client{Timeout: time.Minute}
	for _, c := range []*http.Client{Client(nil, 4), Client(base, 4), Client(s.Client(), 4)} {
		res, err := c.Get(s.URL)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusTemporaryRedirect, res.StatusCode)
		c.CloseIdleConnections()
	}
	require.Equal(t, 3, asked)
	require.Nil(t, base.CheckRedirect, "the caller's client is not changed")
	require.Nil(t, base.Transport)
	require.Equal(t, time.Minute, Client(base, 4).Timeout)
}

func TestWithoutURL(t *testing.T) {
	plain := errors.New("plain")
	require.Equal(t, plain, WithoutURL(plain))
	require.Equal(t, plain, WithoutURL(&url.Error{Op: "Post", URL: "http://user:secret@host/", Err: plain}))
}
