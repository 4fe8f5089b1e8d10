package stream_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A program publishes a stream and reads it back. A real one writes what an
// encoder gives it, and does the two in goroutines of their own.
func Example() {
	ctx := context.Background()
	var hub stream.Hub
	defer hub.Close()

	pub, err := hub.Publish(ctx, "live/demo", nil)
	if err != nil {
		log.Fatal(err)
	}
	video := &stream.Track{ID: 1, Codec: stream.VP8}
	audio := &stream.Track{ID: 2, Codec: stream.PCMU, Rate: 8000, Channels: 1}
	if err := pub.SetTracks(video, audio); err != nil {
		log.Fatal(err)
	}

	// The encoder's clock starts anywhere; the stream's starts at zero.
	for i := range int64(4) {
		at := stream.FromTicks(900_000+3600*i, 90000) // 25 frames a second
		pub.Write(&stream.Frame{Track: video, DTS: at, PTS: at, Key: i%2 == 0, Data: []byte{0x10}})
		pub.Write(&stream.Frame{Track: audio, DTS: at, PTS: at, Key: true, Data: make([]byte, 320)})
	}

	// Who joins now starts at the newest key frame.
	sub, err := hub.Subscribe(ctx, "live/demo", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()
	for _, t := range sub.Tracks() {
		fmt.Println("track", t.ID, t.Kind(), t.Codec)
	}
	pub.Close()
	for f, err := range sub.Frames(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(f.Track.Codec, f.DTS, f.Key, len(f.Data))
	}
	// Output:
	// track 1 video vp8
	// track 2 audio pcmu
	// vp8 80ms true 1
	// pcmu 80ms true 320
	// vp8 120ms false 1
	// pcmu 120ms true 320
}

// A second publisher of the same name is refused, unless it says otherwise.
func ExampleHub_Publish() {
	ctx := context.Background()
	var hub stream.Hub
	defer hub.Close()

	first, _ := hub.Publish(ctx, "live/demo", nil)
	_, err := hub.Publish(ctx, "live/demo", nil)
	fmt.Println(errors.Is(err, stream.ErrBusy))

	second, err := hub.Publish(ctx, "live/demo", &stream.PublishOptions{Replace: true})
	fmt.Println(err)
	fmt.Println(errors.Is(first.SetTracks(), stream.ErrReplaced))
	fmt.Println(second.SetTracks())
	// Output:
	// true
	// <nil>
	// true
	// <nil>
}

// A reader may come before the publisher.
func ExampleHub_Subscribe_wait() {
	ctx := context.Background()
	var hub stream.Hub
	defer hub.Close()

	_, err := hub.Subscribe(ctx, "live/later", nil)
	fmt.Println(errors.Is(err, stream.ErrNotFound))

	time.AfterFunc(10*time.Millisecond, func() {
		hub.Publish(ctx, "live/later", nil)
	})
	sub, err := hub.Subscribe(ctx, "live/later", &stream.SubscribeOptions{Wait: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()
	fmt.Println(sub.Stream().Name())
	// Output:
	// true
	// live/later
}

// Events tell what happens in a hub, in order.
func ExampleHub_Events() {
	ctx := context.Background()
	var hub stream.Hub
	events := hub.Events(ctx)

	pub, _ := hub.Publish(ctx, "live/demo", nil)
	pub.Stream().End(stream.ErrKicked)
	hub.Close()

	for e := range events {
		switch e := e.(type) {
		case stream.StreamStarted:
			fmt.Println(e.Stream, "started")
		case stream.StreamEnded:
			fmt.Println(e.Stream, "ended:", e.Err)
		}
	}
	// Output:
	// live/demo started
	// live/demo ended: stream: session ended by an operator
}

// An edge fetches what viewers ask for and nobody publishes here.
func ExampleSource() {
	var hub stream.Hub
	hub.Source = origin{}
	defer hub.Close()

	sub, err := hub.Subscribe(context.Background(), "live/far", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()
	fmt.Println(sub.Stream().Name())

	_, err = hub.Subscribe(context.Background(), "live/nowhere", nil)
	fmt.Println(errors.Is(err, stream.ErrNotFound))
	// Output:
	// live/far
	// true
}

type origin struct{}

func (origin) Fetch(ctx context.Context, hub *stream.Hub, key string) error {
	if key != "live/far" {
		return stream.ErrNotFound
	}
	pub, err := hub.Publish(ctx, key, nil)
	if err != nil {
		return err
	}
	defer pub.Close()
	<-ctx.Done() // a real one copies frames until then
	return ctx.Err()
}
