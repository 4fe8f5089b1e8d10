package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os/user"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/transcode"
)

// transcodeOptions is the flag -transcode and what the file says; docs/transcoding.md
// has it all.
type transcodeOptions struct {
	file string

	FFmpeg   ffmpegOptions   `yaml:"ffmpeg"`
	Ladders  []ladderOptions `yaml:"ladders"`
	Pictures *pictureOptions `yaml:"pictures"`
	Exec     []execOptions   `yaml:"exec"`
	Pull     []pullOptions   `yaml:"pull"`
}

type ffmpegOptions struct {
	Path   string        `yaml:"path"`
	Env    []string      `yaml:"env"`
	Input  []string      `yaml:"input"`
	Stall  time.Duration `yaml:"stall"`
	User   string        `yaml:"user"`
	Limits limitOptions  `yaml:"limits"`
}

type limitOptions struct {
	CPU    time.Duration `yaml:"cpu"`
	Memory byteSize      `yaml:"memory"`
	Time   time.Duration `yaml:"time"`
	Nice   int           `yaml:"nice"`
}

type ladderOptions struct {
	Streams    []string      `yaml:"streams"`
	Input      []string      `yaml:"input"`
	Enlarge    bool          `yaml:"enlarge"`
	Linger     time.Duration `yaml:"linger"`
	Renditions []stepOptions `yaml:"renditions"`
}

type stepOptions struct {
	Name         string       `yaml:"name"`
	Codec        stream.Codec `yaml:"codec"`
	Width        int          `yaml:"width"`
	Height       int          `yaml:"height"`
	FPS          float64      `yaml:"fps"`
	BitRate      bitRate      `yaml:"bitrate"`
	Encoder      string       `yaml:"encoder"`
	Preset       string       `yaml:"preset"`
	Profile      string       `yaml:"profile"`
	Tune         string       `yaml:"tune"`
	Filter       string       `yaml:"filter"`
	Args         []string     `yaml:"args"`
	AudioBitRate bitRate      `yaml:"audio-bitrate"`
}

type pictureOptions struct {
	Streams []string      `yaml:"streams"` // that pictures are made of all the time
	Every   time.Duration `yaml:"every"`
	Width   int           `yaml:"width"`
	Height  int           `yaml:"height"`
	Runs    int           `yaml:"runs"`
}

type execOptions struct {
	Streams []string      `yaml:"streams"`
	Command []string      `yaml:"command"`
	Env     []string      `yaml:"env"`
	Dir     string        `yaml:"dir"`
	Feed    bool          `yaml:"feed"`
	Grace   time.Duration `yaml:"grace"`
	User    string        `yaml:"user"`
	Limits  limitOptions  `yaml:"limits"`
}

type pullOptions struct {
	Stream   string         `yaml:"stream"`
	URL      string         `yaml:"url"`
	Format   string         `yaml:"format"`
	Input    []string       `yaml:"input"`
	Output   []string       `yaml:"output"`
	Realtime bool           `yaml:"realtime"`
	Loop     bool           `yaml:"loop"`
	Once     bool           `yaml:"once"`
	Watchdog time.Duration  `yaml:"watchdog"`
	Allow    []netip.Prefix `yaml:"allow"`
}

// A bitRate is written as "800k" or "2.5M", or in bits a second.
type bitRate int

func (b *bitRate) UnmarshalText(text []byte) error {
	s, unit := string(text), 1.0
	switch {
	case strings.HasSuffix(s, "k"):
		s, unit = s[:len(s)-1], 1e3
	case strings.HasSuffix(s, "M"):
		s, unit = s[:len(s)-1], 1e6
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n >= 0 && n*unit <= 1e9) {
		return fmt.Errorf("%q is no bit rate", text)
	}
	*b = bitRate(n * unit)
	return nil
}

// A byteSize is written as "2GB" or "500MB", or "none" for no bound.
type byteSize int64

func (b *byteSize) UnmarshalText(text []byte) error {
	if string(text) == "none" {
		*b = -1
		return nil
	}
	n, ok := parseSize(strings.ToUpper(string(text)))
	if !ok {
		return fmt.Errorf("%q is no size", text)
	}
	*b = byteSize(n)
	return nil
}

func (o *transcodeOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.file, "transcode", "", "a YAML file that says what ffmpeg is to do: renditions, pictures, commands, pulls; see docs/transcoding.md")
}

// transcoding is all that -transcode runs.
type transcoding struct {
	pictures *transcode.Snapshot // nil: none
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// A runner follows the hub.
type runner interface{ Run(context.Context) error }

// start runs what the file says until ctx ends; without a file it returns nil.
func (o *transcodeOptions) start(ctx context.Context, hub *stream.Hub, authorizer auth.Authorizer, log *slog.Logger) (*transcoding, error) {
	if o.file == "" {
		return nil, nil
	}
	if err := config.ReadYAML(o.file, o); err != nil {
		return nil, err
	}
	t := &transcoding{}
	runners, err := o.runners(t, hub, authorizer, log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.file, err)
	}
	ctx, t.cancel = context.WithCancel(ctx)
	for _, r := range runners {
		t.running.Go(func() {
			if err := r.Run(ctx); err != nil && ctx.Err() == nil {
				log.Error("transcoding", "err", err)
			}
		})
	}
	return t, nil
}

