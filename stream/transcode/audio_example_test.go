package transcode_test

import (
	"context"
	"fmt"
	"log"
	"math"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
	"github.com/runnel-media/runnel/stream/transcode"
	"github.com/runnel-media/runnel/stream/transcode/goaac"
)

// The sound of a camera's stream with AAC is read as Opus, as a browser's WebRTC wants
// it. An output finds the rendition by its tracks, and asks for it by its name.
func ExampleAudio() {
	hub := &stream.Hub{}
	defer hub.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	events := hub.Events(ctx)
	audio := &transcode.Audio{Hub: hub, AAC: goaac.Codec{}} // AAC is under the LGPL
	go audio.Run(ctx)
	go (&streamtest.Source{Speed: math.Inf(1)}).Run(ctx, hub, "live/cam")
	for e := range events { // the stream is there, then its renditions
		if _, ok := e.(stream.RenditionsChanged); ok {
			break
		}
	}

	s := hub.Stream("live/cam")
	for _, r := range s.Renditions() {
		for _, t := range r.Tracks() {
			if t.Codec != stream.Opus {
				continue
			}
			sub, err := hub.Subscribe(ctx, "live/cam", &stream.SubscribeOptions{Rendition: r.Name()})
			if err != nil {
				log.Fatal(err)
			}
			defer sub.Close()
			for f, err := range sub.Frames(ctx) {
				if err != nil {
					log.Fatal(err)
				}
				fmt.Println("the rendition", r.Name(), "is", f.Track.Codec, "at", f.Track.Rate, "Hz")
				return
			}
		}
	}
	// Output: the rendition opus is opus at 48000 Hz
}
