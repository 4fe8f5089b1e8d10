package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// webrtcBench is one call of the command.
type webrtcBench struct {
	viewers, profiles string
	window, settle    time.Duration
	bitrate           int
	runnel, peer      string // built programs; empty: they are built
	dir               string
	family            *family
}

// A webrtcResult is one measurement.
type webrtcResult struct {
	packets   float64 // a second
	cpu       time.Duration
	setup     time.Duration // CPU of a viewer's session
	rss       float64       // KB a viewer
	viewers   int
	connected int
	starved   int
	latency   []float64 // from the hub to the socket, p50 and p99 in ms; empty: it does not say
}

// runWebRTC measures WHEP, beside a forwarder on pion/webrtc.
func runWebRTC(ctx context.Context, args []string, _ io.Reader, out, log io.Writer) (err error) {
	b := &webrtcBench{}
	fs := flag.NewFlagSet("bench webrtc", flag.ContinueOnError)
	fs.SetOutput(log)
	fs.StringVar(&b.viewers, "viewers", "50,100", "how many at a time")
	fs.StringVar(&b.profiles, "profiles", "gcm,cm", "SRTP profiles that the viewers offer: gcm is AEAD_AES_128_GCM, cm AES_CM_128_HMAC_SHA1_80")
	fs.DurationVar(&b.window, "window", 8*time.Second, "how long each is measured")
	fs.DurationVar(&b.settle, "settle", 3*time.Second, "how long the viewers play before that")
	fs.IntVar(&b.bitrate, "bitrate", 1_100_000, "bits a second of the video")
	fs.StringVar(&b.runnel, "runnel", "", "a built examples/mediaserver")
	fs.StringVar(&b.peer, "webrtcpeer", "", "a built internal/e2e/webrtcpeer")
	short := fs.Bool("short", false, "a second each, 5 viewers")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *short {
		b.window, b.settle, b.viewers = 2*time.Second, time.Second, "5"
	}
	if err := supported(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "runnel-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.runnel == "" {
		if b.runnel, err = buildRunnel(ctx, b.dir); err != nil {
			return err
		}
	}
	if b.peer == "" {
		b.peer = filepath.Join(b.dir, "webrtcpeer")
		build := exec.CommandContext(ctx, "go", "build", "-C", "internal/e2e/webrtcpeer", "-o", b.peer, ".")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("webrtcpeer: %w\n%s", err, text)
		}
	}
	if b.family, err = newFamily(); err != nil {
		return err
	}
	defer b.family.Close()
	fmt.Fprintf(out, "%s. bench webrtc %s\n\n", machineFacts(), strings.Join(args, " "))
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "server\tviewers\tprofile\tµs of CPU a packet\tms a player-second\tms a session set up\tKB RSS a viewer\tms in the server, p50 / p99\tstarved\tnot connected")
	for _, viewers := range strings.Split(b.viewers, ",") {
		n, err := strconv.Atoi(viewers)
		if err != nil || n < 1 {
			return fmt.Errorf("-viewers: %q", viewers)
		}
		for _, profile := range strings.Split(b.profiles, ",") {
			for _, ours := range []bool{true, false} {
				r, err := b.measure(ctx, ours, n, profile)
				if err != nil {
					return err
				}
				name, latency := "pion/webrtc forwarder", "–"
				if ours {
					name = "runnel"
				}
				if len(r.latency) == 2 {
					latency = fmt.Sprintf("%.2f / %.2f", r.latency[0], r.latency[1])
				}
				fmt.Fprintf(t, "%s\t%d\t%s\t%.2f\t%.2f\t%.1f\t%.0f\t%s\t%d\t%d\n", name, n, profile,
					float64(r.cpu.Microseconds())/max(r.packets*b.window.Seconds(), 1), r.cpu.Seconds()*1000/b.window.Seconds()/float64(n),
					r.setup.Seconds()*1000, r.rss, latency, r.starved, n-r.connected)
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n- one WHIP publisher of %.1f Mbit/s of H.264, made up, and Opus; viewers are pion/webrtc's, in one process. CPU is the server process's, user and system, on loopback, where a send includes the receiver's side of UDP. In the server: from when a frame is whole to when it has been sent to all viewers. Starved: less than four fifths of what the best viewer got.\n", float64(b.bitrate)/1e6)
	return nil
}

// measure starts a server, a publisher and viewers.
func (b *webrtcBench) measure(ctx context.Context, ours bool, n int, profile string) (r webrtcResult, err error) {
	web, err := freeAddr()
	if err != nil {
		return r, err
	}
	media, err := freeUDPAddr()
	if err != nil {
		return r, err
	}
	figured := &server{stats: "http://" + web + "/stats.json"}
	command := exec.Command(b.peer, "forward", "-http", web, "-udp", media)
	whip, whep := "http://"+web+"/whip", "http://"+web+"/whep"
	if ours {
		command = exec.Command(b.runnel, "-demo=false", "-rtmp", "", "-srt", "", "-http", web, "-webrtc", media)
		whip, whep = whip+"/live/a", whep+"/live/a"
	}
	server, err := b.family.Start(command)
	if err != nil {
		return r, err
	}
	defer server.Stop()
	var published bytes.Buffer
	publish := exec.Command(b.peer, "publish", "-url", whip, "-bitrate", strconv.Itoa(b.bitrate))
	publish.Stdout = &published
	if err := pause(ctx, 500*time.Millisecond, server); err != nil {
		return r, err
	}
	publisher, err := b.family.Start(publish)
	if err != nil {
		return r, err
	}
	defer publisher.Stop()
	if err := pause(ctx, 3*time.Second, server, publisher); err != nil {
		return r, err
	}
	cpu, rss, err := spent(server)
	if err != nil {
		return r, err
	}
	idle := time.Now()
	if err := pause(ctx, time.Second, server, publisher); err != nil {
		return r, err
	}
	quiet, _, err := spent(server)
	if err != nil {
		return r, err
	}
	perSecond := float64(quiet-cpu) / time.Since(idle).Seconds() // the publisher alone
	figures := filepath.Join(b.dir, "figures")
	file, err := os.Create(figures)
	if err != nil {
		return r, err
	}
	defer file.Close()
	view := exec.Command(b.peer, "view", "-url", whep, "-n", strconv.Itoa(n), "-profile", profile,
		"-settle", b.settle.String(), "-for", (b.window + 2*time.Second).String())
	view.Stdout = file
	begun := time.Now()
	viewers, err := b.family.Start(view)
	if err != nil {
		return r, err
	}
	defer viewers.Stop()
	read := func() []byte { text, _ := os.ReadFile(figures); return text }
	if err := waitFor(ctx, "the viewers", 2*time.Minute, func() bool { return bytes.Contains(read(), []byte("playing")) }, server, publisher, viewers); err != nil {
		return r, err
	}
	from, _, err := spent(server)
	if err != nil {
		return r, err
	}
	before := time.Since(begun) - b.settle
	var earlier, later serverStats
	if ours {
		if earlier, err = figured.readStats(ctx); err != nil {
			return r, err
		}
	}
	if err := pause(ctx, b.window, server, publisher, viewers); err != nil {
		return r, err
	}
	to, with, err := spent(server)
	if err != nil {
		return r, err
	}
	if ours {
		if later, err = figured.readStats(ctx); err != nil {
			return r, err
		}
		r.latency = later.since(earlier, 0.5, 0.99)
	}
	r.cpu, r.rss = to-from, float64(with-rss)/1024/float64(n)
	// What the viewers cost as they came, without what they played and the publisher.
	rate := float64(to-from) / b.window.Seconds()
	r.setup = max(0, time.Duration((float64(from-quiet)-rate*b.settle.Seconds()-(rate+perSecond)/2*max(0, before.Seconds()))/float64(n)))
	select {
	case <-viewers.done:
	case <-time.After(time.Minute):
		return r, errors.New("the viewers do not end")
	}
	if viewers.err != nil {
		return r, viewers.failed()
	}
	text := read()
	var f struct {
		Connected, Starved int
		Packets, Seconds   float64
	}
	if err := json.Unmarshal(text[max(0, bytes.IndexByte(text, '{')):], &f); err != nil {
		return r, fmt.Errorf("the viewers' figures: %w", err)
	}
	r.connected, r.starved, r.packets = f.Connected, f.Starved, f.Packets/f.Seconds
	return r, nil
}

func spent(p *process) (cpu time.Duration, rss int64, err error) {
	if cpu, err = cpuTime(p.cmd.Process.Pid); err != nil {
		return 0, 0, err
	}
	rss, err = residentBytes(p.cmd.Process.Pid)
	return cpu, rss, err
}
