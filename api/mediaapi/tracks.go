package mediaapi

import "github.com/runnel-media/runnel/stream"

type trackInfo struct {
	ID          uint8        `json:"id"`
	Kind        string       `json:"kind"`
	Codec       stream.Codec `json:"codec"`
	CodecString string       `json:"codec_string,omitempty"` // RFC 6381
	Language    string       `json:"language,omitempty"`
	Profile     string       `json:"profile,omitempty"`
	Level       string       `json:"level,omitempty"`
	Width       int          `json:"width,omitempty"`
	Height      int          `json:"height,omitempty"`
	SampleRate  int          `json:"sample_rate,omitempty"`
	Channels    int          `json:"channels,omitempty"`
	*trackFigures
}

// trackFigures are what a track in an event has not.
type trackFigures struct {
	Frames      uint64  `json:"frames"`
	Bytes       uint64  `json:"bytes"`
	FrameRate   float64 `json:"frame_rate"`
	KeyInterval float64 `json:"key_interval"` // seconds
}

func describeTrack(t *stream.Track) trackInfo {
	info := trackInfo{ID: t.ID, Kind: t.Kind().String(), Codec: t.Codec, CodecString: t.CodecString(), Language: t.Language}
	switch t.Kind() { // an error leaves out what is not known
	case stream.Video:
		v, _ := t.Video()
		info.Profile, info.Level, info.Width, info.Height = v.Profile, v.Level, v.Width, v.Height
	case stream.Audio:
		a, _ := t.Audio()
		info.Profile, info.SampleRate, info.Channels = a.Profile, a.Rate, a.Channels
	}
	return info
}
