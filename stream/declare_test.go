package stream

import (
	"context"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDeclare(t *testing.T) {
	h := &Hub{}
	events := h.Events(t.Context())
	d := &Declaration{Title: "one", Labels: map[string]string{"a": "b"}}
	require.NoError(t, h.Declare("live/a", d))
	first := h.Declaration("live/a")
	d.Title, d.Labels["a"] = "changed", "changed" // the hub has a copy
	require.Equal(t, "one", first.Title)
	require.Equal(t, "b", first.Labels["a"])
	require.False(t, first.Created.IsZero())
	require.Nil(t, h.Stream("live/a"), "it is not live")

	require.NoError(t, h.Declare("live/a", &Declaration{Title: "two"}))
	require.Equal(t, "one", first.Title)
	require.True(t, h.Declaration("live/a").Created.Equal(first.Created))
	require.Len(t, maps.Collect(h.Declarations()), 1)
	require.ErrorIs(t, h.Declare("../a", d), ErrName)
	require.Nil(t, h.Declaration("live/b"))

	p, err := h.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err)
	require.NoError(t, p.Close())
	require.NotNil(t, h.Declaration("live/a"), "it outlives its publisher")
	require.True(t, h.Undeclare("live/a"))
	require.False(t, h.Undeclare("live/a"))
	require.Nil(t, h.Declaration("live/a"))
	require.NoError(t, h.Close())
	require.ErrorIs(t, h.Declare("live/a", d), ErrClosed)
	var got []string
	for e := range events {
		switch e := e.(type) {
		case StreamDeclared:
			got = append(got, "declared "+e.Declaration.Title)
		case StreamUndeclared:
			got = append(got, "undeclared "+e.Stream)
		case StreamStarted:
			got = append(got, "started")
		}
	}
	require.Equal(t, []string{"declared one", "declared two", "started", "undeclared live/a"}, got)
}

// TestDeclareReplace: whoever publishes a stream that is declared so takes over.
func TestDeclareReplace(t *testing.T) {
	h := &Hub{}
	defer h.Close()
	require.NoError(t, h.Declare("live/a", &Declaration{Replace: true}))
	evicted := make(chan error, 1)
	_, err := h.Publish(context.Background(), "live/a", &PublishOptions{OnEvict: func(err error) { evicted <- err }})
	require.NoError(t, err)
	o := &PublishOptions{}
	_, err = h.Publish(context.Background(), "live/a", o)
	require.NoError(t, err)
	require.ErrorIs(t, <-evicted, ErrReplaced)
	require.False(t, o.Replace, "it is the caller's")
	require.NoError(t, h.Declare("live/a", &Declaration{}))
	_, err = h.Publish(context.Background(), "live/a", o)
	require.ErrorIs(t, err, ErrBusy)
}
