package stream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// sent is a frame as a publisher sends it: at which second of the wall clock,
// with which DTS in ms; and what is to come out.
type sent struct {
	track *Track
	wall  float64
	dts   int
	want  int
	broke bool // Discontinuity
}

// repairAll runs frames through a timeline, as the publisher's Write does.
func repairAll(l *timeline, j Jitter, frames []sent) (out []*Frame) {
	start := time.Unix(1_000_000, 0)
	for _, s := range frames {
		f := frame(s.track, s.dts, true)
		f.PTS += 80 * ms
		f.arrived = start.Add(time.Duration(s.wall * float64(time.Second)))
		l.repair(f, j)
		out = append(out, f)
	}
	return out
}

func TestTimelineRepair(t *testing.T) {
	const wrap = 1 << 32
	for name, c := range map[string]struct {
		jitter Jitter
		frames []sent
	}{
		"start at non-zero": {JitterFull, []sent{
			{video, 0, 5000, 0, false}, {audio, 0, 5010, 10, false}, {video, .04, 5040, 40, false}, {audio, .04, 5031, 31, false},
		}},
		"audio a little before the first picture": {JitterFull, []sent{
			{video, 0, 5000, 0, false}, {audio, 0, 4990, 0, false}, {audio, 0, 5011, 11, false},
		}},
		"jump forward": {JitterFull, []sent{
			{video, 0, 0, 0, false}, {video, .04, 40, 40, false}, {video, .08, 600_080, 80, true}, {video, .12, 600_120, 120, false},
		}},
		"a gap of less than 3 s is believed": {JitterFull, []sent{
			{video, 0, 0, 0, false}, {video, .04, 3000, 3000, false},
		}},
		"jump back": {JitterFull, []sent{
			{video, 0, 600_000, 0, false}, {video, .04, 600_040, 40, false}, {video, .08, 0, 80, true}, {video, .12, 40, 120, false},
		}},
		"small steps back are pressed flat": {JitterFull, []sent{
			{video, 0, 0, 0, false}, {video, .5, 500, 500, false}, {video, .52, 480, 500, false}, {video, .54, 540, 540, false},
		}},
		"32-bit milliseconds wrap": {JitterFull, []sent{
			{video, 0, wrap - 50, 0, false}, {audio, 0, wrap - 45, 5, false}, {video, .04, wrap - 10, 40, false},
			{audio, .04, wrap - 24, 26, false}, {audio, .05, wrap - 2, 48, false},
			{video, .08, 30, 88, true}, {audio, .08, 19, 77, false}, {audio, .1, 40, 98, false}, {video, .12, 70, 128, false},
		}},
		"both tracks jump at different frames": {JitterFull, []sent{
			{video, 0, 0, 0, false}, {audio, 0, 0, 0, false}, {video, .04, 40, 40, false}, {audio, .04, 40, 40, false},
			{video, .08, 90_000, 80, true}, // video leads; 90 000 ms is 80 ms now
			{audio, .08, 60, 60, false}, {audio, .1, 80, 80, false},
			{video, .12, 90_040, 120, false},
			{audio, .12, 90_020, 100, false}, {audio, .14, 90_040, 120, false}, // as far from video as before
		}},
		"both jump back": {JitterFull, []sent{
			{video, 0, 90_000, 0, false}, {audio, 0, 90_000, 0, false}, {video, .04, 90_040, 40, false},
			{audio, .08, 0, 80, true}, {video, .08, 90_080, 80, false}, {video, .12, 40, 120, false}, {audio, .1, 20, 100, false},
		}},
		"a track that appears later": {JitterFull, []sent{
			{video, 0, 7000, 0, false}, {video, .04, 7040, 40, false}, {audio, .05, 7050, 50, false},
		}},
		"a track that appears later with a clock of its own": {JitterFull, []sent{
			{video, 0, 700_000, 0, false}, {video, .04, 700_040, 40, false}, {audio, .05, 0, 80, true}, {audio, .07, 20, 100, false},
		}},
		"slide show": {JitterFull, []sent{
			{video, 0, 0, 0, false}, {video, 20, 20_000, 20_000, false}, {video, 40, 40_000, 40_000, false}, {video, 60, 62_500, 62_500, false},
		}},
		"a pause in which the encoder's clock stands": {JitterFull, []sent{
			{video, 0, 0, 0, false}, {video, 20, 40, 40, false}, {video, 20.04, 80, 80, false},
		}},
		"data messages without a time": {JitterFull, []sent{
			{cues, 0, 0, 0, false}, {video, 0, 3_600_000, 40, true}, {audio, 0, 3_600_005, 45, false},
			{video, 10, 3_610_000, 10_040, false}, {cues, 10, 0, 10_080, false}, {video, 10.04, 3_610_040, 10_080, false},
			{audio, 10.04, 3_610_045, 10_085, false}, {cues, 20, 0, 10_080, false}, {video, 20, 3_620_000, 20_040, false},
		}},
		"JitterZero starts at zero and keeps the rest": {JitterZero, []sent{
			{video, 0, 5000, 0, false}, {audio, 0, 4990, 0, false}, {video, .04, 600_000, 595_000, false}, {video, .08, 5080, 80, false},
		}},
		"JitterOff": {JitterOff, []sent{
			{video, 0, 5000, 5000, false}, {audio, 0, 4990, 4990, false}, {video, .04, 600_000, 600_000, false}, {video, .08, -80, -80, false},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var l timeline
			for i, f := range repairAll(&l, c.jitter, c.frames) {
				want := c.frames[i]
				require.Equal(t, want.want, int(f.DTS/ms), "frame %d", i)
				require.Equal(t, 80*ms, f.PTS-f.DTS, "frame %d keeps its composition time", i)
				require.Equal(t, want.broke, f.Discontinuity, "frame %d", i)
			}
		})
	}
}

