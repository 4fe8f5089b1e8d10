package stream

import "time"

// SoundMissing: the sound of a stream cannot be had in a codec that players may
// need. The pictures go on.
type SoundMissing struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"`
	Codec  Codec     `json:"codec"` // of the stream
	Wanted Codec     `json:"wanted"`
	Err    error     `json:"-"` // why; ErrUnsupported, if the codec or the stream is not of a kind that can be transcoded
}

func (SoundMissing) event() {}

// ReportSoundMissing emits a SoundMissing event, for those who make renditions.
func (h *Hub) ReportSoundMissing(e SoundMissing) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	h.emit(e)
}
