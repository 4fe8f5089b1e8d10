// Package dash writes the manifest of MPEG-DASH (ISO/IEC 23009-1, below "DASH")
// for what an hls.Packager holds: the same CMAF segments under the same names,
// cut and stored once for both.
//
// The manifest (MPD) is dynamic while the stream lives: a SegmentTimeline lists
// exactly the segments that are complete, so that a player need not guess from
// its clock what there is. When the stream has ended the MPD is static.
//
// # Periods
//
// A Period begins where the timeline or a decoder configuration breaks, and
// where a rendition begins, falls silent or comes back, since segments of a
// Period are numbered without holes and its AdaptationSets do not change. A
// Period's id, start and presentationTimeOffset must be the same in each update
// of the MPD (DASH 5.4.1), also when its first segment has long left the
// window. So a Manifest remembers them from when it first told of the Period.
//
// Presentation times count from availabilityStartTime. Within a Period the media's
// own clock counts, and the next Period begins directly behind the last one: of
// the time that a publisher was away nothing is seen, but the presentation is
// late by it from then on, as timeShiftBufferDepth tells. A Period that would be
// late by more than a minute begins where the wall clock says, by Segment.Time.
package dash
