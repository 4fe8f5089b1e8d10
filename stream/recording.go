package stream

import "time"

// RecordingStarted: frames of a stream are being written to a file, or to the next
// one.
type RecordingStarted struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"`
	Name   string    `json:"name"` // of the file
}

// RecordingEnded: the file is complete and can be played; with Err it is what there
// was before that happened.
type RecordingEnded struct {
	Time     time.Time     `json:"time"`
	Stream   string        `json:"stream"`
	Name     string        `json:"name"`
	Size     int64         `json:"size"`     // bytes
	Duration time.Duration `json:"duration"` // nanoseconds
	Err      error         `json:"-"`
}

func (RecordingStarted) event() {}
func (RecordingEnded) event()   {}

// ReportRecording emits an event about a recording, which is a RecordingStarted or
// a RecordingEnded: for those who record what they read of a stream.
func (h *Hub) ReportRecording(e Event) {
	switch e.(type) {
	case RecordingStarted, RecordingEnded:
		h.emit(e)
	}
}
