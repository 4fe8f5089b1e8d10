package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/runnel-media/runnel/internal/srt"
	"github.com/runnel-media/runnel/internal/udp"
)

// srtBench is one call of the command.
type srtBench struct {
	rates   string
	players int
	window  time.Duration
	rounds  int
	other   string // srt-live-transmit
	runnel  string // a built mediaserver
	alone   bool   // nothing to compare with
	log     io.Writer
	dir     string
	family  *family
}

// runSRT measures SRT.
func runSRT(ctx context.Context, args []string, _ io.Reader, out, log io.Writer) (err error) {
	b := &srtBench{log: log}
	fs := flag.NewFlagSet("bench srt", flag.ContinueOnError)
	fs.SetOutput(log)
	fs.StringVar(&b.rates, "rates", "5,20,100", "Mbit/s of one connection")
	fs.IntVar(&b.players, "players", 100, "players of one stream; 0: none")
	fs.DurationVar(&b.window, "window", 5*time.Second, "how long each is measured")
	fs.IntVar(&b.rounds, "rounds", 3, "how often, in turn")
	fs.StringVar(&b.other, "srt-live-transmit", "srt-live-transmit", "libsrt's program")
	fs.StringVar(&b.runnel, "runnel", "", "a built examples/mediaserver; empty: it is built")
	fs.BoolVar(&b.alone, "ours", false, "ours alone, to be looked at with perf")
	short := fs.Bool("short", false, "a second each, once, 10 players")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *short {
		b.window, b.rounds, b.players = time.Second, 1, min(b.players, 10)
	}
	if err := supported(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "runnel-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.family, err = newFamily(); err != nil {
		return err
	}
	defer b.family.Close()
	fmt.Fprintf(out, "%s. bench srt %s\n\n", machineFacts(), strings.Join(args, " "))
	if err := b.connections(ctx, out); err != nil || b.players == 0 {
		return err
	}
	return b.fanout(ctx, out)
}

// srtResult is what one round cost, in µs a packet.
type srtResult struct{ send, receive, lost float64 }

// connections measures one connection from datagrams to datagrams.
func (b *srtBench) connections(ctx context.Context, out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "Mbit/s\tprogram\tsend µs/packet\treceive µs/packet\tlost %\tratio send\tratio receive")
	for rate := range strings.SplitSeq(b.rates, ",") {
		var bits float64
		if _, err := fmt.Sscan(rate, &bits); err != nil {
			return fmt.Errorf("bench: rate %q: %w", rate, err)
		}
		all := map[bool][]srtResult{}
		for range b.rounds {
			for _, ours := range []bool{false, true} {
				if b.alone && !ours {
					continue
				}
				r, err := b.connection(ctx, ours, bits*1e6)
				if err != nil {
					return err
				}
				fmt.Fprintf(b.log, "%s Mbit/s, ours %v: %+v\n", rate, ours, r)
				all[ours] = append(all[ours], r)
			}
		}
		theirs, our := medianSRT(all[false]), medianSRT(all[true])
		if b.alone {
			fmt.Fprintf(t, "%s\trunnel\t%.1f\t%.1f\t%.2f\t\t\n", rate, our.send, our.receive, our.lost)
			continue
		}
		fmt.Fprintf(t, "%s\tsrt-live-transmit\t%.1f\t%.1f\t%.2f\t\t\n", rate, theirs.send, theirs.receive, theirs.lost)
		fmt.Fprintf(t, "%s\trunnel\t%.1f\t%.1f\t%.2f\t%.2f\t%.2f\n", rate, our.send, our.receive, our.lost, our.send/theirs.send, our.receive/theirs.receive)
	}
	return t.Flush()
}

func medianSRT(list []srtResult) srtResult {
	var send, receive, lost []float64
	for _, r := range list {
		send, receive, lost = append(send, r.send), append(receive, r.receive), append(lost, r.lost)
	}
	return srtResult{median(send), median(receive), median(lost)}
}

// freeUDPAddr returns a loopback address that nobody listens on.
func freeUDPAddr() (string, error) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		return "", err
	}
	defer pc.Close()
	return pc.LocalAddr().String(), nil
}