func (o *transcodeOptions) runners(t *transcoding, hub *stream.Hub, authorizer auth.Authorizer, log *slog.Logger) (list []runner, err error) {
	ffmpeg, err := o.FFmpeg.ffmpeg()
	if err != nil {
		return nil, err
	}
	for _, l := range o.Ladders {
		match, err := patterns(l.Streams)
		if err != nil {
			return nil, err
		}
		ladder := &transcode.Ladder{Hub: hub, Log: log, Match: match, FFmpeg: ffmpeg, Enlarge: l.Enlarge, Linger: l.Linger}
		if l.Input != nil {
			ladder.FFmpeg.Input = l.Input
		}
		for _, s := range l.Renditions {
			ladder.Steps = append(ladder.Steps, transcode.Step{
				Name: s.Name, Codec: s.Codec, Width: s.Width, Height: s.Height, FPS: s.FPS, BitRate: int(s.BitRate),
				Encoder: s.Encoder, Preset: s.Preset, Profile: s.Profile, Tune: s.Tune, Filter: s.Filter, Args: s.Args,
				AudioBitRate: int(s.AudioBitRate),
			})
		}
		if err := ladder.Check(); err != nil {
			return nil, err
		}
		list = append(list, ladder)
	}
	if p := o.Pictures; p != nil {
		t.pictures = &transcode.Snapshot{
			Hub: hub, Log: log, Auth: authorizer, FFmpeg: ffmpeg,
			Width: p.Width, Height: p.Height, Every: p.Every, MaxRuns: p.Runs,
		}
		if t.pictures.Match, err = patterns(p.Streams); err != nil {
			return nil, err
		}
		if len(p.Streams) > 0 {
			list = append(list, t.pictures)
		}
	}
	for _, e := range o.Exec {
		run := &transcode.Exec{Hub: hub, Log: log, Command: e.Command, Env: e.Env, Dir: e.Dir, Feed: e.Feed, Grace: e.Grace, Limits: e.Limits.limits()}
		if run.Match, err = patterns(e.Streams); err != nil {
			return nil, err
		}
		if run.User, err = lookUp(e.User); err != nil {
			return nil, err
		}
		if err := run.Check(); err != nil {
			return nil, err
		}
		list = append(list, run)
	}
	for _, p := range o.Pull {
		pull := &transcode.Pull{
			Hub: hub, Log: log, FFmpeg: ffmpeg, Stream: p.Stream, URL: p.URL, Format: p.Format, Output: p.Output,
			Realtime: p.Realtime, Loop: p.Loop, Once: p.Once, Allow: p.Allow,
		}
		pull.FFmpeg.Input = p.Input
		if p.Watchdog > 0 {
			pull.FFmpeg.Stall = p.Watchdog
		}
		if err := pull.Check(); err != nil {
			return nil, err
		}
		list = append(list, pull)
	}
	return list, nil
}

func patterns(streams []string) (func(string) bool, error) { return record.Pattern(streams...) }

func (o *ffmpegOptions) ffmpeg() (transcode.FFmpeg, error) {
	who, err := lookUp(o.User)
	return transcode.FFmpeg{Path: o.Path, Env: o.Env, Input: o.Input, Stall: o.Stall, User: who, Limits: o.Limits.limits()}, err
}

func (o *limitOptions) limits() transcode.Limits {
	return transcode.Limits{CPU: o.CPU, Memory: int64(o.Memory), Time: o.Time, Nice: o.Nice}
}

// lookUp finds the user that programs are to run as; "" is this process's, nil.
func lookUp(name string) (*transcode.User, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, id := range append([]string{u.Uid, u.Gid}, ids...) {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, errors.New("a user needs a Unix system")
		}
		numbers = append(numbers, uint32(n))
	}
	return &transcode.User{UID: numbers[0], GID: numbers[1], Groups: numbers[2:]}, nil
}

// stop ends everything, and returns when all programs are gone.
func (t *transcoding) stop() {
	if t == nil {
		return
	}
	t.cancel()
	t.running.Wait()
}

// routes puts pictures of streams beside what next serves.
func (t *transcoding) routes(next http.Handler) http.Handler {
	if t == nil || t.pictures == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path.Ext(r.URL.Path) {
		case ".jpg", ".jpeg", ".png", ".webp":
			if strings.Count(r.URL.Path, "/") > 1 && !strings.HasPrefix(r.URL.Path, "/recordings/") { // a stream's, not the page's
				t.pictures.ServeHTTP(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
