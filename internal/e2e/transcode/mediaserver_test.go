package transcode

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// A mediaserver is examples/mediaserver with -transcode, as a process.
type mediaserver struct {
	*peer.Process
	rtmp, http string
}

func startMediaserver(t *testing.T, file string, flags ...string) *mediaserver {
	t.Helper()
	path := filepath.Join(t.TempDir(), "transcode.yaml")
	require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
	rtmp, web := peer.FreeAddr(t), peer.FreeAddr(t)
	m := &mediaserver{rtmp: "rtmp://" + rtmp, http: "http://" + web}
	m.Process = peer.Start(t, program(t, "mediaserver"), append([]string{
		"-rtmp", rtmp, "-http", web, "-demo=false", "-srt=", "-webrtc=", "-transcode", path, "-hls-segment", "1s"}, flags...)...)
	peer.Eventually(t, 30*time.Second, "an answer at "+m.http, func() bool {
		r, err := http.Get(m.http)
		if err != nil {
			return false
		}
		r.Body.Close()
		return true
	})
	return m
}

// publish publishes a clip again and again.
func (m *mediaserver) publish(t *testing.T, clip *peer.Clip, name string) *peer.Process {
	t.Helper()
	return peer.Start(t, "ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", lab.Clip(t, clip), "-c", "copy", "-f", "flv", m.rtmp+"/"+name)
}

func get(t *testing.T, url string) (int, http.Header, []byte) {
	t.Helper()
	r, err := http.Get(url)
	require.NoError(t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r.StatusCode, r.Header, b
}

const small = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -b:v 300k -g 25 -sc_threshold 0 -bf 0"

// TestLadder: ffmpeg publishes by RTMP, and reads by HLS the picture in three sizes with
// key frames at the same times, and each together with the sound.
func TestLadder(t *testing.T) {
	t.Parallel()
	m := startMediaserver(t, `
ffmpeg: {limits: {nice: 5, memory: 4GB}}
ladders:
  - streams: ["live/*"]
    renditions:
      - {name: 120p, height: 120, bitrate: 150k, preset: ultrafast}
      - {name: 90p, width: 160, height: 90, bitrate: 80k, preset: ultrafast, fps: 12.5}
`)
	// As most encoders do unless they are told otherwise, the publisher's reorders.
	m.publish(t, &peer.Clip{Name: "reordered.flv", Seconds: 5, Video: strings.Replace(small, "-bf 0", "-bf 2", 1)}, "live/cam")
	playlist := ""
	peer.Eventually(t, 30*time.Second, "three sizes", func() bool {
		_, _, b := get(t, m.http+"/live/cam.m3u8")
		playlist = string(b)
		return strings.Count(playlist, "RESOLUTION=") == 3
	})
	sizes := []string{"320x180", "214x120", "160x90"}
	for _, size := range sizes {
		require.Contains(t, playlist, "RESOLUTION="+size)
	}

	all := filepath.Join(t.TempDir(), "all.mkv")
	peer.Run(t, time.Minute, "ffmpeg", "-nostdin", "-v", "error", "-live_start_index", "0", "-i", m.http+"/live/cam.m3u8",
		"-map", "0:v", "-map", "0:a:0", "-t", "4", "-c", "copy", "-copyts", all)
	var keys [][]string
	var found []string
	for i := range sizes {
		one := filepath.Join(t.TempDir(), "one.ts")
		peer.Run(t, time.Minute, "ffmpeg", "-nostdin", "-v", "error", "-y", "-i", all, "-map", fmt.Sprintf("0:v:%d", i), "-map", "0:a", "-c", "copy", "-copyts", "-muxdelay", "0", one)
		media := peer.Probe(t, time.Minute, one)
		require.Empty(t, media.Log)
		require.Len(t, media.Sizes(), 1)
		found = append(found, media.Sizes()[0])
		largest, smallest := peer.Gap(media.Video)
		step := 40 * time.Millisecond
		if media.Sizes()[0] == "160x90" {
			step *= 2
		}
		require.InDelta(t, step, largest, float64(3*time.Millisecond))
		require.LessOrEqual(t, smallest, step+time.Millisecond)

		marks := peer.Observe(t, time.Minute, one)
		offsets := marks.Offsets()
		require.GreaterOrEqual(t, len(offsets), 3)
		require.InDelta(t, 0, offsets[len(offsets)/2], float64(30*time.Millisecond+step), "flash and beep are together: %v", offsets)

		out := peer.Run(t, time.Minute, "ffprobe", "-v", "error", "-select_streams", fmt.Sprintf("v:%d", i), "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0", all)
		rows, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
		require.NoError(t, err)
		var at []string
		for _, row := range rows {
			if strings.HasPrefix(row[1], "K") {
				at = append(at, row[0])
			}
		}
		require.GreaterOrEqual(t, len(at), 3)
		keys = append(keys, at)
	}
	slices.Sort(found)
	slices.Sort(sizes)
	require.Equal(t, sizes, found)
	require.Subset(t, keys[0], keys[1][1:len(keys[1])-1])
	require.Subset(t, keys[0], keys[2][1:len(keys[2])-1])

	code, _, mpd := get(t, m.http+"/live/cam.mpd")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, 3, strings.Count(string(mpd), `height="`), "%s", mpd)
	require.NotContains(t, m.Log(), "transcode: failed")
	require.NoError(t, m.Stop(t, 20*time.Second))
}

// TestPictures: each format is what it says, in the size that was asked for, and is of
// the stream.
func TestPictures(t *testing.T) {
	t.Parallel()
	m := startMediaserver(t, "pictures: {height: 90, every: 1s}\n")
	m.publish(t, &peer.Clip{Name: "ladder.flv", Seconds: 5, Video: small}, "live/cam")
	peer.Eventually(t, 30*time.Second, "a picture", func() bool {
		code, _, _ := get(t, m.http+"/live/cam.jpg")
		return code == http.StatusOK
	})
	for extension, format := range map[string]string{"jpg": "jpeg", "png": "png"} {
		code, header, b := get(t, m.http+"/live/cam."+extension)
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, "image/"+format, header.Get("Content-Type"))
		picture, is, err := image.Decode(bytes.NewReader(b))
		require.NoError(t, err)
		require.Equal(t, format, is)
		require.Equal(t, image.Rect(0, 0, 160, 90), picture.Bounds())
		colours := make(map[any]bool)
		for x := range 160 {
			colours[picture.At(x, 45)] = true
		}
		require.Greater(t, len(colours), 5, "it is a picture of something")
	}
	code, header, b := get(t, m.http+"/live/cam.webp")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "image/webp", header.Get("Content-Type"))
	file := filepath.Join(t.TempDir(), "a.webp")
	require.NoError(t, os.WriteFile(file, b, 0o600))
	media := peer.Probe(t, time.Minute, file)
	require.Equal(t, []string{"webp"}, media.Codecs())
	require.Equal(t, []string{"160x90"}, media.Sizes())
	code, _, _ = get(t, m.http+"/live/none.jpg")
	require.Equal(t, http.StatusNotFound, code)
}
