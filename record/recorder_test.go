package record

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

const sec = time.Second

// Every frame is in the file, at its time, and the file is plain.
func TestRecordMP4(t *testing.T) {
	for _, video := range []stream.Codec{stream.H264, stream.H265, stream.AV1, stream.VP9} {
		for _, audio := range []stream.Codec{stream.AAC, stream.Opus, stream.MP3} {
			t.Run(fmt.Sprintf("%v %v", video, audio), func(t *testing.T) {
				inBed(t, nil, func(t *testing.T, b *bed) {
					p := &streamtest.Pattern{Video: video, Audio: audio, BFrames: 2}
					b.publish("live/cam", p.Tracks(), until(p.Frames(-1), 5*sec))
					list := b.list()
					require.Len(t, list, 1)
					info := list[0]
					require.Equal(t, "live/cam", info.Stream)
					require.Equal(t, "live/cam/"+info.Start.Format("2006-01-02T15-04-05")+".mp4", info.Name)
					require.InDelta(t, 5*sec, info.Duration, float64(50*time.Millisecond))
					x := b.scan(info.Name)
					require.True(t, x.plain)
					require.Equal(t, 125, x.tracks[0].n)
					require.Equal(t, 5, x.tracks[0].keys)
					require.EqualValues(t, info.Frames, x.tracks[0].n+x.tracks[1].n)
					i := 0
					var want []*stream.Frame
					for f := range until(p.Frames(-1), 5*sec) {
						if f.Track.ID == 1 {
							want = append(want, f)
						}
					}
					for s := range x.tracks[0].samples() {
						require.EqualValues(t, len(want[i].Data), s.size)
						require.InDelta(t, stream.Ticks(want[i].PTS, 90000), s.pts, 1)
						require.Equal(t, want[i].Key, s.key)
						i++
					}
					require.Equal(t, video, x.tracks[0].desc.stream().Codec)
					require.Equal(t, p.Tracks()[1].Config, x.tracks[1].desc.stream().Config)
					_, err := Verify(t.Context(), b.Storage, info.Name)
					require.NoError(t, err)
				})
			})
		}
	}
}

// Segments begin with key frames and hold every frame once.
func TestSegments(t *testing.T) {
	for _, format := range []Format{MP4, FLV} {
		t.Run(format.String(), func(t *testing.T) {
			inBed(t, func(r *Recorder) {
				r.Format, r.Segment, r.Name = format, 2500*time.Millisecond, "{app}/{name}/{segment:3}"
			}, func(t *testing.T, b *bed) {
				p := &streamtest.Pattern{}
				b.publish("live/cam", p.Tracks(), until(p.Frames(-1), 10*sec))
				list := b.list()
				require.Len(t, list, 4)
				frames, at := int64(0), time.Duration(0)
				for i, info := range list {
					require.Equal(t, fmt.Sprintf("live/cam/%03d.%v", i, format), info.Name)
					require.Equal(t, i, info.Segment)
					require.Equal(t, list[0].Session, info.Session)
					require.Equal(t, at, info.Offset)
					if i < 3 {
						require.Equal(t, 3*sec, info.Duration)
					}
					at += info.Duration
					frames += info.Frames
				}
				n := int64(0)
				for range until(p.Frames(-1), 10*sec) {
					n++
				}
				require.Equal(t, n, frames)
			})
		})
	}
}

func TestSegmentBytes(t *testing.T) {
	inBed(t, func(r *Recorder) { r.SegmentBytes = 64 << 10 }, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{}
		b.publish("live/cam", p.Tracks(), until(p.Frames(-1), 10*sec))
		list := b.list()
		require.Greater(t, len(list), 3)
		for _, info := range list[:len(list)-1] {
			require.Greater(t, info.Size, int64(64<<10))
			require.Less(t, info.Size, int64(120<<10))
		}
	})
}

// A change of the configuration begins another MP4 file.
func TestConfigurationChanges(t *testing.T) {
	inBed(t, nil, func(t *testing.T, b *bed) {
		one := &streamtest.Pattern{}
		two := &streamtest.Pattern{Video: stream.H265, Start: 3 * sec}
		p := b.open("live/cam", one.Tracks())
		require.NoError(t, streamtest.Feed(t.Context(), p, until(one.Frames(-1), 3*sec), 1))
		require.NoError(t, p.SetTracks(two.Tracks()...))
		require.NoError(t, streamtest.Feed(t.Context(), p, until(two.Frames(-1), 5*sec), 1))
		require.NoError(t, p.Close())
		time.Sleep(sec)
		synctest.Wait()
		list := b.list()
		require.Len(t, list, 2)
		require.Equal(t, stream.H264, list[0].Tracks[0].Codec)
		require.Equal(t, stream.H265, list[1].Tracks[0].Codec)
		require.EqualValues(t, 75, b.scan(list[0].Name).tracks[0].n)
		require.EqualValues(t, 50, b.scan(list[1].Name).tracks[0].n)
	})
}

