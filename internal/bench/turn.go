package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// turnBench is one call of the command.
type turnBench struct {
	servers, vias, traffics, dirs string
	window, settle                time.Duration
	rounds                        int
	video, voice, stream          int // clients
	allocations                   int
	peers                         int
	segment                       bool
	tick                          time.Duration
	coturn, coturnArgs            string
	runnel, runnelArgs            string
	perf                          string
	markdown                      bool

	log       io.Writer
	dir       string // temporary
	cert, key string
	family    *family
}

// A turnTraffic is what a client says.
type turnTraffic struct {
	name        string
	burst, size int
	rate        int // bursts a second
}

var turnTraffics = []turnTraffic{
	{"video", 7, 1200, 30},
	{"voice", 1, 172, 50},
	{"full", 7, 1200, 30}, // as video, 40,000 packets a second of it
}

// A turnVariant is a server and what goes through it.
type turnVariant struct {
	server, via, traffic, dir string
}

func (v turnVariant) String() string {
	return strings.Join([]string{v.server, v.via, v.traffic, v.dir}, " ")
}

// What else is measured than relayed packets.
const (
	turnAllocations = "allocations"
	turnBindings    = "bindings"
)

func (t *turnBench) flags(log io.Writer) (fs *flag.FlagSet, short *bool) {
	fs = flag.NewFlagSet("bench turn", flag.ContinueOnError)
	fs.SetOutput(log)
	fs.StringVar(&t.servers, "servers", turnCoturn+","+turnRunnel+","+turnPion, "servers to measure")
	fs.StringVar(&t.vias, "via", "udp,tcp,tls,dtls", "transports of the clients")
	fs.StringVar(&t.traffics, "traffic", "video,voice,full,allocations,bindings", "what to measure: bursts of video, single packets of voice, 40,000 packets a second up, allocations, STUN Binding")
	fs.StringVar(&t.dirs, "dir", "up,down,both", "directions of video and voice over UDP; over others it is both")
	fs.DurationVar(&t.window, "window", 5*time.Second, "how long a server is measured")
	fs.DurationVar(&t.settle, "settle", 700*time.Millisecond, "how long the traffic runs before that")
	fs.IntVar(&t.rounds, "rounds", 3, "how often each server is measured, all of them in turn")
	fs.IntVar(&t.video, "video", 48, "clients with video over UDP")
	fs.IntVar(&t.voice, "voice", 200, "clients with voice over UDP")
	fs.IntVar(&t.stream, "stream", 4, "over TCP, TLS and DTLS: this many times fewer")
	fs.IntVar(&t.allocations, "allocations", 8000, "allocations that are made for their rate and memory")
	fs.IntVar(&t.peers, "peers", 4, "addresses that the clients talk to")
	fs.BoolVar(&t.segment, "segment", true, "the load generator sends a burst in one call (UDP_SEGMENT) and takes several packets in one (UDP_GRO), as network cards do")
	fs.DurationVar(&t.tick, "tick", time.Millisecond, "the load generator looks at clock and UDP sockets at this interval")
	fs.StringVar(&t.coturn, "coturn", findProgram("turnserver"), "coturn's program")
	fs.StringVar(&t.coturnArgs, "coturn-args", "", "more arguments for it, separated by spaces")
	fs.StringVar(&t.runnel, "runnel", "", "program to run instead of building examples/turnserver")
	fs.StringVar(&t.runnelArgs, "runnel-args", "", "more arguments for it, separated by spaces")
	fs.StringVar(&t.perf, "perf", "", "folder for a CPU profile of each measurement by perf record; the figures are then no good")
	fs.BoolVar(&t.markdown, "md", false, "print Markdown")
	short = fs.Bool("short", false, "few clients, one round, a second each: whether it works at all")
	return fs, short
}

func runTurn(ctx context.Context, args []string, _ io.Reader, out, log io.Writer) error {
	t := &turnBench{log: log}
	fs, short := t.flags(log)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("bench: turn: what is %q?", fs.Arg(0))
	}
	if *short {
		given := make(map[string]bool)
		fs.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
		for name, value := range map[string]string{
			"window": "1s", "settle": "200ms", "rounds": "1", "video": "4", "voice": "8", "stream": "2", "allocations": "20", "dir": "both", "traffic": "video,voice,allocations,bindings",
		} {
			if !given[name] {
				_ = fs.Set(name, value) // known good
			}
		}
	}
	results, err := t.run(ctx)
	if err != nil {
		return err
	}
	r := turnReport{
		machine: machineFacts(), peer: coturnVersion(ctx, t.coturn), command: strings.Join(append([]string{"go run ./internal/bench turn"}, args...), " "),
		bench: t, rows: summarizeTurn(results),
	}
	if t.markdown {
		return r.markdown(out)
	}
	return r.text(out)
}

