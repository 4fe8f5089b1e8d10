package dash

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Eyevinn/dash-mpd/mpd"
	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls"
)

// A viewer reads an MPD again and again, and checks each against those before it
// and against the segments that it names.
type viewer struct {
	t testing.TB
	m *Manifest

	lag time.Duration // that timeShiftBufferDepth tells of

	start    time.Time           // availabilityStartTime
	periods  map[string]string   // what must not change, by id
	segments map[string][2]int64 // time and duration by URL
	doc      *mpd.MPD            // the latest
	text     string
}

// look reads the MPD as it is at a time.
func (v *viewer) look(now time.Time) {
	v.t.Helper()
	text, err := v.m.MPD(v.t.Context(), netip.Addr{}, now)
	require.NoError(v.t, err)
	v.text = string(text)
	v.doc, err = mpd.MPDFromBytes(text)
	require.NoError(v.t, err, v.text)
	if v.periods == nil {
		v.periods, v.segments = map[string]string{}, map[string][2]int64{}
	}
	ended := *v.doc.Type == "static"
	end := v.periodsEnd(now, ended)
	require.Positive(v.t, v.doc.MinBufferTime.Seconds())
	require.Positive(v.t, v.doc.MaxSegmentDuration.Seconds())
	if ended {
		require.Nil(v.t, v.doc.MinimumUpdatePeriod)
		require.Empty(v.t, v.doc.UTCTimings)
		require.InDelta(v.t, end.Seconds(), v.doc.MediaPresentationDuration.Seconds(), 0.002)
		return
	}
	require.Equal(v.t, "dynamic", *v.doc.Type)
	require.Nil(v.t, v.doc.MediaPresentationDuration)
	require.Positive(v.t, v.doc.MinimumUpdatePeriod.Seconds())
	require.Positive(v.t, v.doc.TimeShiftBufferDepth.Seconds())
	require.Positive(v.t, v.doc.SuggestedPresentationDelay.Seconds())
	require.Len(v.t, v.doc.UTCTimings, 1)
	require.Equal(v.t, now.UTC().Truncate(time.Millisecond), v.parse(v.doc.UTCTimings[0].Value))
	require.False(v.t, v.parse(string(v.doc.PublishTime)).After(now))
	start := v.parse(string(v.doc.AvailabilityStartTime))
	if v.start.IsZero() {
		v.start = start
	}
	require.Equal(v.t, v.start, start)
	require.False(v.t, start.Add(end).After(now.Add(5*time.Millisecond)), "what is listed is available: %v %v\n%s", start.Add(end), now, v.text)
}

func (v *viewer) parse(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	require.NoError(v.t, err)
	return t.UTC()
}

