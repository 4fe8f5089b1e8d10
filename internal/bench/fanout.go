package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// fanout is one call of the command.
type fanout struct {
	players   int
	samples   int
	poll      time.Duration
	enough    float64 // share of the stream that a player is to receive
	window    time.Duration
	settle    time.Duration
	warm      time.Duration
	rounds    int
	servers   string
	protocols string
	intervals string
	runnel    string
	runnelArg string
	nginx     string
	ffmpeg    string
	perf      string
	cache     string
	markdown  bool

	log    io.Writer
	dir    string // temporary
	family *family
	source clip
}

// A variant is a server in one configuration and the protocol of its players.
type variant struct {
	server   string
	proto    string
	interval time.Duration
}

const (
	serverNginx  = "nginx-rtmp"
	serverRunnel = "runnel"
)

func (v variant) String() string {
	if v.server == serverNginx {
		return v.server + " " + v.proto
	}
	return fmt.Sprintf("%s %s %v", v.server, v.proto, v.interval)
}

func (f *fanout) flags(log io.Writer) (fs *flag.FlagSet, short *bool) {
	fs = flag.NewFlagSet("bench fanout", flag.ContinueOnError)
	fs.SetOutput(log)
	fs.IntVar(&f.players, "players", 500, "players of the stream")
	fs.DurationVar(&f.window, "window", 20*time.Second, "how long a server is measured")
	fs.DurationVar(&f.settle, "settle", 4*time.Second, "how long the publisher runs alone, and the players then, before that")
	fs.DurationVar(&f.warm, "warm", 45*time.Second, "as -settle for the publisher in the first round, which is the one that memory is measured in: until what a server keeps of a stream has its full size")
	fs.IntVar(&f.rounds, "rounds", 3, "how often each server is measured, all of them in turn")
	fs.StringVar(&f.servers, "servers", serverNginx+","+serverRunnel, "servers to measure")
	fs.StringVar(&f.protocols, "protocols", protoFLV, "Runnel's players: flv, ws, rtmp; nginx-rtmp's are always rtmp")
	fs.StringVar(&f.intervals, "intervals", "0s,40ms,100ms,350ms", "Runnel's write intervals")
	fs.StringVar(&f.runnel, "runnel", "", "program to run instead of building examples/mediaserver")
	fs.StringVar(&f.runnelArg, "runnel-args", "", "more arguments for it, separated by spaces")
	fs.StringVar(&f.nginx, "nginx", findNginx(), "nginx program")
	fs.StringVar(&f.ffmpeg, "ffmpeg", "ffmpeg", "ffmpeg program")
	fs.IntVar(&f.samples, "samples", 16, "players at which the delay is measured")
	fs.DurationVar(&f.poll, "poll", 0, "let the load generator look at its sockets at this interval instead of waiting, so that the server's sends do not wake it up")
	fs.StringVar(&f.perf, "perf", "", "folder for a CPU profile of each measurement by perf record; the figures are then no good")
	fs.StringVar(&f.cache, "cache", cacheDir(), "folder where the encoded clip is kept")
	fs.BoolVar(&f.markdown, "md", false, "print Markdown")
	short = fs.Bool("short", false, "50 players, 3 s, one round: whether it works at all")
	return fs, short
}

func runFanout(ctx context.Context, args []string, _ io.Reader, out, log io.Writer) error {
	f := &fanout{log: log, enough: 0.9, source: clip{length: time.Minute, gop: 50}}
	fs, short := f.flags(log)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("bench: fanout: what is %q?", fs.Arg(0))
	}
	if *short {
		f.shorten(fs)
	}
	results, err := f.run(ctx)
	if err != nil {
		return err
	}
	r := report{
		machine: machineFacts(), peer: f.nginxVersion(ctx), command: strings.Join(append([]string{"go run ./internal/bench fanout"}, args...), " "),
		players: f.players, enough: f.enough, poll: f.poll, window: f.window, warm: max(f.warm, f.settle), rounds: f.rounds, source: f.source, rows: summarize(results),
		profiled: f.perf != "",
	}
	if f.markdown {
		return r.markdown(out)
	}
	return r.text(out)
}