func (b *srtBench) connection(ctx context.Context, ours bool, bits float64) (r srtResult, err error) {
	var addrs [2]string
	for i := range addrs {
		if addrs[i], err = freeUDPAddr(); err != nil {
			return r, err
		}
	}
	in, over := addrs[0], addrs[1]
	count, err := udp.Listen("udp4", netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{GRO: true, ReadBuffer: 8 << 20})
	if err != nil {
		return r, err
	}
	var packets atomic.Int64
	go func() {
		ps, mem := make([]udp.Packet, 8), make([]byte, 8<<16)
		for {
			for i := range ps {
				ps[i].Data = mem[i<<16 : (i+1)<<16]
			}
			n, err := count.ReadBatch(ps)
			if err != nil {
				return
			}
			for i := range ps[:n] {
				packets.Add(int64(ps[i].Len()))
			}
		}
	}()
	defer count.Close()
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	sink := count.LocalAddr().String()
	receive := exec.CommandContext(ctx, b.other, "-a", "no", "-q", "srt://"+over+"?mode=listener", "udp://"+sink)
	send := exec.CommandContext(ctx, b.other, "-a", "no", "-q", "udp://"+in+"?mode=listener", "srt://"+over)
	if ours {
		receive = exec.CommandContext(ctx, self, "srtpipe", "-srt", over, "-to", sink)
		send = exec.CommandContext(ctx, self, "srtpipe", "-udp", in, "-srt", over)
	}
	rx, err := b.family.Start(receive)
	if err != nil {
		return r, err
	}
	defer rx.Stop()
	if err := pause(ctx, 300*time.Millisecond, rx); err != nil {
		return r, err
	}
	tx, err := b.family.Start(send)
	if err != nil {
		return r, err
	}
	defer tx.Stop()
	to, err := net.Dial("udp4", in) //nolint:noctx // UDP dials nothing
	if err != nil {
		return r, err
	}
	defer to.Close()
	load := &srtLoad{out: to.(*net.UDPConn)}
	loadCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_ = pause(loadCtx, 500*time.Millisecond)
		load.run(loadCtx, bits)
	}()
	if err := waitFor(ctx, "packets", 20*time.Second, func() bool { return packets.Load() > 0 }, rx, tx); err != nil {
		return r, err
	}
	if err := pause(ctx, time.Second, rx, tx); err != nil {
		return r, err
	}
	var cpu [2][2]time.Duration
	var n [2]int64
	began := time.Now()
	for i := range 2 {
		if i == 1 {
			if err := pause(ctx, b.window, rx, tx); err != nil {
				return r, err
			}
		}
		if cpu[i][0], err = cpuTime(tx.cmd.Process.Pid); err != nil {
			return r, err
		}
		if cpu[i][1], err = cpuTime(rx.cmd.Process.Pid); err != nil {
			return r, err
		}
		n[i] = packets.Load()
	}
	got := float64(n[1] - n[0])
	want := time.Since(began).Seconds() * bits / 8 / 1316
	micros := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / max(1, got) }
	return srtResult{micros(cpu[1][0] - cpu[0][0]), micros(cpu[1][1] - cpu[0][1]), max(0, 100*(1-got/want))}, nil
}

// fanout measures the mediaserver with one publisher and many players.
func (b *srtBench) fanout(ctx context.Context, out io.Writer) error {
	if b.runnel == "" {
		var err error
		if b.runnel, err = buildRunnel(ctx, b.dir); err != nil {
			return err
		}
	}
	clip := filepath.Join(b.dir, "clip.ts")
	made, err := exec.CommandContext(ctx, "ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=1280x720:r=25,noise=alls=20:allf=t", "-t", "10",
		"-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-bf", "0", "-b:v", "4700k", "-minrate", "4700k", "-maxrate", "4700k", "-bufsize", "2000k", "-f", "mpegts", clip).CombinedOutput()
	if err != nil {
		return fmt.Errorf("bench: ffmpeg: %w\n%s", err, made)
	}
	addr, err := freeUDPAddr()
	if err != nil {
		return err
	}
	server, err := b.family.Start(exec.CommandContext(ctx, b.runnel, "-rtmp", "", "-http", "", "-srt", addr, "-demo=false"))
	if err != nil {
		return err
	}
	defer server.Stop()
	if err := pause(ctx, 500*time.Millisecond, server); err != nil {
		return err
	}
	pub, err := b.family.Start(exec.CommandContext(ctx, "ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", clip, "-c", "copy", "-f", "mpegts",
		"srt://"+addr+"?streamid=#!::r=live/a,m=publish&pkt_size=1316"))
	if err != nil {
		return err
	}
	defer pub.Stop()
	if err := pause(ctx, 2*time.Second, server, pub); err != nil {
		return err
	}
	alone, err := residentBytes(server.cmd.Process.Pid)
	if err != nil {
		return err
	}
	base, err := b.cpuOver(ctx, server)
	if err != nil {
		return err
	}
	e := &srt.Endpoint{}
	pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = e.Serve(pc) }() // until Close
	defer e.Close()
	conns := make([]*srt.Conn, b.players)
	for i := range conns {
		conns[i], err = e.Dial(ctx, netip.MustParseAddrPort(addr), srt.DialOptions{StreamID: "live/a", Sink: func([][]byte) {}})
		if err != nil {
			return err
		}
	}
	total := func() (n, lost uint64) {
		for _, c := range conns {
			s := c.Stats()
			n, lost = n+s.PktRecvUnique, lost+s.PktRcvDrop
		}
		return n, lost
	}
	if err := pause(ctx, 2*time.Second, server, pub); err != nil {
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nplayers\tµs/packet\tpackets/s\tKB RSS/player\tlost")
	for range b.rounds {
		n0, lost0 := total()
		began := time.Now()
		used, err := b.cpuOver(ctx, server)
		if err != nil {
			return err
		}
		n1, lost1 := total()
		rss, err := residentBytes(server.cmd.Process.Pid)
		if err != nil {
			return err
		}
		packets := float64(n1 - n0)
		fmt.Fprintf(t, "%d\t%.2f\t%.0f\t%.0f\t%d\n", b.players, float64(used-base)/1e3/packets, packets/time.Since(began).Seconds(),
			float64(rss-alone)/1024/float64(b.players), lost1-lost0)
	}
	return t.Flush()
}

// cpuOver returns what a process uses in a window.
func (b *srtBench) cpuOver(ctx context.Context, p *process) (time.Duration, error) {
	first, err := cpuTime(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, b.window, p); err != nil {
		return 0, err
	}
	last, err := cpuTime(p.cmd.Process.Pid)
	return last - first, err
}
