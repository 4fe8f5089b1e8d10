package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A player is a connection whose bytes are counted and thrown away.
type player struct {
	bytes atomic.Int64
	gone  atomic.Bool
}

// Answers of the players' process, one line of JSON each.
type (
	helloAnswer struct {
		Tap string `json:"tap"` // where the publisher connects
	}
	connectAnswer struct {
		Playing int    `json:"playing"`
		Error   string `json:"error,omitempty"` // the first one
	}
	endAnswer struct {
		Bytes  []int64       `json:"bytes"` // of each player in the window
		Gone   int           `json:"gone"`  // connections that ended
		P50    time.Duration `json:"p50"`   // from the tap to a player
		P99    time.Duration `json:"p99"`
		Frames int           `json:"frames"` // that the two are of
		Misses int           `json:"misses"` // frames that the tap did not know
		CPU    time.Duration `json:"cpu"`    // that this process has used in the window
	}
)

// The load generator: what runPlayers drives.
type generator struct {
	proto, addr, stream string
	count, samples      int
	parallel            int

	tap     *tap
	drain   *drain
	players []*player
	before  []int64 // player.bytes at begin
	cpu     time.Duration
}

// runPlayers is the process that holds the players. It says where its tap
// listens, obeys the lines "connect", "begin" and "end", and answers each. It
// ends with its input.
func runPlayers(_ context.Context, args []string, in io.Reader, out, log io.Writer) error {
	signal.Reset() // it holds nothing worth a slow end
	var g generator
	fs := flag.NewFlagSet("bench players", flag.ContinueOnError)
	fs.SetOutput(log)
	publish := fs.String("publish", "", "RTMP address of the server")
	fs.StringVar(&g.proto, "proto", protoFLV, "rtmp, flv or ws")
	fs.StringVar(&g.addr, "addr", "", "address of the server that the players connect to")
	fs.StringVar(&g.stream, "stream", "live/bench", "app and name")
	fs.IntVar(&g.count, "n", 500, "players")
	fs.IntVar(&g.samples, "samples", 16, "players that read whole messages, for the delay")
	fs.IntVar(&g.parallel, "parallel", 16, "connections made at once")
	poll := fs.Duration("poll", 0, "look at the sockets at this interval instead of waiting")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := raiseFiles(uint64(g.count) + 100); err != nil {
		return err
	}
	var err error
	if g.tap, err = newTap(*publish); err != nil {
		return err
	}
	defer g.tap.listener.Close()
	go g.tap.serve() //nolint:errcheck // without it the publisher ends, which its starter sees
	if g.drain, err = newDrain(*poll); err != nil {
		return err
	}
	defer g.drain.close()
	answers := json.NewEncoder(out)
	if err := answers.Encode(helloAnswer{g.tap.listener.Addr().String()}); err != nil {
		return err
	}
	for s := bufio.NewScanner(in); s.Scan(); {
		var answer any
		switch s.Text() {
		case "connect":
			answer = g.connect()
		case "begin":
			answer, err = g.begin()
		case "end":
			answer, err = g.end()
		default:
			err = fmt.Errorf("bench: players: no command %q", s.Text())
		}
		if err == nil {
			err = answers.Encode(answer)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// connect makes the players, a few at a time, and returns when each plays or
// has failed. The sampled ones are spread evenly among them.
func (g *generator) connect() connectAnswer {
	g.players = make([]*player, g.count)
	turns := make(chan struct{}, max(1, g.parallel))
	var wg sync.WaitGroup
	var failed atomic.Int64
	var first atomic.Pointer[string]
	for i := range g.players {
		g.players[i] = new(player)
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			sample := g.samples > 0 && i%max(1, g.count/g.samples) == 0
			if err := g.play(g.players[i], sample); err != nil {
				failed.Add(1)
				text := err.Error()
				first.CompareAndSwap(nil, &text)
			}
		})
	}
	wg.Wait()
	a := connectAnswer{Playing: g.count - int(failed.Load())}
	if text := first.Load(); text != nil {
		a.Error = *text
	}
	return a
}

func (g *generator) play(p *player, sample bool) error {
	d, err := dialPlayer(g.proto, g.addr, g.stream, 20*time.Second)
	if err != nil {
		p.gone.Store(true)
		return err
	}
	if sample {
		go g.follow(p, d)
		return nil
	}
	p.bytes.Store(int64(d.br.Buffered()))
	f, err := d.conn.File() // off Go's poller, so that the server's packets wake one poller and not two
	d.conn.Close()
	if err == nil {
		err = g.drain.add(p, f, g.proto == protoRTMP)
	}
	return err
}

// follow plays whole messages until the connection ends.
func (g *generator) follow(p *player, d *dialed) {
	defer d.conn.Close()
	defer p.gone.Store(true)
	var acked int64
	for {
		m, err := d.messages.next()
		if err != nil {
			return
		}
		if b, ok := m.frame(); ok {
			g.tap.arrived(b)
		}
		n := p.bytes.Add(int64(len(m.body)))
		if g.proto == protoRTMP && n-acked >= ackEvery {
			acked = n
			if _, err := d.conn.Write(appendAck(nil, n)); err != nil {
				return
			}
		}
	}
}

// ackEvery is after how many bytes an RTMP player acknowledges: half of the
// window that servers ask for.
const ackEvery = 1_250_000

func (g *generator) begin() (struct{}, error) {
	g.before = make([]int64, len(g.players))
	for i, p := range g.players {
		g.before[i] = p.bytes.Load()
	}
	g.tap.begin()
	var err error
	g.cpu, err = cpuTime(os.Getpid())
	return struct{}{}, err
}

func (g *generator) end() (a endAnswer, err error) {
	for i, p := range g.players {
		a.Bytes = append(a.Bytes, p.bytes.Load()-g.before[i])
		if p.gone.Load() {
			a.Gone++
		}
	}
	delays, misses := g.tap.end()
	a.Frames, a.Misses = len(delays), misses
	a.P50, a.P99 = quantile(delays, 0.50), quantile(delays, 0.99)
	cpu, err := cpuTime(os.Getpid())
	a.CPU = cpu - g.cpu
	return a, err
}

// quantile returns the q-th part of sorted values, 0 of none.
func quantile[T cmp.Ordered](sorted []T, q float64) (v T) {
	if len(sorted) > 0 {
		v = sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
	}
	return v
}

// A controller is the other end of the players' process.
type controller struct {
	process *process
	in      io.Writer
	answers chan json.RawMessage
}

// ask sends a line, unless it is "", and reads the answer into v.
func (c *controller) ask(ctx context.Context, line string, v any) error {
	if line != "" {
		if _, err := io.WriteString(c.in, line+"\n"); err != nil {
			return cmp.Or(c.process.failed(), err)
		}
	}
	what := cmp.Or(line, "start")
	select {
	case raw, ok := <-c.answers:
		if !ok {
			<-c.process.done
			return fmt.Errorf("bench: players (%s): %s", what, strings.TrimSpace(c.process.log.String()))
		}
		return json.Unmarshal(raw, v)
	case <-time.After(60 * time.Second):
		return fmt.Errorf("bench: players do not answer %q", what)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
