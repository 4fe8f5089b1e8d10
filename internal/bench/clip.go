package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A clip is an FLV file of H.264 at 1 Mbit/s and 25 frames a second, and AAC at
// 128 kbit/s. It is encoded once and kept, so that the publisher of a run only
// copies.
type clip struct {
	length time.Duration
	gop    int // frames from one key frame to the next

	path string
	rate float64 // bytes of tag bodies a second
}

// args are ffmpeg's. The noise leaves the encoder no quiet stretch, so
// that the rate holds over any few seconds.
func (c *clip) args() []string {
	seconds, gop := fmt.Sprint(c.length.Seconds()), fmt.Sprint(c.gop)
	return []string{
		"-nostdin", "-v", "error", "-y",
		"-f", "lavfi", "-i", "testsrc2=s=640x360:r=25,noise=alls=12:allf=t+u,format=yuv420p",
		"-f", "lavfi", "-i", "anoisesrc=r=48000:a=0.3:d=" + seconds + ",aformat=channel_layouts=stereo",
		"-t", seconds,
		"-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-bf", "0", "-threads", "2",
		"-g", gop, "-keyint_min", gop, "-sc_threshold", "0",
		"-b:v", "1000k", "-minrate", "1000k", "-maxrate", "1000k", "-bufsize", "500k",
		"-c:a", "aac", "-b:a", "128k",
		"-f", "flv",
	}
}

func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "runnel-bench")
}

// find sees to it that the clip is in the folder dir.
func (c *clip) find(ctx context.Context, f *family, ffmpeg, dir string) error {
	args := c.args()
	c.path = filepath.Join(dir, fmt.Sprintf("%.12x.flv", sha256.Sum256([]byte(strings.Join(args, " ")))))
	if err := c.measure(); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unfinished, err := os.CreateTemp(dir, "*.part")
	if err != nil {
		return err
	}
	unfinished.Close()
	defer os.Remove(unfinished.Name())
	p, err := f.Start(exec.Command(ffmpeg, append(args, unfinished.Name())...)) //nolint:noctx // the family ends it
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.Stop()
		return context.Cause(ctx)
	}
	if p.err != nil {
		return p.failed()
	}
	if err := os.Rename(unfinished.Name(), c.path); err != nil {
		return err
	}
	return c.measure()
}

// measure finds the clip's rate.
func (c *clip) measure() error {
	f, err := os.Open(c.path)
	if err != nil {
		return err
	}
	defer f.Close()
	total := 0
	for r := (&tagReader{r: bufio.NewReader(f)}); ; {
		m, err := r.next()
		if err != nil {
			break // the end; a cut file shows in the rate
		}
		total += len(m.body)
	}
	c.rate = float64(total) / c.length.Seconds()
	if c.rate < 120_000 || c.rate > 160_000 {
		return fmt.Errorf("bench: clip of %.0f bytes a second", c.rate)
	}
	return nil
}

// publish starts ffmpeg, which sends the clip over and over in real time.
func (c *clip) publish(f *family, ffmpeg, url string) (*process, error) {
	return f.Start(exec.Command(ffmpeg, "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", c.path, //nolint:noctx // the family ends it
		"-c", "copy", "-f", "flv", "-flvflags", "no_duration_filesize", url))
}
