package mediaapi

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// An EventSource brings in what happens elsewhere, such as in a TURN server:
// *turnapi.Handler has one's figures.
type EventSource struct {
	Kinds []string // that there are
	// Listen yields the events from now on with their kinds, until ctx ends. It
	// is ranged over once. It must not wait for whoever listens.
	Listen func(ctx context.Context) iter.Seq2[string, any]
}

// An eventInfo is an event; its fields are those that its kind has.
type eventInfo struct {
	Time        time.Time    `json:"time,omitzero"`
	Stream      string       `json:"stream,omitempty"`
	SessionID   string       `json:"session_id,omitempty"` // of the publisher
	Tracks      []trackInfo  `json:"tracks,omitempty"`
	Session     *sessionInfo `json:"session,omitempty"`
	StreamStats *endedStream `json:"stats,omitempty"`
	Title       string       `json:"title,omitempty"`    // of a declaration
	File        string       `json:"file,omitempty"`     // of a recording, or a segment of HLS
	Size        int64        `json:"size,omitempty"`     // of it, in bytes
	Duration    float64      `json:"duration,omitempty"` // of it, in seconds
	Playlist    string       `json:"playlist,omitempty"` // that has the segment
	Sequence    *uint64      `json:"sequence,omitempty"` // of the segment in it
	Codec       string       `json:"codec,omitempty"`    // of sound
	Wanted      string       `json:"wanted,omitempty"`   // the codec that it cannot be had in
	Reason      string       `json:"reason,omitempty"`
	Lost        int          `json:"count,omitempty"`
}

// An endedStream is what a stream came to.
type endedStream struct {
	Frames        uint64  `json:"frames"`
	Bytes         uint64  `json:"bytes"`
	DroppedFrames uint64  `json:"dropped_frames"`
	Duration      float64 `json:"duration"` // seconds
}

// eventsLost is the kind that nobody filters out.
const eventsLost = "events_lost"

// eventKinds are the names of the hub's events.
var eventKinds = []string{
	"stream_started", "publisher_changed", "tracks_changed", "renditions_changed", "stream_ended", "session_opened", "session_closed",
	"stream_declared", "stream_undeclared", "recording_started", "recording_ended", "storage_failed",
	"segment_stored", "sound_missing", eventsLost,
}

// describeEvent returns the name of an event, "" if it has none, and what it
// says.
func describeEvent(e stream.Event) (kind string, info eventInfo) {
	switch e := e.(type) {
	case stream.StreamStarted:
		return "stream_started", eventInfo{Time: e.Time, Stream: e.Stream, SessionID: e.Session}
	case stream.PublisherChanged:
		return "publisher_changed", eventInfo{Time: e.Time, Stream: e.Stream, SessionID: e.Session}
	case stream.TracksChanged:
		info := eventInfo{Time: e.Time, Stream: e.Stream, Tracks: []trackInfo{}}
		for _, t := range e.Tracks {
			info.Tracks = append(info.Tracks, describeTrack(t))
		}
		return "tracks_changed", info
	case stream.RenditionsChanged:
		return "renditions_changed", eventInfo{Time: e.Time, Stream: e.Stream}
	case stream.StreamEnded:
		return "stream_ended", eventInfo{Time: e.Time, Stream: e.Stream, Reason: reason(e.Err), StreamStats: &endedStream{
			e.Stats.Frames, e.Stats.Bytes, e.Stats.Dropped, e.Stats.Uptime.Seconds(),
		}}
	case stream.SessionOpened:
		return "session_opened", eventInfo{Time: e.Time, Stream: e.Session.Stream, Session: &sessionInfo{SessionInfo: e.Session}}
	case stream.SessionClosed:
		return "session_closed", eventInfo{
			Time: e.Time, Stream: e.Session.Stream, Session: &sessionInfo{e.Session, figuresOf(e.Stats)}, Reason: reason(e.Err),
		}
	case stream.StreamDeclared:
		return "stream_declared", eventInfo{Time: e.Time, Stream: e.Stream, Title: e.Declaration.Title}
	case stream.StreamUndeclared:
		return "stream_undeclared", eventInfo{Time: e.Time, Stream: e.Stream}
	case stream.RecordingStarted:
		return "recording_started", eventInfo{Time: e.Time, Stream: e.Stream, File: e.Name}
	case stream.RecordingEnded:
		return "recording_ended", eventInfo{
			Time: e.Time, Stream: e.Stream, File: e.Name, Size: e.Size, Duration: e.Duration.Seconds(), Reason: reason(e.Err),
		}
	case stream.StorageFailed:
		return "storage_failed", eventInfo{Time: e.Time, Stream: e.Stream, File: e.Name, Reason: reason(e.Err)}
	case stream.SegmentStored:
		return "segment_stored", eventInfo{
			Time: e.Time, Stream: e.Stream, File: e.Name, Playlist: e.Playlist, Sequence: &e.Sequence, Duration: e.Duration.Seconds(),
		}
	case stream.SoundMissing:
		return "sound_missing", eventInfo{Time: e.Time, Stream: e.Stream, Codec: e.Codec.String(), Wanted: e.Wanted.String()}
	case stream.EventsLost:
		return eventsLost, eventInfo{Lost: e.Count}
	}
	return "", info
}

// reason is a word for an error, "" for none. The text of errors is for the
// log.
func reason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, stream.ErrKicked):
		return "kicked"
	case errors.Is(err, stream.ErrReplaced):
		return "replaced"
	case errors.Is(err, stream.ErrSlow):
		return "slow"
	case errors.Is(err, auth.ErrDenied):
		return "denied"
	case errors.Is(err, stream.ErrClosed):
		return "closed"
	}
	return "error"
}