// A track that comes late, without having been announced, is in the next file.
func TestLateTrack(t *testing.T) {
	inBed(t, nil, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{}
		tracks := p.Tracks()
		pub := b.open("live/cam", tracks[:1])
		announced := false
		start := time.Now()
		for f := range until(p.Frames(-1), 5*sec) {
			time.Sleep(time.Until(start.Add(f.DTS)))
			if f.Track.ID == 2 && f.DTS < 2500*time.Millisecond {
				continue
			}
			if f.Track.ID == 2 && !announced {
				announced = true
				require.NoError(t, pub.SetTracks(tracks...))
			}
			require.NoError(t, pub.Write(f))
		}
		pub.Close()
		time.Sleep(sec)
		synctest.Wait()
		list := b.list()
		require.Len(t, list, 2)
		require.Len(t, list[0].Tracks, 1)
		require.Len(t, list[1].Tracks, 2)
		require.Equal(t, 3*sec, list[0].Duration)
	})
}

// A recording goes on in the same file when its publisher is back.
func TestResume(t *testing.T) {
	for _, how := range []string{"grace", "resume", "neither"} {
		t.Run(how, func(t *testing.T) {
			inBed(t, func(r *Recorder) {
				switch how {
				case "grace":
					r.Hub.Grace = 5 * sec
				case "resume":
					r.Resume = 5 * sec
				}
			}, func(t *testing.T, b *bed) {
				p := &streamtest.Pattern{}
				for range 2 {
					b.publish("live/cam", p.Tracks(), until(p.Frames(-1), 3*sec))
					time.Sleep(2 * sec)
				}
				time.Sleep(10 * sec)
				list := b.list()
				if how == "neither" {
					require.Len(t, list, 2)
					require.NotEqual(t, list[0].Session, list[1].Session)
					return
				}
				require.Len(t, list, 1)
				require.InDelta(t, 6*sec, list[0].Duration, float64(60*time.Millisecond))
				require.EqualValues(t, 150, b.scan(list[0].Name).tracks[0].n)
			})
		})
	}
}

func TestStartStop(t *testing.T) {
	inBed(t, func(r *Recorder) { r.Match = nil }, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{}
		pub := b.open("live/cam", p.Tracks())
		ended := make(chan error, 1)
		go func() { ended <- streamtest.Feed(t.Context(), pub, until(p.Frames(-1), 20*sec), 1) }()
		time.Sleep(2500 * time.Millisecond)
		require.False(t, b.Recording("live/cam"))
		require.NoError(t, b.Start("live/cam"))
		require.True(t, b.Recording("live/cam"))
		require.Equal(t, []Active{{Stream: "live/cam", Demand: true}}, b.Active(), "its first frame is to be written yet")
		time.Sleep(2 * sec)
		active := b.Active()
		require.Len(t, active, 1)
		require.Len(t, active[0].Session, 16)
		require.InDelta(t, 2500*time.Millisecond, active[0].Duration, float64(300*time.Millisecond))
		require.InDelta(t, 41_400*active[0].Duration.Seconds(), active[0].Size, 42_000, "but for a fragment")
		time.Sleep(1 * sec)
		require.NoError(t, b.Stop("live/cam"))
		time.Sleep(1 * sec)
		require.False(t, b.Recording("live/cam"))
		require.Empty(t, b.Active())
		list := b.list()
		require.Len(t, list, 1)
		require.Equal(t, active[0].Name, list[0].Name)
		require.Equal(t, active[0].Start, list[0].Start)
		require.InDelta(t, 3500*time.Millisecond, list[0].Duration, float64(250*time.Millisecond)) // from the key frame before
		require.NoError(t, b.Start("live/cam"))
		require.NoError(t, <-ended)
		pub.Close()
		time.Sleep(sec)
		require.Len(t, b.list(), 2)
		b.stop()
		require.ErrorIs(t, b.Start("live/cam"), errNotRunning)
	})
}

