package record

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// TestSoakMany records 200 streams of 1 Mbit/s at once, and no reader of any of them
// misses a frame.
func TestSoakMany(t *testing.T) {
	if os.Getenv("RUNNEL_SOAK") != "1" {
		t.Skip("takes half a minute: RUNNEL_SOAK=1")
	}
	const streams, seconds = 200, 20
	hub := &stream.Hub{}
	events := hub.Events(t.Context())
	storage := &record.Dir{Path: t.TempDir()}
	defer storage.Close()
	r := &record.Recorder{Hub: hub, Storage: storage, Log: slog.New(slog.DiscardHandler), Match: func(string) bool { return true }, Name: "{name}"}
	ran := make(chan error, 1)
	go func() { ran <- r.Run(context.Background()) }()
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 10 * time.Millisecond)
			p := &streamtest.Pattern{KeySize: 20_000, FrameSize: 4200}
			pub, err := hub.Publish(t.Context(), fmt.Sprintf("live/%d", i), nil)
			if err != nil || pub.SetTracks(p.Tracks()...) != nil {
				t.Error(err)
				return
			}
			sub, err := hub.Subscribe(t.Context(), fmt.Sprintf("live/%d", i), nil)
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() {
				streamtest.Collect(context.Background(), t, sub, -1)
				if n := sub.Dropped(); n > 0 {
					t.Errorf("stream %d: %d frames dropped", i, n)
				}
			})
			if err := streamtest.Feed(t.Context(), pub, p.Frames(72*seconds), 1); err != nil {
				t.Error(err)
			}
			pub.Close()
		})
	}
	wg.Wait()
	hub.Close()
	require.NoError(t, <-ran)
	for e := range events {
		if e, ok := e.(stream.StorageFailed); ok {
			t.Errorf("%+v", e)
		}
	}
	list, err := (&record.Library{Storage: storage}).List(t.Context(), record.Query{})
	require.NoError(t, err)
	require.Len(t, list, streams)
	for _, info := range list {
		require.InDelta(t, seconds, info.Duration.Seconds(), 0.5, info.Name)
		require.EqualValues(t, 72*seconds, info.Frames, info.Name)
	}
}