func TestTimelineNextPublisher(t *testing.T) {
	first := []sent{{video, 0, 1000, 0, false}, {audio, 0, 1000, 0, false}, {video, .04, 1040, 40, false}}
	for name, c := range map[string]struct {
		jitter Jitter
		frames []sent
	}{
		"JitterFull": {JitterFull, []sent{{audio, 30, 9000, 80, true}, {video, 30, 9010, 90, false}, {video, 30.04, 9050, 130, false}}},
		"JitterZero": {JitterZero, []sent{{video, 30, 9000, 80, true}, {audio, 30, 99_000, 90_080, false}}},
		"JitterOff":  {JitterOff, []sent{{video, 30, 9000, 9000, true}, {audio, 30, 8990, 8990, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			var l timeline
			repairAll(&l, JitterFull, first)
			l.restart()
			for i, f := range repairAll(&l, c.jitter, c.frames) {
				require.Equal(t, c.frames[i].want, int(f.DTS/ms), "frame %d", i)
				require.Equal(t, c.frames[i].broke, f.Discontinuity, "frame %d", i)
			}
		})
	}
}

// One track's clock runs 1 % slow or fast: before they are 3 s apart it is
// brought back, again and again.
func TestTimelineDrift(t *testing.T) {
	for name, rate := range map[string]float64{"slow": .99, "fast": 1.01} {
		t.Run(name, func(t *testing.T) {
			var l timeline
			var last [3]time.Duration
			breaks := 0
			for i := range 25 * 3600 { // an hour
				wall := float64(i) / 25
				frames := repairAll(&l, JitterFull, []sent{
					{track: video, wall: wall, dts: int(wall * 1000)},
					{track: audio, wall: wall, dts: int(wall * 1000 * rate)},
				})
				for _, f := range frames {
					require.Greater(t, f.DTS, last[f.Track.ID]-1)
					last[f.Track.ID] = f.DTS
					if f.Discontinuity {
						breaks++
					}
				}
				require.InDelta(t, last[1].Seconds(), last[2].Seconds(), 3.1)
			}
			require.InDelta(t, 12, breaks, 1, "36 s of drift, mended 3 s at a time")
		})
	}
}

// Whatever a publisher sends, JitterFull's line starts at zero and rises, each
// track by itself, and never leaps where time did not.
func TestTimelineProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l timeline
		last := map[uint8]time.Duration{}
		newest := time.Duration(0)
		now := time.Unix(1_000_000, 0)
		for i := range rapid.IntRange(1, 60).Draw(t, "frames") {
			if i > 0 && rapid.IntRange(0, 19).Draw(t, "restart") == 0 {
				l.restart()
			}
			pause := time.Duration(rapid.IntRange(0, 5000).Draw(t, "pause")) * ms
			now = now.Add(pause)
			f := frame(rapid.SampledFrom([]*Track{video, audio, cues}).Draw(t, "track"), 0, true)
			f.DTS = time.Duration(rapid.Int64Range(-1<<55, 1<<55).Draw(t, "dts"))
			if rapid.Bool().Draw(t, "near") {
				f.DTS %= 10 * time.Second
			}
			f.PTS = f.DTS + 40*ms
			f.arrived = now
			l.repair(f, JitterFull)
			require.GreaterOrEqual(t, f.DTS, time.Duration(0))
			require.Equal(t, 40*ms, f.PTS-f.DTS)
			if before, ok := last[f.Track.ID]; ok {
				require.Greater(t, f.DTS, before)
			}
			require.LessOrEqual(t, f.DTS, newest+maxGap+restep+now.Sub(time.Unix(1_000_000, 0)))
			last[f.Track.ID] = f.DTS
			newest = max(newest, f.DTS)
		}
	})
}

// Through the hub, in virtual time: the wall clock that passes between two
// slides is what keeps them from being a jump.
func TestSlideShow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		p := publish(t, &h, "live/slides", nil, video)
		r := subscribe(t, &h, "live/slides", nil)
		for i := range 5 {
			write(t, p, frame(video, 20_000*i, true))
			got, err := drain(t, r)
			require.NoError(t, err)
			require.Equal(t, []int{20_000 * i}, dts(got))
			require.False(t, got[0].Discontinuity)
			time.Sleep(20*time.Second - ms)
		}
	})
}
