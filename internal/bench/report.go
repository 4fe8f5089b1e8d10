package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// result is one measurement.
type result struct {
	variant          variant
	cpu              float64 // ms of the server's CPU per second and player
	weighed          bool
	memory           float64 // if weighed: KB of the server's resident memory per player
	starved          int     // players that received too little of the stream
	gone             int     // players whose connection ended
	delay50, delay99 float64 // ms from the publisher's last byte of a picture to a player's
	misses           int     // pictures that the tap had not seen
	inside           bool    // the server's own histogram was to be had:
	inside50         float64 // ms from a frame's arrival to its socket write
	inside99         float64
	idle, others     float64 // shares of the machine's time: nobody, or none of ours, used it
}

func (r result) String() string {
	s := fmt.Sprintf("%.3f ms/player/s  ", r.cpu)
	if r.weighed {
		s += fmt.Sprintf("%.1f KB/player  ", r.memory)
	}
	s += fmt.Sprintf("starved %d  gone %d  delay %.1f/%.1f ms", r.starved, r.gone, r.delay50, r.delay99)
	if r.inside {
		s += fmt.Sprintf("  inside %.2f/%.2f ms", r.inside50, r.inside99)
	}
	if r.misses > 0 {
		s += fmt.Sprintf("  %d unknown pictures", r.misses)
	}
	return s + fmt.Sprintf("  machine %.0f %% idle, %.0f %% others", 100*r.idle, 100*r.others)
}

// A row is the results of one variant.
type row struct {
	variant
	median          result
	cpuLow, cpuHigh float64
	starved, gone   int // worst round
	least           float64
	others          float64 // worst round
	ratio, target   float64 // of cpu to nginx-rtmp's; 0: none
}

// targets are what the ratio is to reach, by write interval.
func target(v variant) float64 {
	if v.server != serverRunnel {
		return 0
	}
	switch v.interval {
	case 0:
		return 0.70
	case 40 * time.Millisecond:
		return 0.30
	case 100 * time.Millisecond:
		return 0.20
	case 350 * time.Millisecond:
		return 0.11
	}
	return 0
}

// summarize makes a row of each variant, in order of first appearance.
func summarize(results []result) (rows []row) {
	var order []variant
	by := make(map[variant][]result)
	for _, r := range results {
		if by[r.variant] == nil {
			order = append(order, r.variant)
		}
		by[r.variant] = append(by[r.variant], r)
	}
	for _, v := range order {
		rs := by[v]
		of := func(get func(result) float64) float64 {
			var values []float64
			for _, r := range rs {
				values = append(values, get(r))
			}
			return median(values)
		}
		w := row{variant: v, target: target(v), cpuLow: rs[0].cpu, least: 1}
		w.median = result{
			cpu:     of(func(r result) float64 { return r.cpu }),
			delay50: of(func(r result) float64 { return r.delay50 }), delay99: of(func(r result) float64 { return r.delay99 }),
			inside:   !slices.ContainsFunc(rs, func(r result) bool { return !r.inside }),
			inside50: of(func(r result) float64 { return r.inside50 }), inside99: of(func(r result) float64 { return r.inside99 }),
		}
		for _, r := range rs {
			if r.weighed {
				w.median.memory = r.memory
			}
			w.cpuLow, w.cpuHigh = min(w.cpuLow, r.cpu), max(w.cpuHigh, r.cpu)
			w.starved, w.gone = max(w.starved, r.starved), max(w.gone, r.gone)
			w.least, w.others = min(w.least, r.idle), max(w.others, r.others)
		}
		rows = append(rows, w)
	}
	i := slices.IndexFunc(rows, func(w row) bool { return w.server == serverNginx })
	for k := range rows {
		if i >= 0 && rows[i].median.cpu > 0 {
			rows[k].ratio = rows[k].median.cpu / rows[i].median.cpu
		}
	}
	return rows
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}

// A report is the outcome of a command.
type report struct {
	machine, peer, command string
	players                int
	enough                 float64
	poll                   time.Duration
	window, warm           time.Duration
	rounds                 int
	source                 clip
	profiled               bool
	rows                   []row
}

var columns = []string{
	"server", "players", "write interval", "CPU ms per player-second", "of nginx-rtmp's", "to reach",
	"RSS KB per player", "starved", "lost", "publisher to player ms p50 / p99", "arrival to write ms p50 / p99",
}

