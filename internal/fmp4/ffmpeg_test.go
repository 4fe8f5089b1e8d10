package fmp4

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/ffmpegtest"
	"github.com/runnel-media/runnel/stream"
)

// ffmpeg encodes, we mux, ffmpeg decodes: the pictures, the samples and their
// times must be those of its own file.
func TestFFmpeg(t *testing.T) {
	ffmpegtest.Need(t)
	const (
		picture = "-f lavfi -i testsrc2=s=192x108:r=25:d=1.2"
		tone    = "-f lavfi -i sine=f=440:r=44100:d=1.2"
		x264    = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 15"
	)
	for _, tt := range []struct{ name, args string }{
		{"h264 and aac", picture + " " + tone + " " + x264 + " -c:a aac"},
		{"h264 with B-frames", picture + " -c:v libx264 -preset fast -bf 3 -pix_fmt yuv420p -g 15"},
		{"h265", picture + " -c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=15 -pix_fmt yuv420p -tag:v hvc1"},
		{"av1 and opus", picture + " " + tone + " -c:v libaom-av1 -cpu-used 8 -usage realtime -pix_fmt yuv420p -g 15 -c:a libopus"},
		{"vp9", picture + " -c:v libvpx-vp9 -cpu-used 8 -deadline realtime -pix_fmt yuv420p -g 15"},
		{"h264 and mp3", picture + " " + tone + " " + x264 + " -c:a libmp3lame"},
		{"aac alone", tone + " -ac 2 -c:a aac"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			theirs, ours := filepath.Join(dir, "theirs.mp4"), filepath.Join(dir, "ours.mp4")
			ffmpegtest.Encode(t, theirs, tt.args, "-use_editlist", "0", "-video_track_timescale", "90000",
				"-movflags", "delay_moov+frag_keyframe+default_base_moof")
			require.NoError(t, os.WriteFile(ours, remux(t, theirs), 0o600))

			// What decoders make of it, complaints included.
			hashes := strings.Fields("-map 0 -f streamhash -hash md5 -")
			require.Equal(t, ffmpegtest.Decode(t, theirs, hashes...), ffmpegtest.Decode(t, ours, hashes...))
			require.Equal(t, packets(t, theirs), packets(t, ours))
		})
	}
}

// packets returns ffprobe's account of the packets of every track, in decoding
// order.
func packets(t *testing.T, file string) []string {
	t.Helper()
	out := ffmpegtest.Probe(t, file, "-of", "csv",
		"-show_entries", "packet=stream_index,pts_time,dts_time,size,flags,data_hash", "-show_data_hash", "md5")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Greater(t, len(lines), 25)
	slices.SortStableFunc(lines, func(a, b string) int { // by stream
		return strings.Compare(a[:len("packet,video,0")], b[:len("packet,video,0")])
	})
	return lines
}

// remux reads a fragmented MP4 of ffmpeg's into tracks and frames and writes
// them with Init and AppendPart, in parts of three frames.
func remux(t *testing.T, file string) []byte {
	t.Helper()
	f, err := mp4.ReadMP4File(file)
	require.NoError(t, err)
	var tracks []*stream.Track
	frames := map[uint8][]*stream.Frame{}
	for _, trak := range f.Init.Moov.Traks {
		track := trackOf(t, trak)
		tracks = append(tracks, track)
		trex, ok := f.Init.Moov.Mvex.GetTrex(trak.Tkhd.TrackID)
		require.True(t, ok)
		for _, segment := range f.Segments {
			for _, fragment := range segment.Fragments {
				if !slices.ContainsFunc(fragment.Moof.Trafs, func(traf *mp4.TrafBox) bool { return traf.Tfhd.TrackID == trex.TrackID }) {
					continue
				}
				samples, err := fragment.GetFullSamples(trex)
				require.NoError(t, err)
				for _, s := range samples {
					rate := int(trak.Mdia.Mdhd.Timescale)
					frames[track.ID] = append(frames[track.ID], &stream.Frame{
						Track: track, Key: s.IsSync(), Data: s.Data,
						DTS: stream.FromTicks(int64(s.DecodeTime), rate),
						PTS: stream.FromTicks(s.PresentationTime(), rate),
					})
				}
			}
		}
	}
	out, err := Init(tracks...)
	require.NoError(t, err)
	for seq := uint32(1); ; seq++ {
		var runs []Run
		for _, track := range tracks {
			ff := frames[track.ID]
			n := min(3, len(ff))
			run := Run{Track: track, Frames: ff[:n]}
			if n < len(ff) {
				run.Next = ff[n].DTS
			}
			runs = append(runs, run)
			frames[track.ID] = ff[n:]
		}
		before := len(out)
		if out = AppendPart(out, seq, runs...); len(out) == before {
			return out
		}
	}
}

func trackOf(t *testing.T, trak *mp4.TrakBox) *stream.Track {
	t.Helper()
	payload := func(box mp4.Box) []byte {
		var b bytes.Buffer
		require.NoError(t, box.Encode(&b))
		return b.Bytes()[8:]
	}
	track := &stream.Track{ID: uint8(trak.Tkhd.TrackID)}
	stsd := trak.Mdia.Minf.Stbl.Stsd
	switch {
	case stsd.AvcX != nil:
		track.Codec, track.Config = stream.H264, payload(stsd.AvcX.AvcC)
	case stsd.HvcX != nil:
		track.Codec, track.Config = stream.H265, payload(stsd.HvcX.HvcC)
	case stsd.Av01 != nil:
		track.Codec, track.Config = stream.AV1, payload(stsd.Av01.Av1C)
	case stsd.VpXX != nil:
		track.Codec, track.Config = stream.VP9, payload(stsd.VpXX.VppC)[4:]
	case stsd.Mp4a != nil:
		track.Rate, track.Channels = int(stsd.Mp4a.SampleRate), int(stsd.Mp4a.ChannelCount)
		decoder := stsd.Mp4a.Esds.DecConfigDescriptor
		if track.Codec = stream.MP3; decoder.ObjectType == 0x40 {
			track.Codec, track.Config = stream.AAC, decoder.DecSpecificInfo.DecConfig
		}
	case stsd.Opus != nil:
		d := stsd.Opus.Dops
		head := append([]byte("OpusHead"), 1, d.OutputChannelCount)
		head = binary.LittleEndian.AppendUint16(head, d.PreSkip)
		head = binary.LittleEndian.AppendUint32(head, d.InputSampleRate)
		head = binary.LittleEndian.AppendUint16(head, uint16(d.OutputGain))
		track.Codec, track.Rate, track.Channels, track.Config = stream.Opus, 48000, int(d.OutputChannelCount), append(head, 0)
	default:
		t.Fatal("unknown sample entry")
	}
	return track
}
