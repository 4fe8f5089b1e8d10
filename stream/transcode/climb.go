package transcode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A climb makes the renditions of one stream as long as somebody reads them, with one
// ffmpeg after another.
type climb struct {
	ladder *Ladder
	steps  []Step
	src    *stream.Subscriber
	log    *slog.Logger

	times times
	taps  []*tap
	next  *stream.Frame // the key frame that the next run begins with, if it has been read
}

func (c *climb) run(ctx context.Context, outs []*stream.Publisher) error {
	for _, out := range outs {
		c.taps = append(c.taps, &tap{out: out, times: &c.times})
	}
	return supervise(ctx, c.log, c.once)
}

// key returns the next key frame.
func (c *climb) key(ctx context.Context) (*stream.Frame, error) {
	if f := c.next; f != nil {
		c.next = nil
		return f, nil
	}
	for f, err := range c.src.Frames(ctx) {
		if err != nil {
			return nil, err
		}
		if f.Key && f.Track.Kind() == stream.Video {
			return f, nil
		}
	}
	return nil, io.EOF
}

// once feeds one ffmpeg to its end, or until the pictures are such that there must be
// another.
func (c *climb) once(ctx context.Context) error {
	first, err := c.key(ctx)
	if err != nil {
		return err
	}
	var audio *stream.Track
	for i := range c.steps {
		if c.steps[i].AudioBitRate > 0 {
			audio = firstOf(c.src.Tracks(), stream.Audio)
		}
	}
	in, err := newFeed(first.Track, audio, first.DTS)
	if err != nil {
		return err
	}
	c.times.reset(in.base)
	p, err := c.command(in).start()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dog := &watchdog{stall: c.ladder.FFmpeg.stall(), most: heldBack, bark: func() { p.kill(errHangs) }}
	defer dog.stop()
	var reading sync.WaitGroup
	for i, t := range c.taps {
		t.progress = dog.fed
		reading.Go(func() {
			err := readOutput(p.outputs[i], c.steps[i].codec(), t)
			select {
			case <-p.exited: // which is all there is to say
			case <-time.After(time.Second):
				// Such as the hub's refusal of frames when nobody reads any more.
				p.kill(cmp.Or(err, errPipe))
			}
			p.outputs[i].Close()
		})
	}
	go func() {
		<-p.exited
		cancel() // what waits for frames
	}()
	err = c.feed(ctx, in, first, p.stdin, dog)
	if ctx.Err() != nil && !p.ended() {
		p.kill(context.Canceled) // nobody wants it any more
	}
	p.stop(false, dog.stall)
	reading.Wait()
	if errors.Is(err, errAgain) || errors.Is(err, io.EOF) {
		return err
	}
	return p.err
}

// command returns the ffmpeg that makes all steps of a feed.
func (c *climb) command(in *feed) *command {
	source, _ := in.video.Video()
	var graph strings.Builder
	fmt.Fprintf(&graph, "[0:v:0]split=%d", len(c.steps))
	for i := range c.steps {
		fmt.Fprintf(&graph, "[s%d]", i)
	}
	for i := range c.steps {
		fmt.Fprintf(&graph, ";[s%d]%s[v%d]", i, c.steps[i].filter(source), i)
	}
	args := append(c.ladder.FFmpeg.fed(in), "-filter_complex", graph.String())
	for i := range c.steps {
		args = append(args, c.steps[i].output(i, in.audio != nil)...)
	}
	cmd := c.ladder.FFmpeg.command(args...)
	cmd.feed, cmd.outputs = true, len(c.steps)
	return cmd
}

// feed writes frames to ffmpeg until something ends: errAgain says that the next frame
// is for another ffmpeg.
func (c *climb) feed(ctx context.Context, in *feed, f *stream.Frame, w *os.File, dog *watchdog) error {
	life := cmp.Or(c.ladder.MaxLife, 12*time.Hour)
	var buf []byte
	for {
		fits := in.takes(f)
		if f.Key && f.Track.Kind() == stream.Video && f.Track.ID == in.video.ID && (in.stale || f.DTS-in.base > life) {
			c.next = f
			return errAgain
		}
		if fits {
			if f.Track.Kind() == stream.Video {
				c.times.add(f)
				dog.owes()
			}
			buf = in.append(buf[:0], f)
			_ = w.SetWriteDeadline(time.Now().Add(dog.stall))
			if _, err := w.Write(buf); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					dog.bark()
				}
				return err
			}
			if cap(buf) > 1<<20 {
				buf = nil // of a large key frame, and rare
			}
		}
		var one [1]*stream.Frame
		if _, err := c.src.Read(ctx, one[:]); err != nil {
			return err
		}
		f = one[0]
	}
}

var (
	errHangs = errors.New("it hangs")
	errPipe  = errors.New("it has closed a pipe")
)

// heldBack is how many pictures an encoder may keep to look ahead.
const heldBack = 100
