package relay_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/relay"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// An edge has a stream from its origin while somebody reads it.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	origin := &relay.Relay{Hub: &stream.Hub{}, Auth: auth.AllowAll}
	defer origin.Hub.Close()
	web := httptest.NewServer(origin) // hosts mount it at relay.PathPrefix
	defer web.Close()
	go (&streamtest.Source{Duration: 10 * time.Second}).Run(ctx, origin.Hub, "live/cam")
	for origin.Hub.Stream("live/cam") == nil {
		time.Sleep(time.Millisecond)
	}

	edge := &relay.Relay{Hub: &stream.Hub{}, Origins: []string{"runnel://" + web.Listener.Addr().String()}}
	defer edge.Close()
	edge.Hub.Source = edge
	defer edge.Hub.Close()
	sub, err := edge.Hub.Subscribe(ctx, "live/cam", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sub.Close()
	for f, err := range sub.Frames(ctx) {
		fmt.Println(f.Track.Codec, f.DTS, err)
		break
	}
	fmt.Println(edge.Jobs()[0].Kind, edge.Jobs()[0].Running)
	// Output:
	// h264 0s <nil>
	// fetch true
}
