package streamtest_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream/streamtest"
)

const (
	turn         = 8 * time.Second // of the clip
	turnPictures = 200
	turnSamples  = 8 * 48000
)

// TestClipDecodes lets ffmpeg decode three turns of the clips. No decoder may
// complain, and the loop point must not be seen or heard.
func TestClipDecodes(t *testing.T) {
	for _, tool := range []string{"ffmpeg", "ffprobe"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("RUNNEL_E2E") == "1" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	for name, src := range map[string]*streamtest.Source{
		"main":     {Duration: 3 * turn},
		"b-frames": {Duration: 3 * turn, BFrames: true},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "clip.flv")
			require.NoError(t, os.WriteFile(file, flvFile(t, src), 0o600))

			decode := []string{"-v", "warning", "-xerror", "-err_detect", "explode", "-i", file}
			pictures := strings.Split(strings.TrimSpace(string(run(t, "ffmpeg",
				append(decode, "-map", "0:v", "-fps_mode", "passthrough", "-f", "framehash", "-hash", "md5", "-")...))), "\n")
			for len(pictures) > 0 && strings.HasPrefix(pictures[0], "#") {
				pictures = pictures[1:]
			}
			require.Len(t, pictures, 3*turnPictures)
			for i, line := range pictures[turnPictures:] {
				before := pictures[i]
				require.Equal(t, before[strings.LastIndex(before, ","):], line[strings.LastIndex(line, ","):], "picture %d", i)
			}

			raw := run(t, "ffmpeg", append(decode, "-map", "0:a", "-f", "s16le", "-")...)
			pcm := make([]int16, len(raw)/2)
			require.NoError(t, binary.Read(bytes.NewReader(raw), binary.LittleEndian, pcm))
			const perTurn = 2 * turnSamples // both channels
			require.Len(t, pcm, 3*perTurn)
			worst := 0
			for i := range perTurn {
				difference := int(pcm[perTurn+i]) - int(pcm[2*perTurn+i])
				worst = max(worst, difference, -difference)
			}
			require.LessOrEqual(t, worst, 30, "the turns sound different") // decoders replace noise by noise
			// A click is a step between samples that is larger than any within the clip.
			seam := largestStep(pcm[2*perTurn-4096 : 2*perTurn+4096])
			require.LessOrEqual(t, seam, largestStep(pcm[perTurn+4096:2*perTurn-4096]))
		})
	}
}

func largestStep(stereo []int16) (most int) {
	for i := 2; i < len(stereo); i++ {
		step := int(stereo[i]) - int(stereo[i-2])
		most = max(most, step, -step)
	}
	return most
}

func flvFile(t *testing.T, src *streamtest.Source) []byte {
	b := flv.AppendFileHeader(nil, true, true)
	for _, track := range src.Tracks() {
		config, err := flv.AppendConfigBody(nil, track)
		require.NoError(t, err)
		b, err = flv.AppendTag(b, flv.TagType(track), 0, config, nil)
		require.NoError(t, err)
	}
	for f := range src.Frames() {
		header, err := flv.AppendFrameHeader(nil, f)
		require.NoError(t, err)
		b, err = flv.AppendTag(b, flv.TagType(f.Track), flv.Timestamp(f), header, f.Data)
		require.NoError(t, err)
	}
	return b
}

// run returns what a program prints. It must succeed and have nothing to say
// on standard error.
func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, append([]string{"-nostdin"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	require.Empty(t, stderr.String())
	require.NoError(t, err)
	return stdout.Bytes()
}
