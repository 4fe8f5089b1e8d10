package ingest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

func TestVHost(t *testing.T) {
	known := map[string]bool{"example.com": true}
	s := &Server{VHost: func(host, named string) string {
		for _, v := range []string{named, host} {
			if known[v] {
				return v
			}
		}
		return ""
	}}
	for _, c := range []struct{ tcURL, named, vhost, stream string }{
		{"rtmp://example.com:1935/live", "", "example.com", "example.com/live/a"},
		{"rtmp://192.0.2.1/live", "", "", "live/a"},
		{"rtmp://192.0.2.1/live", "example.com", "example.com", "example.com/live/a"},
		{"rtmp://192.0.2.1/live", "other", "", "live/a"},
		{"::", "", "", "live/a"},
	} {
		r := &auth.Request{TCURL: c.tcURL, VHost: c.named, App: "live", Name: "a", Stream: "x"}
		require.NoError(t, s.place(r))
		require.Equal(t, c.vhost, r.VHost, c)
		require.Equal(t, c.stream, r.Stream, c)
	}
	s.VHost = func(host, _ string) string { return host }
	require.ErrorIs(t, s.place(&auth.Request{TCURL: "rtmp://../live", Name: "a"}), stream.ErrName)
	r := &auth.Request{VHost: "v", Stream: "v/live/a"}
	require.NoError(t, (&Server{}).place(r))
	require.Equal(t, "v/live/a", r.Stream)
}
