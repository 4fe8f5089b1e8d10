// Command inprocess publishes and reads a live stream from Go code: no server,
// no protocol, no ports. It prints what it reads for two seconds.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

func main() {
	if err := run(context.Background(), os.Stdout, 2*time.Second); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, d time.Duration) error {
	var hub stream.Hub
	defer hub.Close()

	publisher, err := hub.Publish(ctx, "live/cam", nil)
	if err != nil {
		return err
	}
	published := make(chan error, 1)
	go func() { published <- publish(publisher, d) }()

	// Any number of readers may come; each gets all frames from a key frame on.
	reader, err := hub.Subscribe(ctx, "live/cam", nil)
	if err != nil {
		return err
	}
	defer reader.Close()
	for f, err := range reader.Frames(ctx) {
		if err != nil {
			return err
		}
		if f.Key && f.Track.Kind() == stream.Video {
			info, _ := f.Track.Video()
			fmt.Fprintf(out, "%v: key frame, %s, %dx%d, %d bytes\n", f.DTS, f.Track.CodecString(), info.Width, info.Height, len(f.Data))
		}
	}
	for _, t := range reader.Stream().Stats().Tracks {
		fmt.Fprintf(out, "%v: %d frames, %d bytes\n", t.Track.Codec, t.Frames, t.Bytes)
	}
	return <-published
}

// publish writes frames when they are due, as a camera would: here they are
// those of a clip, but they may come from anywhere.
func publish(p *stream.Publisher, d time.Duration) error {
	defer p.Close()
	clip := &streamtest.Source{Duration: d}
	if err := p.SetTracks(clip.Tracks()...); err != nil {
		return err
	}
	start := time.Now()
	for f := range clip.Frames() {
		time.Sleep(time.Until(start.Add(f.DTS)))
		if err := p.Write(f); err != nil {
			return err
		}
	}
	return nil
}
