package transcode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/internal/name"
	"github.com/runnel-media/runnel/stream"
)

// A Pull publishes what ffmpeg can read: a file, a camera or a sound card, RTSP, HLS,
// RTMP, SRT. When it fails, or gives nothing for a while, ffmpeg is killed and started
// again.
//
// ffmpeg may use the protocols that the URL needs and no other. What it fetches over
// HTTP goes through a proxy inside this process, so that a playlist can refer to no
// file, and to no address that is not public but those of Allow and the URL's own host
// and port. A file is not read as a playlist, which could name any other, unless Format
// says so.
type Pull struct {
	Hub *stream.Hub
	Log *slog.Logger // nil: slog.Default()

	Stream  string                 // what to publish it as
	Publish *stream.PublishOptions // nil: none

	// URL is http, https, rtsp, rtsps, rtmp, rtmps, srt, udp, rtp or file; or the path
	// of a file; or with the Format of a device, such as "v4l2", what it calls it.
	// Passwords in it can be seen in the system's list of processes.
	URL    string
	Format string // as ffmpeg's -f before the input; "": what it looks like

	// Output are ffmpeg's options for the codecs. nil: "-c copy", so that what MPEG-TS
	// does not carry is refused. For a device, say "-c:v", "libx264", …
	Output []string

	Realtime bool // at the speed of its timestamps: for files
	Loop     bool // again and again: for files
	Once     bool // Run returns when it has come to its end

	Allow  []netip.Prefix // further addresses that playlists may refer to
	FFmpeg FFmpeg         // Stall is how long no frame may come
}

// Check says what is wrong with the fields, as Run would.
func (p *Pull) Check() error {
	if p.Hub == nil {
		return errors.New("transcode: Pull without a Hub")
	}
	if err := name.Check(p.Stream); err != nil {
		return fmt.Errorf("transcode: %w", err)
	}
	_, err := p.source()
	return err
}

// Run pulls until ctx ends, whose error it returns, or somebody else ends the stream for
// good. While the stream has another publisher it tries again and again.
func (p *Pull) Run(ctx context.Context) error {
	if err := p.Check(); err != nil {
		return err
	}
	log := logger(p.Log).With("stream", p.Stream)
	return supervise(ctx, log, p.once)
}

// once runs ffmpeg to its end.
func (p *Pull) once(ctx context.Context) error {
	src, err := p.source()
	if err != nil {
		return err
	}
	output := p.Output
	if output == nil {
		output = []string{"-c", "copy"}
	}
	args := append(src.args, "-map", "0:v:0?", "-map", "0:a:0?")
	args = append(append(args, output...), "-f", "mpegts", "-muxdelay", "0", "-muxpreload", "0", "-omit_video_pes_length", "0", "-flush_packets", "1", pipeName(0))
	c := p.FFmpeg.command(args...)
	c.outputs, c.secrets = 1, src.secrets
	var through *proxy
	if src.fetched != nil {
		if through, err = newProxy(src.fetched, p.Allow); err != nil {
			return err
		}
		defer through.close()
		c.env = append([]string{"http_proxy=" + through.url()}, c.env...)
		c.secrets = append(c.secrets, through.secret)
	}
	process, err := c.start()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { process.kill(ctx.Err()) })
	defer stop()
	dog := time.AfterFunc(p.FFmpeg.stall(), func() { process.kill(errSilent) })
	defer dog.Stop()

	var evicted atomic.Pointer[error]
	options := stream.PublishOptions{}
	if p.Publish != nil {
		options = *p.Publish
	}
	told := options.OnEvict
	options.OnEvict = func(err error) {
		evicted.Store(&err)
		process.kill(err)
		if told != nil {
			told(err)
		}
	}
	in := &pulled{pull: p, ctx: ctx, options: &options, progress: func() { dog.Reset(p.FFmpeg.stall()) }}
	_, err = (&mpegts.Demuxer{Sink: in}).ReadFrom(process.outputs[0])
	if in.publisher != nil {
		defer in.publisher.Close()
	}
	process.outputs[0].Close()
	// At the end of its input ffmpeg ends by itself; what else made the reading end is
	// the end of ffmpeg too.
	timer := time.AfterFunc(time.Second, func() { process.kill(cmp.Or(in.err, err, errPipe)) })
	defer timer.Stop()
	<-process.exited
	if why := evicted.Load(); why != nil {
		in.err = *why
	}
	switch {
	case errors.Is(in.err, stream.ErrKicked), errors.Is(in.err, stream.ErrClosed):
		return nil // somebody's will
	case in.err != nil:
		return in.err
	case through != nil && through.denied() != "":
		return fmt.Errorf("%w: %s: %w", errAddress, through.denied(), process.err)
	case p.Once && !process.failed() && in.publisher != nil:
		return nil
	}
	return process.err
}

var errSilent = errors.New("no frames came")

// pulled publishes what has been pulled, from the first track on.
type pulled struct {
	pull     *Pull
	ctx      context.Context
	options  *stream.PublishOptions
	progress func()

	publisher *stream.Publisher
	err       error // why it could not be published
}

// SetTracks implements mpegts.Sink.
func (p *pulled) SetTracks(tracks ...*stream.Track) error {
	if p.publisher == nil {
		p.publisher, p.err = p.pull.Hub.Publish(p.ctx, p.pull.Stream, p.options)
		if p.err != nil {
			return p.err
		}
	}
	p.err = p.publisher.SetTracks(tracks...)
	return p.err
}

// Write implements mpegts.Sink.
func (p *pulled) Write(f *stream.Frame) error {
	p.progress()
	p.err = p.publisher.Write(f)
	return p.err
}
