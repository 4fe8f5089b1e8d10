package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A turnRow is the results of one variant.
type turnRow struct {
	variant   turnVariant
	median    turnResult
	low, high float64 // of the CPU
	loss      float64 // worst round
	others    float64 // worst round
	late      float64 // ms, worst round
	ratio     float64 // of the CPU to coturn's; 0: none
	speed     float64 // of the rate to coturn's
}

func summarizeTurn(results []turnResult) (rows []turnRow) {
	var order []turnVariant
	by := make(map[turnVariant][]turnResult)
	for _, r := range results {
		if by[r.variant] == nil {
			order = append(order, r.variant)
		}
		by[r.variant] = append(by[r.variant], r)
	}
	medians := make(map[turnVariant]turnResult)
	for _, v := range order {
		rs := by[v]
		of := func(get func(turnResult) float64) float64 {
			var values []float64
			for _, r := range rs {
				values = append(values, get(r))
			}
			return median(values)
		}
		w := turnRow{variant: v, low: rs[0].used()}
		w.median = turnResult{
			variant: v, sent: rs[0].sent,
			cpu:     of(func(r turnResult) float64 { return r.cpu }),
			each:    of(func(r turnResult) float64 { return r.each }),
			rate:    of(func(r turnResult) float64 { return r.rate }),
			memory:  of(func(r turnResult) float64 { return r.memory }),
			delay50: of(func(r turnResult) float64 { return r.delay50 }), delay99: of(func(r turnResult) float64 { return r.delay99 }),
		}
		for _, r := range rs {
			w.low, w.high = min(w.low, r.used()), max(w.high, r.used())
			w.loss, w.others, w.late = max(w.loss, r.loss()), max(w.others, r.others), max(w.late, ms(r.late))
		}
		medians[v] = w.median
		rows = append(rows, w)
	}
	for i := range rows {
		w := &rows[i]
		v := w.variant
		v.server = turnCoturn
		if base, ok := medians[v]; ok && base.used() > 0 {
			w.ratio = w.median.used() / base.used()
			if base.rate > 0 {
				w.speed = w.median.rate / base.rate
			}
		}
	}
	return rows
}

// used is the CPU for one of what was measured.
func (r turnResult) used() float64 { return r.cpu + r.each }

// aim is what Runnel is to reach of coturn's figure.
func (w turnRow) aim() string {
	if w.variant.server != turnRunnel {
		return "–"
	}
	switch v := w.variant; {
	case v.traffic == turnAllocations || v.traffic == turnBindings:
		return "≥ 2× a second"
	case v.via == viaTLS:
		return "≤ 1.2×"
	case v.via == viaDTLS:
		return "≤ 1.5×"
	case v.via == viaUDP && v.traffic == "voice":
		return "≤ 0.9×"
	case v.via == viaUDP && v.traffic == "video":
		return "≤ 0.55×"
	case v.traffic == "full":
		return "no loss"
	}
	return "–"
}

// A turnReport is the outcome of the command.
type turnReport struct {
	machine, peer, command string
	bench                  *turnBench
	rows                   []turnRow
}

var (
	turnColumns  = []string{"server", "clients over", "traffic", "CPU µs a packet", "of coturn's", "aim", "lost %", "delay ms p50 / p99"}
	turnColumns2 = []string{"server", "what", "a second", "of coturn's", "aim", "CPU µs each", "of coturn's", "RSS KB each"}
)

func (w turnRow) packets() bool {
	return w.variant.traffic != turnAllocations && w.variant.traffic != turnBindings
}

func (w turnRow) cells() []string {
	v, m := w.variant, w.median
	times := func(x float64) string {
		if x == 0 {
			return "–"
		}
		return fmt.Sprintf("%.2f×", x)
	}
	if !w.packets() {
		memory := "–"
		if v.traffic == turnAllocations {
			memory = fmt.Sprintf("%.1f", m.memory)
		}
		return []string{v.server, v.traffic, fmt.Sprintf("%.0f", m.rate), times(w.speed), w.aim(), fmt.Sprintf("%.1f (%.1f–%.1f)", m.each, w.low, w.high), times(w.ratio), memory}
	}
	return []string{
		v.server, v.via, v.traffic + " " + v.dir, fmt.Sprintf("%.2f (%.2f–%.2f)", m.cpu, w.low, w.high), times(w.ratio), w.aim(),
		fmt.Sprintf("%.3g", 100*w.loss), fmt.Sprintf("%.2f / %.2f", m.delay50, m.delay99),
	}
}

