package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// turnResult is one measurement.
type turnResult struct {
	variant turnVariant

	// Of a load of packets.
	cpu              float64 // µs of the server's per relayed packet
	sent, received   int64
	delay50, delay99 float64 // ms from one end to the other
	late             time.Duration

	// Of allocations and Bindings.
	memory float64 // KB of the server's resident memory per allocation
	rate   float64 // a second
	each   float64 // µs of the server's CPU for one

	busy   float64 // processors that the server kept busy
	load   float64 // and the load generator
	others float64 // share of the machine that neither used
}

func (r turnResult) loss() float64 { return 1 - float64(r.received)/float64(max(1, r.sent)) }

func (r turnResult) String() string {
	s := ""
	if r.sent > 0 {
		s = fmt.Sprintf("%.2f µs/packet  loss %.3f %%  delay %.2f/%.2f ms  late %v", r.cpu, 100*r.loss(), r.delay50, r.delay99, r.late.Round(100*time.Microsecond))
	}
	if r.rate > 0 {
		s = fmt.Sprintf("%.0f/s  %.1f µs each", r.rate, r.each)
	}
	if r.memory > 0 {
		s += fmt.Sprintf("  %.1f KB each", r.memory)
	}
	return s + fmt.Sprintf("  server %.2f, load %.2f cores, others %.0f %%", r.busy, r.load, 100*r.others)
}

// A turnClock is what is read before and after.
type turnClock struct {
	server, busy, idle time.Duration
	at                 time.Time
}

func readTurnClock(s *turnServer) (c turnClock, err error) {
	if c.busy, c.idle, err = busyTime(); err != nil {
		return c, err
	}
	c.server, err = cpuTime(s.cmd.Process.Pid)
	c.at = time.Now()
	return c, err
}

// since fills in how busy the machine was, of which load is the load
// generator's part, and returns the server's CPU time.
func (c turnClock) since(first turnClock, load time.Duration, r *turnResult) time.Duration {
	wall, used := c.at.Sub(first.at).Seconds(), c.server-first.server
	busy, idle := c.busy-first.busy, c.idle-first.idle
	r.busy, r.load = used.Seconds()/wall, load.Seconds()/wall
	r.others = float64(max(0, busy-used-load)) / float64(max(1, busy+idle))
	return used
}

func connectAll(ctx context.Context, c *controller, want int) (a turnConnected, err error) {
	if err := c.ask(ctx, "connect", &a); err != nil {
		return a, err
	}
	if a.Clients != want {
		return a, fmt.Errorf("bench: %d of %d clients have an allocation: %s", a.Clients, want, a.Error)
	}
	return a, nil
}

// measureRelay measures the window of a run that is in full swing.
func (t *turnBench) measureRelay(ctx context.Context, s *turnServer, c *controller, r *turnResult) error {
	n, _ := t.clients(r.variant)
	if _, err := connectAll(ctx, c, n); err != nil {
		return err
	}
	if err := c.ask(ctx, "start", new(struct{})); err != nil {
		return err
	}
	if err := pause(ctx, t.settle, s.process, c.process); err != nil {
		return err
	}
	stopPerf, err := t.startPerf(r.variant, s)
	if err != nil {
		return err
	}
	defer stopPerf()
	if err := c.ask(ctx, "begin", new(struct{})); err != nil {
		return err
	}
	first, err := readTurnClock(s)
	if err != nil {
		return err
	}
	if err := pause(ctx, t.window, s.process, c.process); err != nil {
		return err
	}
	last, err := readTurnClock(s)
	if err != nil {
		return err
	}
	var m turnMeasured
	if err := c.ask(ctx, "end", &m); err != nil {
		return err
	}
	used := last.since(first, m.CPU, r)
	r.cpu = float64(used.Microseconds()) / float64(max(1, m.Received))
	r.sent, r.received, r.late = m.Sent, m.Received, m.Late
	r.delay50, r.delay99 = ms(m.P50), ms(m.P99)
	return nil
}

// measureAllocations measures how fast allocations are made, each with the
// refusal that tells the nonce, and what they weigh.
func (t *turnBench) measureAllocations(ctx context.Context, s *turnServer, c *controller, r *turnResult) error {
	before, err := residentBytes(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	stopPerf, err := t.startPerf(r.variant, s)
	if err != nil {
		return err
	}
	defer stopPerf()
	first, err := readTurnClock(s)
	if err != nil {
		return err
	}
	a, err := connectAll(ctx, c, t.allocations)
	if err != nil {
		return err
	}
	last, err := readTurnClock(s)
	if err != nil {
		return err
	}
	load, err := cpuTime(c.process.cmd.Process.Pid)
	if err != nil {
		return err
	}
	used := last.since(first, load, r)
	r.rate = float64(t.allocations) / a.Took.Seconds()
	r.each = float64(used.Microseconds()) / float64(t.allocations)
	if err := pause(ctx, time.Second, s.process, c.process); err != nil { // for a server that tidies up
		return err
	}
	after, err := residentBytes(s.cmd.Process.Pid)
	r.memory = float64(after-before) / 1024 / float64(t.allocations)
	return err
}

func (t *turnBench) measureBindings(ctx context.Context, s *turnServer, c *controller, r *turnResult) error {
	stopPerf, err := t.startPerf(r.variant, s)
	if err != nil {
		return err
	}
	defer stopPerf()
	first, err := readTurnClock(s)
	if err != nil {
		return err
	}
	var b turnBound
	if err := c.ask(ctx, "bindings", &b); err != nil {
		return err
	}
	last, err := readTurnClock(s)
	if err != nil {
		return err
	}
	used := last.since(first, b.CPU, r)
	r.rate = float64(b.Answers) / last.at.Sub(first.at).Seconds()
	r.each = float64(used.Microseconds()) / float64(max(1, b.Answers))
	return nil
}

// startPerf records a CPU profile of the server if -perf says so, until the
// returned function is called.
func (t *turnBench) startPerf(v turnVariant, s *turnServer) (stop func(), err error) {
	if t.perf == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(t.perf, 0o755); err != nil {
		return nil, err
	}
	name := strings.NewReplacer(" ", "-", "/", "-").Replace(v.String())
	file := filepath.Join(t.perf, fmt.Sprintf("%s-%d.data", name, s.cmd.Process.Pid))
	p, err := t.family.Start(exec.Command("perf", "record", "-e", "cpu-clock", "-F", "1997", "-g", "-o", file, "-p", fmt.Sprint(s.cmd.Process.Pid))) //nolint:noctx // the family ends it
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(t.log, "profile: perf report -i %s --no-children\n", file)
	return p.interrupt, nil
}
