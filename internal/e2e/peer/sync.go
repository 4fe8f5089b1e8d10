package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Marks is when the flashes and beeps of a Clip came out of ffmpeg's
// decoders, and how many frames did.
type Marks struct {
	Pictures int
	Flashes  []time.Duration
	Beeps    []time.Duration
}

// Offsets returns, for each flash that has a beep within half a second, how
// much later the flash is, the smallest first.
func (m *Marks) Offsets() []time.Duration {
	var offsets []time.Duration
	for _, flash := range m.Flashes {
		for _, beep := range m.Beeps {
			if d := flash - beep; d.Abs() < 500*time.Millisecond {
				offsets = append(offsets, d)
			}
		}
	}
	slices.Sort(offsets)
	return offsets
}

// Observe decodes an input of picture and sound to its end and looks for the
// marks of a Clip. The arguments are options of ffmpeg, then the input.
func Observe(t testing.TB, timeout time.Duration, args ...string) *Marks {
	t.Helper()
	m, err := TryObserve(t, timeout, args...)
	require.NoError(t, err)
	return m
}

// TryObserve is Observe for any goroutine.
func TryObserve(t testing.TB, timeout time.Duration, args ...string) (*Marks, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "runnel-observe-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	luma, level := filepath.Join(dir, "luma"), filepath.Join(dir, "level")
	options := append([]string{"-nostdin", "-v", "error", "-copyts"}, args[:len(args)-1]...)
	_, log, err := Try(t, timeout, "ffmpeg", append(options, "-i", args[len(args)-1],
		"-vf", "signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file="+luma,
		// Blocks of 5 ms: finer than a packet of any codec.
		"-af", "asetnsamples=n=240,astats=metadata=1:reset=1:measure_perchannel=none:measure_overall=RMS_level,"+
			"ametadata=mode=print:key=lavfi.astats.Overall.RMS_level:file="+level,
		"-f", "null", "-")...)
	if err != nil {
		return nil, fmt.Errorf("ffmpeg -i %v: %w\n%s", args, err, log)
	}
	m := &Marks{}
	if m.Pictures, m.Flashes, err = rises(luma, 200); err == nil {
		_, m.Beeps, err = rises(level, -20)
	}
	return m, err
}

// rises reads what the metadata filters print, pairs of lines
//
//	frame:13   pts:541     pts_time:0.541
//	lavfi.signalstats.YAVG=234.5
//
// and returns the times at which the value goes over the threshold.
func rises(file string, threshold float64) (frames int, times []time.Duration, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, nil, err
	}
	var at time.Duration
	high := false
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if _, pts, ok := strings.Cut(line, "pts_time:"); ok {
			at = seconds(pts)
			frames++
		} else if _, value, ok := strings.Cut(line, "="); ok {
			now := value != "-inf" && seconds(value) > time.Duration(threshold*float64(time.Second))
			if now && !high {
				times = append(times, at)
			}
			high = now
		}
	}
	return frames, times, nil
}
