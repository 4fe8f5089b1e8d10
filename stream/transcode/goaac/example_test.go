package goaac_test

import (
	"fmt"
	"log"

	"github.com/runnel-media/runnel/stream/transcode"
	"github.com/runnel-media/runnel/stream/transcode/goaac"
)

// A codec works without a stream, too.
func ExampleCodec() {
	encoder, err := goaac.Codec{BitRate: 96000}.NewEncoder(transcode.Format{Rate: 48000, Channels: 2})
	if err != nil {
		log.Fatal(err)
	}
	defer encoder.Close()
	decoder, err := goaac.Codec{}.NewDecoder(encoder.Track())
	if err != nil {
		log.Fatal(err)
	}
	defer decoder.Close()

	silence := make([]float32, encoder.FrameSize()*2)
	var samples []float32
	for range 3 {
		packet, err := encoder.Encode(nil, silence)
		if err != nil {
			log.Fatal(err)
		}
		if len(packet) == 0 {
			continue // it looks ahead
		}
		if samples, err = decoder.Decode(samples, packet); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(len(samples)/2, "moments, the first", encoder.Delay(), "from before the sound began")
	// Output: 2048 moments, the first 1024 from before the sound began
}
