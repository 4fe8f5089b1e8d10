package record

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/ffmpegtest"
	"github.com/runnel-media/runnel/stream"
)

// ffmpeg encodes, we record, ffprobe judges: all packets are there with their times,
// and what decoders say of the file is what they say of ffmpeg's own.
func TestFFmpeg(t *testing.T) {
	ffmpegtest.Need(t)
	const (
		picture = "-f lavfi -i testsrc2=s=192x108:r=25:d=3"
		tone    = "-f lavfi -i sine=f=440:r=44100:d=3"
		x264    = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25"
	)
	for _, tt := range []struct {
		name, args string
		mp4only    bool
	}{
		{"h264 and aac", picture + " " + tone + " " + x264 + " -c:a aac", false},
		{"h264 with B-frames and mp3", picture + " " + tone + " -c:v libx264 -preset fast -bf 3 -pix_fmt yuv420p -g 25 -c:a libmp3lame", false},
		{"h265 and aac", picture + " " + tone + " -c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:bframes=2 -pix_fmt yuv420p -tag:v hvc1 -c:a aac", true},
		{"av1 and opus", picture + " " + tone + " -c:v libaom-av1 -cpu-used 8 -usage realtime -pix_fmt yuv420p -g 25 -c:a libopus", true},
		{"vp9 and opus", picture + " " + tone + " -c:v libvpx-vp9 -cpu-used 8 -deadline realtime -pix_fmt yuv420p -g 25 -c:a libopus", true},
		{"aac alone", tone + " -ac 2 -c:a aac", false},
	} {
		for _, format := range []Format{MP4, FLV, HLS} {
			if format == FLV && tt.mp4only {
				continue // this ffmpeg reads no enhanced FLV
			}
			t.Run(tt.name+" "+format.String(), func(t *testing.T) {
				theirs := filepath.Join(t.TempDir(), "theirs.mp4")
				ffmpegtest.Encode(t, theirs, tt.args, "-use_editlist", "0", "-video_track_timescale", "90000")
				tracks, frames := read(t, theirs)
				ours := ""
				inBed(t, func(r *Recorder) { r.Format = format }, func(t *testing.T, b *bed) {
					b.publish("live/cam", tracks, slices.Values(frames))
					list := b.list()
					require.Len(t, list, 1)
					ours = filepath.Join(b.path, filepath.FromSlash(list[0].Name))
					// The folder of the bubble goes with it.
					keep := filepath.Join(filepath.Dir(theirs), "ours")
					require.NoError(t, os.CopyFS(keep, os.DirFS(filepath.Dir(ours))))
					ours = filepath.Join(keep, filepath.Base(ours))
				})
				want := packets(t, theirs)
				got := packets(t, ours)
				for _, f := range frames { // a recording begins with a key frame
					if f.Track.Kind() == stream.Video || want["video"] == nil {
						break
					}
					want["audio"] = want["audio"][1:]
				}
				require.Equal(t, len(want), len(got))
				for kind, packets := range want {
					require.Equal(t, len(packets), len(got[kind]), kind)
					for i := range packets {
						require.Equal(t, packets[i].hash, got[kind][i].hash, "%s packet %d", kind, i)
						offset := packets[i].pts - packets[0].pts
						require.InDelta(t, offset, got[kind][i].pts-got[kind][0].pts, 0.0011, "%s packet %d", kind, i)
					}
				}
				if v, a := want["video"], want["audio"]; v != nil && a != nil { // A/V offset
					require.InDelta(t, v[0].pts-a[0].pts, got["video"][0].pts-got["audio"][0].pts, 0.0011)
				}
				log := ffmpegtest.Decode(t, ours, "-f", "null", "-")
				if format != HLS { // of whose playlists ffmpeg says what it opens
					require.Empty(t, log)
				}
				if format == FLV {
					return
				}
				seconds := strings.TrimSpace(ffmpegtest.Probe(t, ours, "-show_entries", "format=duration", "-of", "csv=p=0"))
				length, err := strconv.ParseFloat(seconds, 64)
				require.NoError(t, err)
				require.InDelta(t, 3, length, 0.1)
			})
		}
	}
}

type packet struct {
	pts  float64
	hash string
}

// packets returns ffprobe's account of a file's packets by kind.
func packets(t *testing.T, file string) map[string][]packet {
	t.Helper()
	out := ffmpegtest.Probe(t, file, "-of", "compact=p=0:nk=1", "-show_entries", "packet=codec_type,pts_time,data_hash", "-show_data_hash", "md5")
	all := make(map[string][]packet)
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) < 3 {
			continue
		}
		pts, err := strconv.ParseFloat(f[1], 64)
		require.NoError(t, err, line)
		all[f[0]] = append(all[f[0]], packet{pts, f[2]})
	}
	return all
}

// read reads a plain MP4 file of ffmpeg's into tracks and frames in order of DTS,
// which begins at 0.
func read(t *testing.T, file string) (tracks []*stream.Track, frames []*stream.Frame) {
	t.Helper()
	x := scanFile(t, file)
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	var samples [][]mp4Sample
	at := make([]int, len(x.tracks))
	for _, track := range x.tracks {
		tracks = append(tracks, track.desc.stream())
		require.NotNil(t, tracks[len(tracks)-1])
		samples = append(samples, slices.Collect(track.samples()))
	}
	for c := range x.all() {
		offset := c.offset
		for range c.samples {
			s := samples[c.track][at[c.track]]
			at[c.track]++
			data := make([]byte, s.size)
			_, err := f.ReadAt(data, offset)
			require.NoError(t, err)
			offset += s.size
			rate := int(x.tracks[c.track].rate)
			frames = append(frames, &stream.Frame{
				Track: tracks[c.track], Key: s.key, Data: data,
				DTS: stream.FromTicks(s.dts, rate), PTS: stream.FromTicks(s.pts, rate), Time: time.Unix(1700000000, 0),
			})
		}
	}
	slices.SortStableFunc(frames, func(a, b *stream.Frame) int { return cmp.Compare(a.DTS, b.DTS) })
	return tracks, frames
}
