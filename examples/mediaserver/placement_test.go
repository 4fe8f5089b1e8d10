package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
)

func TestPlacementFlags(t *testing.T) {
	for _, bad := range []placementOptions{
		{redirect: true}, {edge: true}, {public: config.List{"https://a"}},
	} {
		require.ErrorContains(t, bad.check(false), "-cluster")
		require.NoError(t, bad.check(true))
	}
	for _, bad := range []string{"", "a.example", "https://", "https://a/x", "https://u@a", "https://a?x=1", "srt://a", "https://a\n"} {
		require.ErrorContains(t, (&placementOptions{public: config.List{bad}}).check(true), "-public", bad)
	}
	o := &placementOptions{public: config.List{"https://a:8443/", "rtmp://a"}, capacity: 4, redirect: true, edge: true}
	r := &relay.Relay{Hub: &stream.Hub{}}
	o.apply(r)
	require.Equal(t, map[string]string{"https": "https://a:8443", "rtmp": "rtmp://a"}, r.Public)
	require.True(t, r.Redirect && r.Edge)
	defer r.Hub.OpenSession(stream.SessionInfo{}, nil).Close(nil)
	load, draining := r.Load()
	require.InDelta(t, 0.25, load, 0.001)
	require.False(t, draining)
	o.empty(r, nil) // there is nobody to hand over to
}
