package mpegts_test

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/aac"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// vectors are transport streams that ffmpeg makes.
var vectors = map[string]string{
	"h264_aac":   picture + tone + "-c:v libx264 -preset fast -bf 2 -g 15 -pix_fmt yuv420p -c:a aac -b:a 32k",
	"h265_ac3":   picture + tone + "-c:v libx265 -preset fast -x265-params log-level=none:keyint=15:bframes=3 -pix_fmt yuv420p -c:a ac3 -ar 48000 -b:a 64k",
	"h264_mp3":   picture + tone + "-c:v libx264 -preset ultrafast -g 15 -slices 4 -pix_fmt yuv420p -c:a libmp3lame -b:a 32k",
	"h264_open":  picture + "-c:v libx264 -x264opts open-gop=1:bframes=2:keyint=12:min-keyint=12 -pix_fmt yuv420p",
	"h264_intra": picture + "-c:v libx264 -x264opts intra-refresh=1:keyint=12 -pix_fmt yuv420p",
	"h264_field": picture + "-c:v libx264 -flags +ildct+ilme -x264opts tff=1 -bf 2 -g 15 -pix_fmt yuv420p",
	"opus":       tone + "-c:a libopus -b:a 32k",
	"opus_5.1":   "-f lavfi -i anoisesrc=d=0.5:a=0.1 -af aformat=channel_layouts=5.1 -c:a libopus -mapping_family 1 -b:a 128k",
	"mp3_22k":    tone + "-c:a libmp3lame -ar 22050",
	"large_pes":  tone + "-c:a aac -pes_payload_size 8000 -muxrate 500k", // with null packets
	"m2ts_ids":   picture + tone + "-c:v libx264 -bf 0 -pix_fmt yuv420p -c:a ac3 -mpegts_flags system_b -mpegts_service_id 77 -mpegts_pmt_start_pid 0x30 -mpegts_start_pid 0x50",
}

const (
	picture = "-f lavfi -i testsrc2=s=96x64:r=25:d=1 "
	tone    = "-f lavfi -i sine=f=440:r=48000:d=1 "
)

// TestFFmpeg: ffmpeg muxes, we demux what ffprobe finds; we mux it again, and
// ffmpeg decodes the same as of its own.
func TestFFmpeg(t *testing.T) {
	need(t, "ffmpeg", "ffprobe")
	for name, args := range vectors {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			theirs, ours := filepath.Join(dir, "theirs.ts"), filepath.Join(dir, "ours.ts")
			ffmpeg(t, append(strings.Fields("-v error "+args), theirs)...)
			ts, err := os.ReadFile(theirs)
			require.NoError(t, err)
			got, d := demux(t, ts)
			require.Zero(t, d.Stats().Dropped)
			require.Zero(t, d.Stats().Errors)
			require.Equal(t, probe(t, theirs), described(got.frames))

			require.NoError(t, os.WriteFile(ours, remux(t, got), 0o600))
			require.Equal(t, probe(t, theirs), probe(t, ours))
			decode := func(file string) string {
				return ffmpeg(t, "-v", "warning", "-xerror", "-copyts", "-i", file, "-map", "0", "-f", "framehash", "-hash", "md5", "-")
			}
			require.Equal(t, decode(theirs), decode(ours))
		})
	}
}

// TestVectors is the first part of TestFFmpeg with files made before, for
// machines without ffmpeg: make them with RUNNEL_WRITE_VECTORS=1.
func TestVectors(t *testing.T) {
	for _, name := range []string{"h264_aac", "h265_ac3"} {
		t.Run(name, func(t *testing.T) {
			file, golden := filepath.Join("testdata", name+".ts"), filepath.Join("testdata", name+".packets")
			if os.Getenv("RUNNEL_WRITE_VECTORS") != "" {
				ffmpeg(t, append(strings.Fields("-v error -bitexact "+vectors[name]), file)...)
				require.NoError(t, os.WriteFile(golden, []byte(strings.Join(probe(t, file), "\n")+"\n"), 0o644))
			}
			ts, err := os.ReadFile(file)
			require.NoError(t, err)
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			got, _ := demux(t, ts)
			require.Equal(t, strings.Fields(string(want)), described(got.frames))
			again, _ := demux(t, remux(t, got))
			require.Equal(t, strings.Fields(string(want)), described(again.frames))
		})
	}
}

