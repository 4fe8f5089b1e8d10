package peer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Media is what ffprobe decoded from a file or a live stream.
type Media struct {
	Streams []Stream
	Video   []Frame
	Audio   []Frame
	Log     string // what ffprobe complained of
}

// A Stream is one elementary stream as ffprobe describes it.
type Stream struct {
	Index      int    `json:"index"`
	Codec      string `json:"codec_name"`
	Kind       string `json:"codec_type"`
	Profile    string `json:"profile"`
	Width      int    `json:"width"`
	Height     int    `json:"height"`
	SampleRate string `json:"sample_rate"`
	Channels   int    `json:"channels"`
}

// A Frame is a decoded picture or block of samples.
type Frame struct {
	PTS           time.Duration
	Key           bool
	Type          string // I, P or B for pictures
	Width, Height int
	Samples       int
}

// Probe decodes everything until the end of the input and fails the test if
// that does not come within the timeout. The arguments are options of ffprobe,
// then the input.
func Probe(t testing.TB, timeout time.Duration, args ...string) *Media {
	t.Helper()
	m, err := TryProbe(t, timeout, args...)
	require.NoError(t, err)
	return m
}

// TryProbe is Probe for an input that may be refused, and for any goroutine.
func TryProbe(t testing.TB, timeout time.Duration, args ...string) (*Media, error) {
	t.Helper()
	args = append([]string{"-v", "error", "-of", "json=c=1", "-show_entries",
		"frame=media_type,key_frame,pts_time,pict_type,width,height,nb_samples:" +
			"stream=index,codec_name,codec_type,profile,width,height,sample_rate,channels"}, args...)
	out, log, err := Try(t, timeout, "ffprobe", args...)
	if err != nil {
		return nil, fmt.Errorf("ffprobe %v: %w\n%s", args, err, log)
	}
	m := &Media{Log: log}
	var doc struct {
		Streams []Stream
		Frames  []struct {
			Kind    string `json:"media_type"`
			Key     int    `json:"key_frame"`
			PTS     string `json:"pts_time"`
			Type    string `json:"pict_type"`
			Width   int    `json:"width"`
			Height  int    `json:"height"`
			Samples int    `json:"nb_samples"`
		}
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return nil, err
	}
	m.Streams = doc.Streams
	for _, f := range doc.Frames {
		frame := Frame{PTS: seconds(f.PTS), Key: f.Key == 1, Type: f.Type, Width: f.Width, Height: f.Height, Samples: f.Samples}
		switch f.Kind {
		case "video":
			m.Video = append(m.Video, frame)
		case "audio":
			m.Audio = append(m.Audio, frame)
		}
	}
	return m, nil
}

// Codecs returns the streams' codecs, sorted.
func (m *Media) Codecs() []string {
	var names []string
	for _, s := range m.Streams {
		names = append(names, s.Codec)
	}
	slices.Sort(names)
	return names
}

// Sizes returns the sizes of the pictures, as "320x180", each time it changes.
func (m *Media) Sizes() []string {
	var sizes []string
	for _, f := range m.Video {
		if s := fmt.Sprintf("%dx%d", f.Width, f.Height); len(sizes) == 0 || sizes[len(sizes)-1] != s {
			sizes = append(sizes, s)
		}
	}
	return sizes
}

// Types returns how many pictures are of a type such as "B".
func (m *Media) Types(typ string) (n int) {
	for _, f := range m.Video {
		if f.Type == typ {
			n++
		}
	}
	return n
}

// Span is the time from the first to the last frame.
func Span(frames []Frame) time.Duration {
	if len(frames) == 0 {
		return 0
	}
	return frames[len(frames)-1].PTS - frames[0].PTS
}

// Gap is the largest distance between neighbours, and the smallest, which is
// below zero where time went back.
func Gap(frames []Frame) (largest, smallest time.Duration) {
	for i := 1; i < len(frames); i++ {
		d := frames[i].PTS - frames[i-1].PTS
		if i == 1 {
			largest, smallest = d, d
		}
		largest, smallest = max(largest, d), min(smallest, d)
	}
	return largest, smallest
}

func seconds(s string) time.Duration {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}