// shorten applies -short to what no flag has set.
func (f *fanout) shorten(fs *flag.FlagSet) {
	given := make(map[string]bool)
	fs.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	set := func(name, value string) {
		if !given[name] {
			_ = fs.Set(name, value) // known good
		}
	}
	set("players", "50")
	set("window", "3s")
	set("settle", "600ms")
	set("warm", "600ms")
	set("rounds", "1")
	set("intervals", "40ms")
	set("samples", "8")
	f.enough = 0.5 // a hiccup of a busy machine is much of a short window
	f.source = clip{length: 5 * time.Second, gop: 12}
}

func (f *fanout) variants() (vs []variant, err error) {
	for _, name := range strings.Split(f.servers, ",") {
		switch name {
		case serverNginx:
			vs = append(vs, variant{server: name, proto: protoRTMP})
		case serverRunnel:
			for _, proto := range strings.Split(f.protocols, ",") {
				if proto != protoFLV && proto != protoWS && proto != protoRTMP {
					return nil, fmt.Errorf("bench: no protocol %q", proto)
				}
				for _, s := range strings.Split(f.intervals, ",") {
					d, err := time.ParseDuration(s)
					if err != nil {
						return nil, fmt.Errorf("bench: -intervals: %w", err)
					}
					vs = append(vs, variant{name, proto, d})
				}
			}
		default:
			return nil, fmt.Errorf("bench: no server %q", name)
		}
	}
	return vs, nil
}