// variants are what is measured, those next to each other that are compared.
func (t *turnBench) variants() (vs []turnVariant, err error) {
	servers := strings.Split(t.servers, ",")
	for _, s := range servers {
		if s != turnCoturn && s != turnPion && s != turnRunnel {
			return nil, fmt.Errorf("bench: no server %q", s)
		}
	}
	add := func(via, traffic, dir string) {
		for _, s := range servers {
			vs = append(vs, turnVariant{s, via, traffic, dir})
		}
	}
	traffics := strings.Split(t.traffics, ",")
	for _, via := range strings.Split(t.vias, ",") {
		if !slices.Contains([]string{viaUDP, viaTCP, viaTLS, viaDTLS}, via) {
			return nil, fmt.Errorf("bench: no transport %q", via)
		}
		for _, traffic := range traffics {
			switch {
			case traffic == turnAllocations || traffic == turnBindings:
			case !slices.ContainsFunc(turnTraffics, func(tt turnTraffic) bool { return tt.name == traffic }):
				return nil, fmt.Errorf("bench: no traffic %q", traffic)
			case traffic == "full":
				if via == viaUDP {
					add(via, traffic, "up")
				}
			case via != viaUDP:
				add(via, traffic, "both")
			default:
				for _, dir := range strings.Split(t.dirs, ",") {
					if dir != "up" && dir != "down" && dir != "both" {
						return nil, fmt.Errorf("bench: no direction %q", dir)
					}
					add(via, traffic, dir)
				}
			}
		}
	}
	for _, traffic := range []string{turnAllocations, turnBindings} {
		if slices.Contains(traffics, traffic) {
			add(viaUDP, traffic, "")
		}
	}
	return vs, nil
}

// clients returns how many clients a variant has and what they say.
func (t *turnBench) clients(v turnVariant) (n int, traffic turnTraffic) {
	if v.traffic == turnAllocations {
		return t.allocations, turnTraffics[1]
	}
	for _, traffic = range turnTraffics {
		if traffic.name == v.traffic {
			break
		}
	}
	switch v.traffic {
	case "video":
		n = t.video
	case "full":
		n = 40_000/(traffic.burst*traffic.rate) + 1
	default:
		n = t.voice
	}
	if v.via != viaUDP {
		n = max(1, n/t.stream)
	}
	return n, traffic
}

// run measures every variant in every round.
func (t *turnBench) run(ctx context.Context) (results []turnResult, err error) {
	if err := supported(); err != nil {
		return nil, err
	}
	variants, err := t.variants()
	if err != nil {
		return nil, err
	}
	if t.rounds < 1 || min(t.video, t.voice, t.stream, t.allocations, t.peers) < 1 || t.window < time.Second {
		return nil, errors.New("bench: turn: too few clients or rounds, or too short a window")
	}
	if err := raiseFiles(uint64(max(t.allocations, t.voice)) + 5000); err != nil { // coturn opens some for itself
		return nil, err
	}
	if t.dir, err = os.MkdirTemp("", "runnel-bench"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(t.dir)
	if err := os.Chmod(t.dir, 0o755); err != nil { //nolint:gosec // coturn drops its rights before it reads the certificate
		return nil, err
	}
	if t.cert, t.key, err = writeCert(t.dir); err != nil {
		return nil, err
	}
	if t.family, err = newFamily(); err != nil {
		return nil, err
	}
	defer t.family.Close()
	if t.runnel == "" && strings.Contains(t.servers, turnRunnel) {
		if t.runnel, err = buildTurnServer(ctx, t.dir); err != nil {
			return nil, err
		}
	}
	for round := range t.rounds {
		for i := range variants {
			if round%2 == 1 { // what drifts hits the first and the last alike
				i = len(variants) - 1 - i
			}
			r, err := t.measure(ctx, variants[i])
			if err != nil {
				return nil, fmt.Errorf("%w (%v)", err, variants[i])
			}
			results = append(results, r)
			fmt.Fprintf(t.log, "round %d/%d  %-28v %v\n", round+1, t.rounds, variants[i], r)
		}
	}
	return results, nil
}

// measure runs one server under one load.
func (t *turnBench) measure(ctx context.Context, v turnVariant) (r turnResult, err error) {
	s, err := t.startTurn(ctx, v.server)
	if err != nil {
		return r, err
	}
	defer s.Stop()
	c, err := t.startLoad(v, s)
	if err != nil {
		return r, err
	}
	defer c.process.Stop()
	r.variant = v
	switch v.traffic {
	case turnAllocations:
		err = t.measureAllocations(ctx, s, c, &r)
	case turnBindings:
		err = t.measureBindings(ctx, s, c, &r)
	default:
		err = t.measureRelay(ctx, s, c, &r)
	}
	if err == nil {
		err = s.failed()
	}
	return r, err
}

func (t *turnBench) startLoad(v turnVariant, s *turnServer) (*controller, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n, traffic := t.clients(v)
	cmd := exec.Command(self, "turnload", "-server", s.addr(v.via), "-via", v.via, "-clients", fmt.Sprint(n), "-peers", fmt.Sprint(t.peers), //nolint:noctx // the family ends it
		"-burst", fmt.Sprint(traffic.burst), "-size", fmt.Sprint(traffic.size), "-rate", fmt.Sprint(traffic.rate), "-dir", v.dir,
		fmt.Sprintf("-segment=%v", t.segment), "-tick", t.tick.String(), fmt.Sprintf("-bare=%v", v.traffic == turnAllocations))
	return startController(t.family, cmd)
}

// startController starts a process that obeys lines.
func startController(f *family, cmd *exec.Cmd) (*controller, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	read, write := io.Pipe()
	cmd.Stdout = write
	c := &controller{in: in, answers: make(chan json.RawMessage)}
	if c.process, err = f.Start(cmd); err != nil {
		return nil, err
	}
	go func() {
		<-c.process.done
		write.Close()
	}()
	go func() {
		defer close(c.answers)
		for d := json.NewDecoder(read); ; {
			var raw json.RawMessage
			if d.Decode(&raw) != nil {
				return
			}
			select {
			case c.answers <- raw:
			case <-c.process.done:
				return
			}
		}
	}()
	return c, nil
}
