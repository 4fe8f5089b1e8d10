package transcode_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
	"github.com/runnel-media/runnel/stream/transcode"
)

// Two smaller sizes beside each stream below live/. No ffmpeg runs before somebody reads
// one of them.
func ExampleLadder() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	hub := &stream.Hub{}
	defer hub.Close()
	events := hub.Events(ctx)
	ladder := &transcode.Ladder{
		Hub:   hub,
		Match: func(name string) bool { return name == "live/cam" },
		Steps: []transcode.Step{
			{Name: "240p", Height: 240, BitRate: 300e3},
			{Name: "144p", Height: 144, BitRate: 120e3, FPS: 15},
			{Name: "1080p", Height: 1080, BitRate: 4e6}, // larger than the source: left out
		},
	}
	go func() { _ = ladder.Run(ctx) }() // ends with ctx

	go func() { _ = (&streamtest.Source{}).Run(ctx, hub, "live/cam") }() // likewise
	for e := range events {
		if _, ok := e.(stream.RenditionsChanged); ok {
			break
		}
	}
	for _, r := range slices.Backward(hub.Stream("live/cam").Renditions()) {
		info := r.Info()
		fmt.Println(info.Name, info.Width, info.Height, info.Bandwidth)
	}
	// Output:
	// 144p 256 144 120000
	// 240p 426 240 300000
}
