package webrtc

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/deliver/whep"
	"github.com/runnel-media/runnel/ingest/whip"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// TestClients: a stream goes by a whip.Client to a server, and by a whep.Client from
// there to another hub, where it is what it was, in time.
func TestClients(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	log := slog.New(slog.DiscardHandler)
	from, to := &stream.Hub{Log: log}, &stream.Hub{Log: log}
	defer from.Close()
	defer to.Close()
	in, err := from.Publish(t.Context(), "live/in", nil)
	require.NoError(t, err)
	pattern := streamtest.Pattern{Audio: stream.Opus}
	require.NoError(t, in.SetTracks(pattern.Tracks()...))
	const enough = 4 * 75 // frames of four seconds

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	written := make(map[*stream.Track][]*stream.Frame)
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		var begun time.Time
		for f := range pattern.Frames(1 << 20) {
			if begun.IsZero() {
				begun = time.Now().Add(-f.DTS)
			}
			select {
			case <-time.After(time.Until(begun.Add(f.DTS))):
			case <-ctx.Done():
				return
			}
			// A pattern's frames repeat themselves; these have a number.
			f.Data = bytes.Clone(f.Data)
			binary.BigEndian.PutUint32(f.Data[len(f.Data)-4:], uint32(len(written[f.Track])))
			copied := *f
			written[f.Track] = append(written[f.Track], &copied)
			if in.Write(f) != nil {
				return
			}
		}
	}()

	sub, err := from.Subscribe(ctx, "live/in", nil)
	require.NoError(t, err)
	published := make(chan error, 1)
	go func() { published <- (&whip.Client{URL: s.http + "/whip/live/a", Log: log}).Publish(ctx, sub) }()
	player := &whep.Client{URL: s.http + "/whep/live/a", Log: log}
	out, err := to.Publish(t.Context(), "live/out", &stream.PublishOptions{OnKeyRequest: player.RequestKey})
	require.NoError(t, err)
	played := make(chan error, 1)
	read, err := to.Subscribe(ctx, "live/out", nil)
	require.NoError(t, err)
	go func() { played <- player.Play(ctx, out) }()

	var got []*stream.Frame
	reading, stop := context.WithTimeout(ctx, live)
	defer stop()
	for f, err := range read.Frames(reading) {
		if err != nil {
			select {
			case err = <-published:
			case err = <-played:
			default:
			}
			require.NoError(t, err, "after %d frames", len(got))
		}
		if got = append(got, f); len(got) == enough {
			break
		}
	}
	cancel()
	<-wrote
	require.ErrorIs(t, <-published, context.Canceled)
	require.ErrorIs(t, <-played, context.Canceled)
	require.Eventually(t, func() bool { return s.transport.Sessions() == 0 }, live, 10*time.Millisecond, "both have said good-bye")

	// Each frame is one that was written, the next after the one before, and what is
	// between the times of the two kinds is what was.
	var offsets [2]time.Duration
	for i, kind := range []stream.Kind{stream.Video, stream.Audio} {
		var all, mine []*stream.Frame
		for track, frames := range written {
			if track.Kind() == kind {
				all = frames
			}
		}
		for _, f := range got {
			if f.Track.Kind() == kind {
				mine = append(mine, f)
			}
		}
		require.Greater(t, len(mine), 50)
		at := -1
		for k := 0; k+len(mine) <= len(all) && at < 0; k++ {
			at = k
			for n, f := range mine {
				if !bytes.Equal(f.Data, all[k+n].Data) || f.Key != all[k+n].Key {
					at = -1
					break
				}
			}
		}
		require.GreaterOrEqual(t, at, 0, "%v is not what was sent", kind)
		require.Equal(t, all[0].Track.Codec, mine[0].Track.Codec)
		last := len(mine) - 1
		require.InDelta(t, float64(all[at+last].PTS-all[at+last/2].PTS), float64(mine[last].PTS-mine[last/2].PTS), float64(2*time.Millisecond))
		offsets[i] = mine[last].PTS - all[at+last].PTS
	}
	require.InDelta(t, float64(offsets[0]), float64(offsets[1]), float64(40*time.Millisecond))
}

// TestClientRefused: what an endpoint answers is told.
func TestClientRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.whep.Wait = 0
	hub := &stream.Hub{Log: slog.New(slog.DiscardHandler)}
	defer hub.Close()
	out, err := hub.Publish(t.Context(), "live/out", nil)
	require.NoError(t, err)
	err = (&whep.Client{URL: s.http + "/whep/live/none"}).Play(t.Context(), out)
	require.ErrorIs(t, err, whep.ErrRefused)
	var refused *whep.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusNotFound, refused.Status)
	require.Equal(t, "no such stream", refused.Reason)
}