// run measures every variant in every round.
func (f *fanout) run(ctx context.Context) (results []result, err error) {
	if err := supported(); err != nil {
		return nil, err
	}
	variants, err := f.variants()
	if err != nil {
		return nil, err
	}
	if f.players < 1 || f.rounds < 1 || f.window < time.Second {
		return nil, errors.New("bench: fanout: too few players or rounds, or too short a window")
	}
	if err := raiseFiles(uint64(f.players) + 1000); err != nil {
		return nil, err
	}
	if f.dir, err = os.MkdirTemp("", "runnel-bench"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(f.dir)
	if f.family, err = newFamily(); err != nil {
		return nil, err
	}
	defer f.family.Close()
	if err = f.source.find(ctx, f.family, f.ffmpeg, f.cache); err != nil {
		return nil, err
	}
	if f.runnel == "" && strings.Contains(f.servers, serverRunnel) {
		if f.runnel, err = buildRunnel(ctx, f.dir); err != nil {
			return nil, err
		}
	}
	for round := range f.rounds {
		for i := range variants {
			if round%2 == 1 { // what drifts hits the first and the last alike
				i = len(variants) - 1 - i
			}
			r, err := f.measure(ctx, variants[i], round == 0)
			if err != nil {
				return nil, fmt.Errorf("%w (%v)", err, variants[i])
			}
			results = append(results, r)
			fmt.Fprintf(f.log, "round %d/%d  %-22v %v\n", round+1, f.rounds, variants[i], r)
		}
	}
	return results, nil
}

// measure runs one server with its publisher and players, and weighs it if it
// is the first time.
func (f *fanout) measure(ctx context.Context, v variant, first bool) (r result, err error) {
	s, err := f.start(ctx, v)
	if err != nil {
		return r, err
	}
	defer s.Stop()
	playAt := s.rtmp
	if v.proto != protoRTMP {
		playAt = s.http
	}
	var hello helloAnswer
	c, err := f.startPlayers(ctx, s.rtmp, playAt, v.proto, &hello)
	if err != nil {
		return r, err
	}
	defer c.process.Stop()
	pub, err := f.source.publish(f.family, f.ffmpeg, "rtmp://"+hello.Tap+"/live/bench")
	if err != nil {
		return r, err
	}
	defer pub.Stop()
	alive := []*process{s.process, c.process, pub}

	alone := f.settle
	if first {
		alone = max(f.settle, f.warm)
	}
	if err := pause(ctx, alone, alive...); err != nil {
		return r, err
	}
	before, err := residentBytes(s.cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	var connected connectAnswer
	if err := c.ask(ctx, "connect", &connected); err != nil {
		return r, err
	}
	if connected.Playing != f.players {
		return r, fmt.Errorf("bench: %d of %d players play: %s\n%s", connected.Playing, f.players, connected.Error, s.log.String())
	}
	if err := pause(ctx, f.settle, alive...); err != nil {
		return r, err
	}
	if r, err = f.observe(ctx, s, c, alive); err != nil {
		return r, err
	}
	r.variant = v
	after, err := residentBytes(s.cmd.Process.Pid)
	r.weighed, r.memory = first, float64(after-before)/1024/float64(f.players)
	return r, err
}

func (f *fanout) start(ctx context.Context, v variant) (*server, error) {
	if v.server == serverNginx {
		return startNginx(ctx, f.family, f.dir, f.nginx, f.players)
	}
	return startRunnel(ctx, f.family, f.runnel, v.interval, strings.Fields(f.runnelArg))
}

func (f *fanout) startPlayers(ctx context.Context, publish, play, proto string, hello *helloAnswer) (*controller, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "players", "-publish", publish, "-addr", play, "-proto", proto, //nolint:noctx // the family ends it
		"-n", fmt.Sprint(f.players), "-samples", fmt.Sprint(f.samples), "-poll", f.poll.String())
	c, err := startController(f.family, cmd)
	if err != nil {
		return nil, err
	}
	if err := c.ask(ctx, "", hello); err != nil {
		c.process.Stop()
		return nil, err
	}
	return c, nil
}

// usage is what the clocks of a run say at one moment.
type usage struct {
	server, busy, idle time.Duration
	at                 time.Time
	stats              serverStats
}

func (f *fanout) usage(ctx context.Context, s *server) (u usage, err error) {
	if s.stats != "" {
		u.stats, _ = s.readStats(ctx) // a server without them is measured all the same
	}
	if u.busy, u.idle, err = busyTime(); err != nil {
		return u, err
	}
	u.server, err = cpuTime(s.cmd.Process.Pid)
	u.at = time.Now()
	return u, err
}

// observe measures the window of a run that is in full swing.
func (f *fanout) observe(ctx context.Context, s *server, c *controller, alive []*process) (r result, err error) {
	stopPerf, err := f.startPerf(s)
	if err != nil {
		return r, err
	}
	defer stopPerf()
	if err := c.ask(ctx, "begin", new(struct{})); err != nil {
		return r, err
	}
	first, err := f.usage(ctx, s)
	if err != nil {
		return r, err
	}
	if err := pause(ctx, f.window, alive...); err != nil {
		return r, err
	}
	last, err := f.usage(ctx, s)
	if err != nil {
		return r, err
	}
	var end endAnswer
	if err := c.ask(ctx, "end", &end); err != nil {
		return r, err
	}
	wall := last.at.Sub(first.at).Seconds()
	r.cpu = ms(last.server-first.server) / wall / float64(f.players)
	r.gone = end.Gone
	for _, n := range end.Bytes {
		if float64(n) < f.enough*f.source.rate*wall {
			r.starved++
		}
	}
	r.delay50, r.delay99, r.misses = ms(end.P50), ms(end.P99), end.Misses
	if q := last.stats.since(first.stats, 0.50, 0.99); q != nil {
		r.inside, r.inside50, r.inside99 = true, q[0], q[1]
	}
	busy, idle := last.busy-first.busy, last.idle-first.idle
	r.idle = float64(idle) / float64(max(1, busy+idle))
	r.others = float64(max(0, busy-(last.server-first.server)-end.CPU)) / float64(max(1, busy+idle))
	return r, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// startPerf records a CPU profile of the server if -perf says so, until the
// returned function is called.
func (f *fanout) startPerf(s *server) (stop func(), err error) {
	if f.perf == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(f.perf, 0o755); err != nil {
		return nil, err
	}
	var pids []string
	for _, p := range tree(s.cmd.Process.Pid) {
		pids = append(pids, fmt.Sprint(p))
	}
	file := filepath.Join(f.perf, fmt.Sprintf("%s-%d.data", s.name, s.cmd.Process.Pid))
	p, err := f.family.Start(exec.Command("perf", "record", "-e", "cpu-clock", "-F", "997", "-g", "-o", file, "-p", strings.Join(pids, ","))) //nolint:noctx // the family ends it
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(f.log, "profile: perf report -i %s --no-children\n", file)
	return p.interrupt, nil
}

func (f *fanout) nginxVersion(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, f.nginx, "-v").CombinedOutput()
	if err != nil {
		return "nginx"
	}
	_, version, _ := strings.Cut(strings.TrimSpace(string(out)), ": ")
	return strings.TrimPrefix(version, "nginx version: ")
}