func (w row) cells() []string {
	none := "–"
	m := w.median
	c := []string{
		w.server, w.proto, none, fmt.Sprintf("%.3f (%.3f–%.3f)", m.cpu, w.cpuLow, w.cpuHigh), none, none,
		fmt.Sprintf("%.1f", m.memory), fmt.Sprint(w.starved), fmt.Sprint(w.gone), fmt.Sprintf("%.1f / %.1f", m.delay50, m.delay99), none,
	}
	if w.server == serverRunnel {
		c[2] = w.interval.String()
	}
	if w.ratio > 0 {
		c[4] = fmt.Sprintf("%.2f×", w.ratio)
	}
	if w.target > 0 {
		c[5] = fmt.Sprintf("≤ %.2f×", w.target)
	}
	if m.inside {
		c[10] = fmt.Sprintf("%.2f / %.2f", m.inside50, m.inside99)
	}
	return c
}

// notes say what the figures are and what bears on them.
func (r report) notes() []string {
	notes := []string{
		fmt.Sprintf("%d players of one stream of %.2f Mbit/s (H.264, 25 frames/s, a key frame every %d, and AAC) that ffmpeg publishes over RTMP from an encoded file; %d rounds of %v, the servers in turn; medians, of the CPU also the lowest and the highest.",
			r.players, r.source.rate*8/1e6, r.source.gop, r.rounds, r.window),
		fmt.Sprintf("CPU is the server processes' user and system time. On loopback a server's sends include the receiver's side of TCP, for every server alike. RSS is with the players, at the window's end, less that with the publisher alone before they came, in the first round, where it runs %v alone: a server with HLS first fills its window, which is no player's doing. Socket buffers are the kernel's and in neither.", r.warm),
		"Publisher to player is from when the last byte of a picture goes to the server to when a player has all of it, at a sample of the players; the load generator's own queue is in it. Arrival to write is the server's own count.",
		fmt.Sprintf("Starved: received less than %.0f %% of the stream in the window. Lost: the connection ended. Both of the worst round.", 100*r.enough),
		"nginx-rtmp runs one worker with wait_key on, no access log, and is otherwise as its documentation starts it. Its players are RTMP: Debian's module has no FLV over HTTP. It sends frame by frame and keeps no group of pictures for a player that joins. Runnel does, and may use every core.",
	}
	if r.poll > 0 {
		notes = append(notes, fmt.Sprintf("The load generator looks at its sockets each %v, so that a send wakes nobody up, as on a network.", r.poll))
	} else {
		notes = append(notes, "The load generator waits in epoll: a send may wake it up, which is in the server's CPU time (a quarter of nginx-rtmp's, by a profile) and would not be on a network. -poll 5ms takes that out.")
	}
	least, others := 1.0, 0.0
	for _, w := range r.rows {
		least, others = min(least, w.least), max(others, w.others)
	}
	if least < 0.05 {
		notes = append(notes, fmt.Sprintf("WARNING: the machine was only %.0f %% idle at times: delays are worse than they would be, and players may starve for it.", 100*least))
	}
	if others > 0.10 {
		notes = append(notes, fmt.Sprintf("WARNING: processes that are neither server nor players used up to %.0f %% of the machine.", 100*others))
	}
	if r.profiled {
		notes = append(notes, "WARNING: taken under a profiler.")
	}
	return notes
}

func (r report) header() string { return fmt.Sprintf("%s; %s. `%s`", r.machine, r.peer, r.command) }

func (r report) text(out io.Writer) error {
	fmt.Fprintf(out, "\n%s\n\n", strings.ReplaceAll(r.header(), "`", ""))
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "server\tplayers\tinterval\tCPU ms/player/s\tratio\tto reach\tKB/player\tstarved\tlost\tpub→player ms\tinside ms")
	for _, w := range r.rows {
		fmt.Fprintln(t, strings.Join(w.cells(), "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n- %s\n", strings.Join(r.notes(), "\n- "))
	return err
}

func (r report) markdown(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| %s |\n|%s\n", r.header(), strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)))
	for _, w := range r.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(w.cells(), " | "))
	}
	fmt.Fprintf(&b, "\n- %s\n", strings.Join(r.notes(), "\n- "))
	_, err := io.WriteString(out, b.String())
	return err
}
