package streamtest_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// One second of the clip goes through a hub as fast as it can be read.
func ExampleSource() {
	ctx := context.Background()
	var hub stream.Hub
	defer hub.Close()

	publisher, err := hub.Publish(ctx, "live/cam", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	reader, err := hub.Subscribe(ctx, "live/cam", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		defer publisher.Close()
		src := &streamtest.Source{Duration: time.Second, Speed: math.Inf(1)}
		src.Feed(ctx, publisher)
	}()

	frames := make(map[stream.Kind]int)
	for f, err := range reader.Frames(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		frames[f.Track.Kind()]++
	}
	for _, t := range reader.Tracks() {
		fmt.Println(t.CodecString(), frames[t.Kind()], "frames")
	}
	// Output:
	// avc1.64001f 25 frames
	// mp4a.40.2 47 frames
}

// A demo stream runs beside the host's own until the context ends.
func ExampleSource_Run() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var hub stream.Hub
	defer hub.Close()

	var demo streamtest.Source
	err := demo.Run(ctx, &hub, "live/demo")
	fmt.Println(err)
	// Output: context deadline exceeded
}

// Frames with B pictures come in decoding order.
func ExamplePattern() {
	p := &streamtest.Pattern{BFrames: 2, KeyInterval: 7, NoAudio: true}
	for f := range p.Frames(8) {
		fmt.Println(f.DTS, f.PTS, f.Key, f.Discardable)
	}
	// Output:
	// 0s 40ms true false
	// 40ms 160ms false false
	// 80ms 80ms false true
	// 120ms 120ms false true
	// 160ms 280ms false false
	// 200ms 200ms false true
	// 240ms 240ms false true
	// 280ms 320ms true false
}

// CheckTimeline and Collect take a *testing.T; here something stands in for it.
func ExampleCheckTimeline() {
	frames := slices.Collect(new(streamtest.Pattern).Frames(500))
	frames = slices.Delete(frames, 100, 110)
	streamtest.CheckTimeline(printer{}, frames, 50*time.Millisecond)
	// Output:
	// streamtest: frame 100, track 1: DTS 1.52s leaves a gap of 160ms
	// streamtest: frame 101, track 2: DTS 1.536s leaves a gap of 170.666667ms
}

type printer struct{}

func (printer) Helper()                           {}
func (printer) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (printer) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// Any host name can be served and dialed; no port of the machine is used.
func ExampleNet() {
	var network streamtest.Net
	defer network.Close()
	listener, err := network.Listen("media.example:80")
	if err != nil {
		fmt.Println(err)
		return
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s%s", r.Host, r.URL.Path)
	})}
	go server.Serve(listener)
	defer server.Close()

	res, err := network.HTTPClient().Get("http://media.example/live/demo.flv")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Println(string(body))
	// Output: media.example/live/demo.flv
}
