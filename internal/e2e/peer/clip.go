package peer

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A Clip is a short piece of synthetic media that ffmpeg makes: a moving
// picture of 25 frames a second that turns white for two frames in the middle
// of each second, with an 80 ms beep. Whatever a server does to it, flash and
// beep must stay together.
type Clip struct {
	Name      string // file name; its extension chooses the container
	Seconds   int
	Size      string // "320x180" if empty
	NoVideo   bool
	NoAudio   bool
	Video     string  // ffmpeg's options for the video encoder, H.264 with a key frame every two seconds if empty
	Audio     string  // the same for the audio encoder, AAC if empty
	Join      []*Clip // FLV clips that follow, with other parameters, in the same file
	Container string  // further options, for the container
}

// FPS is the frame rate of every clip.
const FPS = 25

// The clips that tests publish.
var (
	AV        = &Clip{Name: "av.flv", Seconds: 5}
	VideoOnly = &Clip{Name: "video.flv", Seconds: 4, NoAudio: true}
	AudioOnly = &Clip{Name: "audio.flv", Seconds: 4, NoVideo: true}
	BFrames   = &Clip{Name: "bframes.flv", Seconds: 4, Video: x264 + " -bf 3 -x264-params b-adapt=0"}
	Resize    = &Clip{Name: "resize.flv", Seconds: 3, Join: []*Clip{{Name: "large.flv", Seconds: 3, Size: "480x270"}}}
)

const x264 = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -b:v 400k -g 50 -sc_threshold 0"

// Clip makes a clip and returns its path.
func (l *Lab) Clip(t testing.TB, c *Clip) string {
	t.Helper()
	Need(t, "ffmpeg")
	return l.File(t, c.Name, func(path string) {
		if len(c.Join) == 0 {
			c.encode(t, path)
			return
		}
		first := *c
		first.Name, first.Join = "first-"+c.Name, nil
		parts := []string{l.Clip(t, &first)}
		for _, next := range c.Join {
			parts = append(parts, l.Clip(t, next))
		}
		joinFLV(t, path, parts)
	})
}

func (c *Clip) encode(t testing.TB, path string) {
	size, video, audio := c.Size, c.Video, c.Audio
	if size == "" {
		size = "320x180"
	}
	if video == "" {
		video = x264 + " -bf 0"
	}
	if audio == "" {
		audio = "-c:a aac -b:a 96k"
	}
	args := []string{"-nostdin", "-v", "error", "-y"}
	if !c.NoVideo {
		args = append(args, "-f", "lavfi", "-i", "testsrc2=s="+size+":r="+strconv.Itoa(FPS)+
			",drawbox=c=white:t=fill:enable='lt(mod(t+0.5,1),0.079)'")
	}
	if !c.NoAudio {
		const beep = "0.5*sin(2*PI*1000*t)*lt(mod(t+0.5,1),0.08)"
		args = append(args, "-f", "lavfi", "-i", "aevalsrc='"+beep+"|"+beep+"':s=48000")
	}
	args = append(args, "-t", strconv.Itoa(c.Seconds))
	if !c.NoVideo {
		args = append(args, strings.Fields(video)...)
	}
	if !c.NoAudio {
		args = append(args, strings.Fields(audio)...)
	}
	args = append(append(args, strings.Fields(c.Container)...), path)
	Run(t, time.Minute, "ffmpeg", args...)
}

// joinFLV writes FLV files one behind the other into one, as an encoder does
// that changes its parameters without a new connection. Pictures and sound go
// on without a hole, at which MSE players would stop; sound that would overlap
// is left out.
func joinFLV(t testing.TB, path string, parts []string) {
	tags := make([][]flvTag, len(parts))
	var out []byte
	for i, part := range parts {
		b, err := os.ReadFile(part)
		require.NoError(t, err)
		if i == 0 {
			out = append(out, b[:13]...)
		}
		tags[i] = splitFLV(t, b[13:])
	}
	shift, next := int64(0), int64(0) // of the part, and of the one behind it
	for i := range tags {
		if i+1 < len(tags) {
			_, last := pictures(tags[i])
			first, _ := pictures(tags[i+1])
			next = shift + last + 1000/FPS - first
		}
		for _, tag := range tags[i] {
			ts := tag.ts + shift
			switch {
			case tag.kind == flvScript && i > 0: // ffprobe 5.1 crashes on a second onMetaData
			case tag.kind == flvAudio && i+1 < len(tags) && ts > next-11: // half a packet
			default:
				copy(tag.bytes[4:], []byte{byte(ts >> 16), byte(ts >> 8), byte(ts), byte(ts >> 24)})
				out = append(out, tag.bytes...)
			}
		}
		shift = next
	}
	require.NoError(t, os.WriteFile(path, out, 0o644))
}

const flvAudio, flvVideo, flvScript = 8, 9, 18

type flvTag struct {
	kind  byte
	ts    int64  // milliseconds
	bytes []byte // from the tag's type to the PreviousTagSize behind it
}

func splitFLV(t testing.TB, b []byte) (tags []flvTag) {
	const header, end = 11, 4
	for len(b) >= header {
		size := header + int(binary.BigEndian.Uint32(b)&0xffffff) + end
		require.GreaterOrEqual(t, len(b), size)
		tags = append(tags, flvTag{b[0], int64(binary.BigEndian.Uint32(b[4:])>>8 | uint32(b[7])<<24), b[:size]})
		b = b[size:]
	}
	return tags
}

// pictures returns the times of the first and the last picture.
func pictures(tags []flvTag) (first, last int64) {
	first = -1
	for _, tag := range tags {
		const packetType, nalUnits = 12, 1
		if tag.kind == flvVideo && tag.bytes[packetType] == nalUnits {
			if first < 0 {
				first = tag.ts
			}
			last = tag.ts
		}
	}
	return first, last
}
