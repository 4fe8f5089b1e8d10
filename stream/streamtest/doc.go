// Package streamtest lets a host test its own pipeline, without a camera, a
// network or the passing of time.
//
// A [Source] publishes an embedded clip, H.264 and AAC that any decoder plays,
// in real time and for as long as wanted; it is also a fine demo stream. A
// [Pattern] makes frames of any codec, small and without decodable content, by
// the thousand. A [Net] is a network in memory for servers and clients.
// [Collect] and [CheckTimeline] look at what comes out.
//
// All of it runs on the clock of testing/synctest: inside a bubble an hour of
// live media passes in the time that it takes to handle its frames, timeouts
// included, and every goroutine that is left over fails the test.
//
//	func TestRecorderSplitsAtKeyFrames(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			var hub stream.Hub
//			go (&streamtest.Source{Duration: time.Hour}).Run(t.Context(), &hub, "live/cam")
//			…
//		})
//	}
package streamtest
