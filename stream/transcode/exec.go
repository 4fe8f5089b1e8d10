package transcode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
)

// An Exec runs a command for each live stream that it is to follow, from the stream's
// start to its end; a command that ends before that is started again. It runs in a
// process group of its own, which is asked to end by SIGTERM, and killed after Grace.
//
// The words {stream} (the whole name), {app} and {name} (what is before and behind its
// last slash) in an argument stand for the stream. No shell reads them, but the command
// may give them to one: so names with other characters than letters, digits, "-", ".",
// "_" and "/", and names that would make an argument an option, are refused, with a
// line in the log. {stream:escaped}, {app:escaped} and {name:escaped} take any name and
// write it as in a URL.
type Exec struct {
	Hub *stream.Hub
	Log *slog.Logger // nil: slog.Default()

	Match   func(streamName string) bool // which streams; nil: none
	Command []string                     // the program and its arguments
	Env     []string                     // all of its environment, as "NAME=value"
	Dir     string                       // where it runs; "": the root directory
	Limits  Limits
	User    *User // whom it runs as; nil: as this process

	// Feed gives it the stream on standard input, as MPEG-TS. One that reads too
	// slowly is left out whole groups of pictures.
	Feed bool

	Grace time.Duration // 0: 5 s
}

// Check says what is wrong with the fields, as Run would.
func (e *Exec) Check() error {
	if e.Hub == nil || len(e.Command) == 0 {
		return errors.New("transcode: Exec without a Hub or a Command")
	}
	_, err := expand(e.Command[1:], "app/name")
	return err
}

// Run follows the hub until ctx ends, whose error it returns, or the hub is closed, and
// all commands are gone.
func (e *Exec) Run(ctx context.Context) error {
	if err := e.Check(); err != nil {
		return err
	}
	var running sync.WaitGroup
	cancels := make(map[*stream.Stream]context.CancelFunc)
	f := &follower{hub: e.Hub, match: e.Match,
		seen: func(s *stream.Stream) {
			if cancels[s] != nil {
				return
			}
			live, cancel := context.WithCancel(ctx)
			cancels[s] = cancel
			running.Go(func() { e.follow(ctx, live, s) })
		},
		gone: func(name string) {
			for s, cancel := range cancels {
				if s.Name() == name && e.Hub.Stream(name) != s {
					cancel()
					delete(cancels, s)
				}
			}
		},
	}
	f.run(ctx)
	for _, cancel := range cancels {
		cancel()
	}
	running.Wait()
	return ctx.Err()
}

// follow runs the command for one stream, until that is over, or Run's ctx.
func (e *Exec) follow(ctx, live context.Context, s *stream.Stream) {
	log := logger(e.Log).With("stream", s.Name(), "command", e.Command[0])
	args, err := expand(e.Command[1:], s.Name())
	if err != nil {
		log.Warn("transcode: command not run", "err", err)
		return
	}
	c := &command{
		path: e.Command[0], args: args, env: e.Env, dir: e.Dir,
		feed: e.Feed, files: true, limits: e.Limits, user: e.User,
	}
	_ = supervise(live, log, func(live context.Context) error { return e.once(ctx, live, c, s) })
}

func (e *Exec) grace() time.Duration { return cmp.Or(e.Grace, 5*time.Second) }

func (e *Exec) once(ctx, live context.Context, c *command, s *stream.Stream) error {
	p, err := c.start()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	live, leave := context.WithCancel(live)
	defer leave()
	go func() {
		<-p.exited
		cancel()
		leave()
	}()
	if e.Feed {
		e.feed(ctx, live, s, p.stdin)
	}
	<-live.Done()
	// Who was fed has come to the end of its input.
	p.stop(!e.Feed || ctx.Err() != nil, e.grace())
	return p.err
}

// feed writes the stream until all of it is written, or ctx ends. When the stream is
// over the command may not take for ever to read it.
func (e *Exec) feed(ctx, live context.Context, s *stream.Stream, w *os.File) {
	defer w.Close()
	stop := context.AfterFunc(live, func() { _ = w.SetWriteDeadline(time.Now().Add(e.grace())) })
	defer stop()
	now := context.AfterFunc(ctx, func() { _ = w.SetWriteDeadline(time.Now()) })
	defer now()
	sub, err := e.Hub.Subscribe(ctx, s.Name(), &stream.SubscribeOptions{MaxLag: 5 * time.Second})
	if err != nil {
		return
	}
	defer sub.Close()
	var muxer mpegts.Muxer
	var tracks map[uint8]*stream.Track
	var buf []byte
	for f, err := range sub.Frames(ctx) {
		if err != nil {
			return
		}
		if tracks[f.Track.ID] != f.Track { // the first, or a new configuration
			tracks = make(map[uint8]*stream.Track)
			var carried []*stream.Track
			for _, t := range sub.Tracks() {
				if t.ID == f.Track.ID {
					t = f.Track
				}
				tracks[t.ID] = t
				if mpegts.Supports(t) == nil {
					carried = append(carried, t)
				}
			}
			tracks[f.Track.ID] = f.Track
			if muxer.Configure(carried) != nil {
				return
			}
		}
		if buf = muxer.AppendFrame(buf[:0], f); len(buf) == 0 {
			continue
		}
		if _, err := w.Write(buf); err != nil {
			return
		}
	}
}

var errVariable = errors.New("transcode: variables are {stream}, {app} and {name}, and the same with :escaped")

// expand puts the name of a stream into arguments.
func expand(args []string, name string) ([]string, error) {
	app, last := "", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		app, last = name[:i], name[i+1:]
	}
	values := map[string]string{"stream": name, "app": app, "name": last}
	out := make([]string, len(args))
	for i, arg := range args {
		var b strings.Builder
		for rest := arg; ; {
			before, inside, found := strings.Cut(rest, "{")
			b.WriteString(before)
			if !found {
				break
			}
			word, after, closed := strings.Cut(inside, "}")
			if !closed || word == "" || strings.ContainsFunc(word, func(r rune) bool { return r != ':' && (r < 'a' || r > 'z') }) {
				b.WriteByte('{') // no variable
				rest = inside
				continue
			}
			key, how, _ := strings.Cut(word, ":")
			value, ok := values[key]
			if !ok || how != "" && how != "escaped" {
				return nil, fmt.Errorf("%w, not {%s}", errVariable, word)
			}
			if how == "escaped" {
				value = escaped.Replace(url.QueryEscape(value))
			} else if i := strings.IndexFunc(value, odd); i >= 0 {
				r, _ := utf8.DecodeRuneInString(value[i:])
				return nil, fmt.Errorf("transcode: %q in a stream's name, and not {%s:escaped}", r, key)
			}
			if b.Len() == 0 && strings.HasPrefix(value, "-") {
				return nil, errors.New("transcode: a stream's name begins with \"-\" where it would be an option")
			}
			b.WriteString(value)
			rest = after
		}
		out[i] = b.String()
	}
	return out, nil
}

// escaped makes of what goes into a query what goes into a path too.
var escaped = strings.NewReplacer("+", "%20", "%2F", "/")

// odd reports whether a shell, or another language that arguments are given to, may
// read a character as more than itself.
func odd(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-._/", r)
}