// remux muxes frames at the times that they had in a transport stream.
func remux(t *testing.T, s *sink) []byte {
	var m mpegts.Muxer
	var ts []byte
	var tracks []*stream.Track
	for _, f := range s.frames {
		if !slices.Contains(tracks, f.Track) {
			tracks = s.tracks[len(s.tracks)-1]
			require.NoError(t, m.Configure(tracks))
		}
		shifted := *f
		shifted.DTS -= mpegts.Offset
		shifted.PTS -= mpegts.Offset
		ts = m.AppendFrame(ts, &shifted)
	}
	inspect(t, ts)
	return ts
}

// TestFFmpegDecodes: the muxed clip has nothing that ffmpeg would warn about.
func TestFFmpegDecodes(t *testing.T) {
	need(t, "ffmpeg", "ffprobe")
	for name, src := range map[string]*streamtest.Source{
		"clip":        {Duration: 8 * time.Second},
		"b-frames":    {Duration: 8 * time.Second, BFrames: true, Start: 26 * time.Hour},
		"audio alone": {Duration: 8 * time.Second, NoVideo: true},
		"video alone": {Duration: 8 * time.Second, NoAudio: true},
	} {
		t.Run(name, func(t *testing.T) {
			frames := slices.Collect(src.Frames())
			file := filepath.Join(t.TempDir(), "clip.ts")
			require.NoError(t, os.WriteFile(file, mux(t, src.Tracks(), frames), 0o600))
			require.Empty(t, ffmpeg(t, "-v", "warning", "-xerror", "-err_detect", "explode", "-i", file, "-f", "null", "-"))
			for _, f := range frames {
				f.DTS += mpegts.Offset
				f.PTS += mpegts.Offset
			}
			require.Equal(t, described(frames), probe(t, file))
		})
	}
}

func need(t *testing.T, tools ...string) {
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("RUNNEL_E2E") == "1" {
				t.Fatal(err)
			}
			t.Skip("needs ffmpeg and ffprobe:", err)
		}
	}
}

func ffmpeg(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ffmpeg", append([]string{"-nostdin", "-y"}, args...)...).CombinedOutput()
	require.NoError(t, err, "ffmpeg %s: %s", strings.Join(args, " "), out)
	return string(out)
}

// probe returns ffprobe's account of the packets of a file: kind, PTS, DTS,
// whether decoding can start there, and of audio a hash of the data, which for
// AAC has the ADTS header.
func probe(t *testing.T, file string) []string {
	t.Helper()
	out, err := exec.Command("ffprobe", "-v", "error", "-of", "json",
		"-show_entries", "packet=codec_type,pts,dts,flags,data_hash", "-show_data_hash", "md5", file).Output()
	require.NoError(t, err)
	var doc struct {
		Packets []struct {
			Kind     string `json:"codec_type"`
			PTS, DTS int64
			Flags    string
			Hash     string `json:"data_hash"`
		}
	}
	require.NoError(t, json.Unmarshal(out, &doc))
	var lines []string
	for _, p := range doc.Packets {
		last := p.Hash
		if p.Kind == "video" {
			last = strconv.FormatBool(strings.Contains(p.Flags, "K"))
		}
		lines = append(lines, fmt.Sprintf("%s|%d|%d|%s", p.Kind, p.PTS, p.DTS, last))
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(a[:5], b[:5]) })
	return lines
}

// described is probe for frames.
func described(frames []*stream.Frame) []string {
	var lines []string
	for _, f := range frames {
		last := strconv.FormatBool(f.Key)
		if f.Track.Kind() == stream.Audio {
			data := f.Data
			if f.Track.Codec == stream.AAC {
				data = append(adts(f), data...)
			}
			sum := md5.Sum(data)
			last = "MD5:" + hex.EncodeToString(sum[:])
		}
		const wrap = 1<<33 - 1
		lines = append(lines, fmt.Sprintf("%v|%d|%d|%s", f.Track.Kind(), stream.Ticks(f.PTS, 90000)&wrap, stream.Ticks(f.DTS, 90000)&wrap, last))
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(a[:5], b[:5]) })
	return lines
}

// adts returns the header of an AAC frame.
func adts(f *stream.Frame) []byte {
	c, err := aac.ParseConfig(f.Track.Config)
	if err != nil {
		panic(err)
	}
	header, err := c.AppendADTS(nil, len(f.Data))
	if err != nil {
		panic(err)
	}
	return header
}