// notes say what the figures are and what bears on them.
func (r turnReport) notes() []string {
	t := r.bench
	notes := []string{
		fmt.Sprintf("%d rounds of %v, the servers in turn; medians, of the CPU also the lowest and the highest, of the loss the worst. CPU is the server process's user and system time over the packets that arrived. On loopback a send includes the receiver's side of UDP, for every server alike.", t.rounds, t.window),
		fmt.Sprintf("A client has one allocation and one channel. video: %d clients, 7 packets of 1200 bytes 30 times a second. voice: %d clients, 172 bytes 50 times a second. full: %d clients as video, 40,000 packets a second. Over TCP, TLS and DTLS %d times fewer. The clients talk to %d peers.",
			t.video, t.voice, 40_000/210+1, t.stream, t.peers),
		fmt.Sprintf("The load generator looks at its clock and its UDP sockets each %v, so that a send of the server's wakes nobody up, as on a network. The delay is from before the sender's call to the kernel's time of arrival, over TCP, TLS and DTLS to when the client has read it.", t.tick),
		fmt.Sprintf("allocations: %d clients, 128 at a time, each a refusal that tells the nonce and an Allocate; RSS is what that adds to the server's. bindings: 16 sockets with 16 requests on the way each. The load generator runs on the same machine and bounds what is done a second.", t.allocations),
		"coturn is as it comes: long-term credentials, loopback peers allowed, a log file. pion/turn is the smallest server with the same listeners.",
	}
	if t.segment {
		notes = append(notes, "The load generator sends a burst in one call and takes several packets in one (UDP_SEGMENT, UDP_GRO), which stands for a network card that does; -segment=false sends and takes them one by one.")
	}
	others, late := 0.0, 0.0
	for _, w := range r.rows {
		others, late = max(others, w.others), max(late, w.late)
	}
	if others > 0.10 {
		notes = append(notes, fmt.Sprintf("WARNING: processes that are neither server nor load generator used up to %.0f %% of the machine.", 100*others))
	}
	if late > 50 {
		notes = append(notes, fmt.Sprintf("WARNING: the load generator sent bursts up to %.0f ms late.", late))
	}
	if t.perf != "" {
		notes = append(notes, "WARNING: taken under a profiler.")
	}
	return notes
}

func (r turnReport) header() string { return fmt.Sprintf("%s; %s. `%s`", r.machine, r.peer, r.command) }

func (r turnReport) text(out io.Writer) error {
	fmt.Fprintf(out, "\n%s\n\n", strings.ReplaceAll(r.header(), "`", ""))
	for _, packets := range []bool{true, false} {
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, line := range r.table(packets) {
			fmt.Fprintln(t, strings.Join(line, "\t"))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	_, err := fmt.Fprintf(out, "- %s\n", strings.Join(r.notes(), "\n- "))
	return err
}

// table returns the rows of packets or the others, with their header; nothing
// if there are none.
func (r turnReport) table(packets bool) (lines [][]string) {
	for _, w := range r.rows {
		if w.packets() == packets {
			lines = append(lines, w.cells())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	head := turnColumns
	if !packets {
		head = turnColumns2
	}
	return append([][]string{head}, lines...)
}

func (r turnReport) markdown(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.header())
	for _, packets := range []bool{true, false} {
		for i, line := range r.table(packets) {
			if i == 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
			if i == 0 {
				fmt.Fprintf(&b, "|%s\n", strings.Repeat(" --- |", len(line)))
			}
		}
	}
	fmt.Fprintf(&b, "\n- %s\n", strings.Join(r.notes(), "\n- "))
	_, err := io.WriteString(out, b.String())
	return err
}