// periodsEnd checks the Periods, and returns where the last ends.
func (v *viewer) periodsEnd(now time.Time, ended bool) (end time.Duration) {
	t := v.t
	require.NotEmpty(t, v.doc.Periods)
	begin := time.Duration(-1)
	longest := time.Duration(0)
	for i, p := range v.doc.Periods {
		require.NotEmpty(t, p.Id)
		require.NotNil(t, p.Start)
		start := time.Duration(*p.Start)
		require.GreaterOrEqual(t, start+2*time.Millisecond, end, "Periods do not overlap\n%s", v.text)
		require.NotEmpty(t, p.AdaptationSets)
		same := start.String()
		for _, a := range p.AdaptationSets {
			require.EqualValues(t, 1, a.StartWithSAP)
			require.True(t, a.SegmentAlignment)
			for _, rep := range a.Representations {
				tpl := rep.SegmentTemplate
				require.Positive(t, rep.Bandwidth)
				require.NotEmpty(t, rep.Codecs)
				same += fmt.Sprint(*a.Id, a.MimeType, a.ContentType, *tpl.Timescale, *tpl.PresentationTimeOffset, tpl.Initialization, tpl.Media, rep.Id, rep.Codecs)
				shift := v.checkInit(tpl.Initialization, *tpl.Timescale)
				seconds := func(n int64) time.Duration {
					return time.Duration(float64(n) / float64(*tpl.Timescale) * float64(time.Second))
				}
				number, at := uint64(*tpl.StartNumber), int64(-1)
				for j, s := range tpl.SegmentTimeline.S {
					require.Positive(t, s.D)
					if s.T != nil {
						require.Greater(t, int64(*s.T), at, "a time is stated where there is a hole")
						if j > 0 {
							require.Fail(t, "a hole", v.text)
						}
						at = int64(*s.T)
					}
					for range s.R + 1 {
						url := strings.ReplaceAll(tpl.Media, "$Number$", strconv.FormatUint(number, 10))
						have := [2]int64{at, int64(s.D)}
						if known, ok := v.segments[url]; ok {
							require.Equal(t, known, have, "%s is where it was\n%s", url, v.text)
						} else {
							v.segments[url] = have
							v.checkSegment(url, at, int64(s.D), *tpl.Timescale, shift)
						}
						from := start + seconds(at-int64(*tpl.PresentationTimeOffset))
						require.GreaterOrEqual(t, from, start, "a segment of the Period's time")
						if begin < 0 || from < begin {
							begin = from
						}
						longest = max(longest, seconds(int64(s.D)))
						at += int64(s.D)
						number++
					}
				}
				end = max(end, start+seconds(at-int64(*tpl.PresentationTimeOffset)))
			}
		}
		if known, ok := v.periods[p.Id]; ok {
			require.Equal(t, known, same, "Period %s is what it was", p.Id)
		}
		require.True(t, v.periods[p.Id] != "" || i == len(v.doc.Periods)-1 || len(v.periods) <= i, "new Periods are at the end")
		v.periods[p.Id] = same
	}
	if !ended {
		v.lag = time.Duration(*v.doc.TimeShiftBufferDepth) - (end - begin)
		require.GreaterOrEqual(t, v.lag, -time.Millisecond)
		require.Less(t, v.lag, maxLag+2*time.Millisecond)
	}
	require.InDelta(t, longest.Seconds(), v.doc.MaxSegmentDuration.Seconds(), 0.05)
	return end
}

func (v *viewer) open(url string) []byte {
	v.t.Helper()
	path, ok := strings.CutPrefix(strings.ReplaceAll(url, "$$", "$"), v.m.MediaBase)
	require.True(v.t, ok, url)
	c, err := v.m.Packager.Open(v.t.Context(), path, netip.Addr{})
	require.NoError(v.t, err, "%s\n%s", url, v.text)
	return bytes.Join(c.Data, nil)
}

func (v *viewer) checkInit(url string, timescale uint32) (id uint32) {
	f, err := mp4.DecodeFile(bytes.NewReader(v.open(url)))
	require.NoError(v.t, err)
	require.Len(v.t, f.Init.Moov.Traks, 1)
	require.Equal(v.t, timescale, f.Init.Moov.Trak.Mdia.Mdhd.Timescale)
	return f.Init.Moov.Trak.Tkhd.TrackID
}

// checkSegment compares a segment's place with what is in it.
func (v *viewer) checkSegment(url string, at, d int64, timescale, id uint32) {
	t := v.t
	f, err := mp4.DecodeFile(bytes.NewReader(v.open(url)))
	require.NoError(t, err)
	first, earliest, length := int64(-1), int64(-1), int64(0)
	for _, s := range f.Segments {
		for _, fragment := range s.Fragments {
			traf := fragment.Moof.Traf
			require.Equal(t, id, traf.Tfhd.TrackID)
			base := int64(traf.Tfdt.BaseMediaDecodeTime())
			if first < 0 {
				first = base
			}
			require.InDelta(t, first+length, base, 1, "no hole between parts")
			length = base - first
			for _, sample := range traf.Trun.Samples {
				if pts := first + length + int64(sample.CompositionTimeOffset); earliest < 0 || pts < earliest {
					earliest = pts
				}
				length += int64(sample.Dur)
			}
		}
	}
	require.InDelta(t, earliest, at, float64(timescale)/1000, "%s begins with the picture that is shown first", url)
	require.InDelta(t, length, d, 2, "%s\n%s", url, v.text)
}

// set returns the Representation of a rendition in the last Period, or nil.
func (v *viewer) set(r hls.Rendition) *mpd.RepresentationType {
	for _, a := range v.doc.Periods[len(v.doc.Periods)-1].AdaptationSets {
		for _, rep := range a.Representations {
			if rep.Id == r.String() {
				return rep
			}
		}
	}
	return nil
}
