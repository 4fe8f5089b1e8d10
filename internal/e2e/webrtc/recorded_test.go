package webrtc

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/transcode"
)

// foreign is the program on pion/webrtc, a module of its own.
func foreign(t *testing.T) string {
	t.Helper()
	return lab.File(t, "webrtcpeer.exe", func(path string) {
		peer.Run(t, 5*time.Minute, "go", "build", "-C", "../webrtcpeer", "-o", path, ".")
	})
}

// A recording is what webrtcpeer record writes.
type recording struct {
	Tracks []recordedTrack
	Frames []recordedFrame
}

type recordedTrack struct {
	MimeType                                string
	Packets, Lost, Frames, Missing, Longest int
	Gap                                     time.Duration
	PLIs                                    int
}

type recordedFrame struct {
	Track int
	Time  time.Duration // of the server's wall clock, by its sender reports
	Data  []byte
}

// record plays by WHEP with pion/webrtc for so long. What it returns waits for the end.
func record(t *testing.T, url string, lasts time.Duration) func() *recording {
	t.Helper()
	file := filepath.Join(t.TempDir(), "recording.json")
	p := peer.Start(t, foreign(t), "record", "-url", url, "-out", file, "-for", lasts.String())
	return func() *recording {
		require.NoError(t, p.Wait(t, lasts+2*live))
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		r := &recording{}
		require.NoError(t, json.Unmarshal(b, r))
		return r
	}
}

// track returns the track of a kind, "video" or "audio", and its frames.
func (r *recording) track(t *testing.T, kind string) (recordedTrack, []recordedFrame) {
	t.Helper()
	i := slices.IndexFunc(r.Tracks, func(track recordedTrack) bool { return strings.HasPrefix(track.MimeType, kind+"/") })
	require.GreaterOrEqual(t, i, 0, "no %s", kind)
	var frames []recordedFrame
	for _, f := range r.Frames {
		if f.Track == i {
			frames = append(frames, f)
		}
	}
	return r.Tracks[i], frames
}

// pictures has ffmpeg decode the video of a recording, which is H.264 or H.265, and
// returns how bright each picture is.
func (r *recording) pictures(t *testing.T, options ...string) (luma []float64, at []time.Duration) {
	t.Helper()
	track, frames := r.track(t, "video")
	dir := t.TempDir()
	format := map[string]string{"video/H264": "h264", "video/H265": "hevc"}[track.MimeType]
	var all []byte
	for _, f := range frames {
		all = append(all, f.Data...)
		at = append(at, f.Time)
	}
	file, values := filepath.Join(dir, "video."+format), filepath.Join(dir, "luma")
	require.NoError(t, os.WriteFile(file, all, 0o600))
	args := append([]string{"-nostdin", "-v", "error", "-xerror"}, options...)
	out, log, err := peer.Try(t, live, "ffmpeg", append(args, "-f", format, "-i", file,
		"-vf", "signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file="+values, "-f", "null", "-")...)
	require.NoError(t, err, "%s %s", out, log)
	require.Empty(t, log, "what ffmpeg complained of")
	b, err := os.ReadFile(values)
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if _, value, ok := strings.Cut(line, "YAVG="); ok {
			var v float64
			require.NoError(t, json.Unmarshal([]byte(strings.TrimSpace(value)), &v))
			luma = append(luma, v)
		}
	}
	return luma, at
}

// beeps decodes the sound of a recording, Opus, and returns when it becomes loud, by the
// server's clock.
func (r *recording) beeps(t *testing.T) (at []time.Duration) {
	t.Helper()
	_, frames := r.track(t, "audio")
	d, err := transcode.Opus{}.NewDecoder(&stream.Track{Codec: stream.Opus, Rate: 48000, Channels: 2})
	require.NoError(t, err)
	defer d.Close()
	const block = 5 * time.Millisecond
	size := d.Format().Rate / int(time.Second/block) * d.Format().Channels
	loud := false
	for _, packet := range frames {
		samples, err := d.Decode(nil, packet.Data)
		require.NoError(t, err)
		for n := time.Duration(0); len(samples) >= size; n++ {
			power := 0.0
			for _, v := range samples[:size] {
				power += float64(v) * float64(v) / float64(size)
			}
			samples = samples[size:]
			if power > 0.01 && !loud {
				at = append(at, packet.Time+n*block)
			}
			loud = power > 0.01
		}
	}
	return at
}
