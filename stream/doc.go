// Package stream is live media in process: a Hub of named streams, each with
// one Publisher and any number of Subscribers that read its Frames at their
// own pace.
//
// It knows no protocol and no container. Package ingest turns connections into
// publishers, package deliver turns streams into what players understand, and a
// Go program can be either by itself:
//
//	var hub stream.Hub
//	pub, err := hub.Publish(ctx, "live/demo", nil)
//	…
//	pub.SetTracks(video, audio)
//	pub.Write(&stream.Frame{Track: video, DTS: dts, PTS: pts, Key: true, Data: nals})
//
// # Time
//
// Frames carry decoding and presentation times since the start of the stream.
// Publisher.Write repairs what publishers get wrong (see Jitter) and keeps the
// line going when one publisher follows another; the first frame after a break
// says so in Discontinuity.
//
// # Slow readers
//
// A publisher never waits. The hub keeps the newest group of pictures of each
// stream, so that late joiners start at once, and beyond it what attached
// readers have yet to read, within the bounds of Cache. A reader that falls out
// of them skips to the newest key frame.
package stream