func TestClip(t *testing.T) {
	inBed(t, func(r *Recorder) { r.Match, r.Rewind = nil, 10*sec }, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{KeyInterval: 50}
		pub := b.open("live/cam", p.Tracks())
		ended := make(chan error, 1)
		go func() { ended <- streamtest.Feed(t.Context(), pub, until(p.Frames(-1), 15*sec), 1) }()
		time.Sleep(12100 * time.Millisecond)
		for _, tt := range []struct{ last, want time.Duration }{
			{sec / 20, 100 * time.Millisecond}, {3 * sec, 4100 * time.Millisecond}, {time.Hour, 8100 * time.Millisecond}, // it has 10 s, and key frames lie 2 s apart
		} {
			info, err := b.Clip(t.Context(), "live/cam", tt.last)
			require.NoError(t, err)
			require.InDelta(t, tt.want, info.Duration, float64(60*time.Millisecond), "%v", tt.last)
			x := b.scan(info.Name)
			require.True(t, x.plain)
			for s := range x.tracks[0].samples() {
				require.True(t, s.key)
				break
			}
		}
		_, err := b.Clip(t.Context(), "live/other", sec)
		require.ErrorIs(t, err, stream.ErrNotFound)
		require.NoError(t, <-ended)
		pub.Close()
	})
}

// An HLS recording is segments and playlists that end.
func TestRecordHLS(t *testing.T) {
	inBed(t, func(r *Recorder) { r.Format = HLS }, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{}
		b.publish("live/cam", p.Tracks(), until(p.Frames(-1), 10*sec))
		list := b.list()
		require.Len(t, list, 1)
		require.Equal(t, "index.m3u8", path.Base(list[0].Name))
		for _, name := range []string{"v.m3u8", "a.m3u8"} {
			text, err := readAll(t.Context(), b.Storage, path.Dir(list[0].Name)+"/"+name)
			require.NoError(t, err)
			require.Contains(t, string(text), endList)
			_, length := playlistTimes(text)
			require.InDelta(t, 10*sec, length, float64(50*time.Millisecond))
		}
		_, err := Verify(t.Context(), b.Storage, list[0].Name)
		require.NoError(t, err)
		require.NoError(t, (&Library{Storage: b.Storage, Log: silent}).Delete(t.Context(), list[0].Name, "test", ""))
		for f, err := range b.Storage.List(t.Context(), "") {
			t.Fatal(f, err)
		}
	})
}

// What a format cannot carry is left out, or not recorded at all.
func TestUnsupported(t *testing.T) {
	inBed(t, nil, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{Video: stream.VP8}
		b.publish("live/cam", p.Tracks(), until(p.Frames(-1), 3*sec))
		p = &streamtest.Pattern{Video: stream.VP8, NoAudio: true}
		b.publish("live/none", p.Tracks(), until(p.Frames(-1), 3*sec))
		list := b.list()
		require.Len(t, list, 1)
		require.Len(t, list[0].Tracks, 1)
		require.Equal(t, stream.AAC, list[0].Tracks[0].Codec)
	})
}

func TestAudioOnly(t *testing.T) {
	inBed(t, func(r *Recorder) { r.Segment = 2 * sec }, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{NoVideo: true}
		b.publish("live/radio", p.Tracks(), until(p.Frames(-1), 5*sec))
		list := b.list()
		require.Len(t, list, 3)
		require.InDelta(t, 2*sec, list[0].Duration, float64(30*time.Millisecond))
	})
}

// What is recorded as HLS is written while a segment is made: memory has little of it.
func TestHLSSegmentInTheMaking(t *testing.T) {
	inBed(t, func(r *Recorder) { r.Format, r.Name = HLS, "a" }, func(t *testing.T, b *bed) {
		p := &streamtest.Pattern{KeySize: 200_000, FrameSize: 20_000, KeyInterval: 50}
		pub := b.open("live/cam", p.Tracks())
		sent := int64(0)
		require.NoError(t, streamtest.Feed(t.Context(), pub, until(func(yield func(*stream.Frame) bool) {
			for f := range p.Frames(-1) {
				sent += int64(len(f.Data))
				if !yield(f) {
					return
				}
			}
		}, 1900*time.Millisecond), 1))
		time.Sleep(sec)
		synctest.Wait()
		require.NoFileExists(t, filepath.Join(b.path, "a", "v0.m4s"))
		files, err := filepath.Glob(filepath.Join(b.path, ".incoming", "*"))
		require.NoError(t, err)
		written := int64(0)
		for _, f := range files {
			info, err := os.Stat(f)
			require.NoError(t, err)
			written += info.Size()
		}
		require.Greater(t, written, sent*2/3)
		require.NoError(t, pub.Close())
	})
}
