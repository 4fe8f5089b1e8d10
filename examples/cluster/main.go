// Cluster starts five servers on this machine, three origins and two edges, and
// prints where to publish and where to watch:
//
//	go run ./examples/cluster
//
// Publish at any origin and watch at any edge. Each server is a process, whose
// number is printed: kill one (kill -9) and see what becomes of its streams. It
// is started again after some seconds. Ctrl-C ends everything.
//
// The origins keep the cluster's registry together, in a NATS node each, so that
// any one of them may fail. Everything listens on the loopback interface only,
// with no passwords: what other machines take is in docs/cluster.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stdin); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// options say where the servers listen. Server i has port RTMP+i and so on.
type options struct {
	rtmp, http, nats, peers int
	dir                     string
	server                  string // "": all, as processes of their own
	restart                 time.Duration
}

// The servers. Origins come first.
var (
	names   = []string{"origin1", "origin2", "origin3", "edge1", "edge2"}
	origins = 3
)

func address(port, i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port+i)) }

func run(ctx context.Context, args []string, stdout io.Writer, stdin io.Reader) error {
	var o options
	fs := flag.NewFlagSet("cluster", flag.ContinueOnError)
	fs.IntVar(&o.rtmp, "rtmp", 1935, "first of five ports for RTMP")
	fs.IntVar(&o.http, "http", 8080, "first of five ports for HTTP")
	fs.IntVar(&o.nats, "nats", 4222, "first of three ports for NATS clients")
	fs.IntVar(&o.peers, "peers", 6222, "first of three ports for NATS nodes")
	fs.StringVar(&o.dir, "dir", "", "directory for what the registry keeps; empty: a temporary one")
	fs.DurationVar(&o.restart, "restart", 5*time.Second, "how long a server that was killed stays away")
	fs.StringVar(&o.server, "server", "", "run one server only, such as origin1")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if o.server == "" {
		return o.all(ctx, args, stdout)
	}
	// Whoever started us holds the other end: something there says to leave the
	// cluster, and we end with it.
	end, stop := context.WithCancel(ctx)
	defer stop()
	ctx, leave := context.WithCancel(end)
	defer leave()
	go func() {
		defer stop()
		_, _ = stdin.Read(make([]byte, 1))
		leave()
		_, _ = io.Copy(io.Discard, stdin)
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("server", o.server)
	for i, name := range names {
		if name == o.server {
			return o.serve(ctx, i, log, func() {
				fmt.Fprintln(stdout, "has left")
				<-end.Done()
			})
		}
	}
	return fmt.Errorf("there is no server %q", o.server)
}

// all runs the servers as processes until ctx ends.
func (o *options) all(ctx context.Context, args []string, stdout io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "runnel-cluster-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		args = append(args, "-dir", dir)
	} else if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	// All leave the registry while it is there, and end then.
	end, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var wait, present sync.WaitGroup
	say := &printer{w: stdout}
	for _, name := range names {
		present.Add(1)
		left := sync.OnceFunc(present.Done)
		wait.Go(func() {
			defer left()
			o.keep(ctx, name, say, func(started func(pid int)) error {
				c := &child{leave: ctx, end: end, left: left}
				return c.run(self, append(args[:len(args):len(args)], "-server", name), started)
			})
		})
	}
	if o.ready(ctx) {
		say.line("%s", o.greeting())
	}
	<-ctx.Done()
	present.Wait()
	cancel()
	wait.Wait()
	return nil
}

// keep runs a server, and again if it ends, until ctx does.
func (o *options) keep(ctx context.Context, name string, say *printer, once func(started func(pid int)) error) {
	for ctx.Err() == nil {
		err := once(func(pid int) { say.line("%-8s process %d", name, pid) })
		if ctx.Err() != nil {
			return
		}
		say.line("%-8s has ended (%v); it comes back in %v", name, err, o.restart)
		select {
		case <-time.After(o.restart):
		case <-ctx.Done():
		}
	}
}

// ready waits until the cluster knows all its servers, and reports false if
// ctx ended before.
func (o *options) ready(ctx context.Context) bool {
	client := &http.Client{Timeout: time.Second}
	for {
		if r, err := client.Get("http://" + address(o.http, 0) + "/cluster"); err == nil {
			b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
			r.Body.Close()
			if strings.Count(string(b), "\n") == len(names) {
				return true
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
}

// A child is a server, which leaves the registry when leave ends, says so, and
// goes when end does.
type child struct {
	leave, end context.Context
	left       func()
}

// Write takes what a child says: that it has left.
func (c *child) Write(b []byte) (int, error) {
	if c.leave.Err() != nil { // else somebody ended that one alone
		c.left()
	}
	return len(b), nil
}

// run runs the server.
func (c *child) run(program string, args []string, started func(pid int)) error {
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = c, os.Stderr
	apart(cmd)
	hold, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	started(cmd.Process.Pid)
	done := make(chan struct{})
	go func() {
		defer hold.Close()
		select {
		case <-c.leave.Done():
		case <-done:
			return
		}
		defer time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() }).Stop()
		_, _ = io.WriteString(hold, "\n")
		select {
		case <-c.end.Done():
			hold.Close()
		case <-done:
		}
		<-done
	}()
	err = cmd.Wait()
	close(done)
	if err == nil {
		err = errors.New("by itself")
	}
	return err
}

// A printer prints lines of several goroutines.
type printer struct {
	mu sync.Mutex
	w  io.Writer
}

func (p *printer) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, format+"\n", args...)
}

func (o *options) greeting() (s string) {
	s = "\nPublish at any origin:\n"
	for i := range origins {
		s += fmt.Sprintf("  ffmpeg -re -stream_loop -1 -i FILE -c copy -f flv rtmp://%s/live/cam\n", address(o.rtmp, i))
	}
	s += "\nWatch anywhere, for example at the edges:\n"
	for i := origins; i < len(names); i++ {
		s += fmt.Sprintf("  ffplay rtmp://%s/live/cam\n", address(o.rtmp, i))
		s += fmt.Sprintf("  ffplay http://%s/live/cam.flv\n", address(o.http, i))
		s += fmt.Sprintf("  http://%s/live/cam.m3u8 (Safari, hls.js)\n", address(o.http, i))
	}
	return s + fmt.Sprintf("\nWho is there: http://%s/cluster\n", address(o.http, 0))
}
