package runnel_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A server is a Hub between an ingest.Server and a deliver.Server. Here it runs
// on a network in memory; on a real one the listeners are net.Listen's.
func Example() {
	hub := &stream.Hub{}
	defer hub.Close()
	who := auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		if r.Action == auth.Play && r.Stream == "live/demo" {
			return nil, nil
		}
		return nil, auth.ErrDenied
	})
	in := &ingest.Server{Hub: hub, Auth: who}
	out := &deliver.Server{Hub: hub, Auth: who}
	defer in.Close()
	defer out.Close()

	network := &streamtest.Net{}
	defer network.Close()
	rtmp, _ := network.Listen("localhost:1935")
	web, _ := network.Listen("localhost:8080")
	go in.ServeRTMP(rtmp, out)
	go http.Serve(web, out)

	// A publisher: here Go code, as well ffmpeg at rtmp://localhost/live/demo.
	pub, err := hub.Publish(context.Background(), "live/demo", nil)
	if err != nil {
		panic(err)
	}
	defer pub.Close()
	tone := streamtest.Source{NoVideo: true}
	pub.SetTracks(tone.Tracks()...)
	for f := range tone.Frames() {
		pub.Write(f)
		if f.DTS.Seconds() > 1 {
			break
		}
	}

	for _, name := range []string{"demo", "secret"} {
		res, err := network.HTTPClient().Get("http://localhost:8080/live/" + name + ".flv")
		if err != nil {
			panic(err)
		}
		var head [3]byte
		io.ReadFull(res.Body, head[:])
		res.Body.Close()
		fmt.Printf("%s: %s %q\n", name, res.Status, head)
	}
	// Output:
	// demo: 200 OK "FLV"
	// secret: 401 Unauthorized "a t"
}
