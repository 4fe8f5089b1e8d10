package deliver_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A program publishes a stream, and somebody plays it over HTTP. Here both are
// at home, on a network in memory.
func Example() {
	hub := &stream.Hub{Grace: time.Minute} // so that the stream waits for its player
	defer hub.Close()
	players := &deliver.Server{Hub: hub, Auth: auth.AllowAll}

	var network streamtest.Net
	defer network.Close()
	ln, err := network.Listen("media.example:80")
	if err != nil {
		log.Fatal(err)
	}
	web := &http.Server{Handler: players}
	go web.Serve(ln)

	// One second of a clip, which ends when it has been played.
	clip := &streamtest.Source{Duration: time.Second, Speed: math.Inf(1)}
	if err := clip.Run(context.Background(), hub, "live/demo"); err != nil {
		log.Fatal(err)
	}

	resp, err := network.HTTPClient().Get("http://media.example/live/demo.flv")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status, resp.Header.Get("Content-Type"))

	// A player gets the header of the file, what is known of the stream, how
	// to decode it, then a key frame.
	body := bufio.NewReader(resp.Body)
	header := make([]byte, 9+4)
	io.ReadFull(body, header)
	fmt.Printf("%s, audio and video: %#x\n", header[:3], header[4])
	for range 4 {
		var tag [11]byte
		io.ReadFull(body, tag[:])
		size := binary.BigEndian.Uint32(tag[:]) & 0xFFFFFF
		first, _ := body.Peek(2)
		fmt.Printf("tag of type %d begins with %x\n", tag[0], first)
		body.Discard(int(size) + 4)
	}

	// Connections that were taken over from net/http are the Server's to end.
	web.Shutdown(context.Background())
	players.Shutdown(context.Background())
	_, err = io.Copy(io.Discard, body)
	fmt.Println("the end:", err)

	// Output:
	// 200 OK video/x-flv
	// FLV, audio and video: 0x5
	// tag of type 18 begins with 0200
	// tag of type 9 begins with 1700
	// tag of type 8 begins with af00
	// tag of type 9 begins with 1701
	// the end: <nil>
}
