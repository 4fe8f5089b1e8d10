// Ladder publishes a stream in several sizes, so that each viewer gets what the network
// carries: one HLS and one DASH presentation with all of them. It needs ffmpeg:
//
//	go run ./examples/ladder
//
// plays a demo stream. Publish another with ffmpeg or OBS to
// rtmp://localhost:1935/live/NAME. The sizes are -rendition flags:
//
//	go run ./examples/ladder -rendition 720p=720:2.5M -rendition 360p=360:700k:25
//
// Nothing is encoded while nobody watches. Every flag can be set by the environment too:
// -rendition by RUNNEL_RENDITION. Only this machine may publish.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
	"github.com/runnel-media/runnel/stream/transcode"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "ladder:", err)
		}
		os.Exit(1)
	}
}

// run serves until ctx ends, and returns nil.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	fs := flag.NewFlagSet("ladder", flag.ContinueOnError)
	rtmp := fs.String("rtmp", ":1935", "address for RTMP publishers; empty: off")
	web := fs.String("http", ":8080", "address that HLS, DASH and pictures are at")
	ffmpeg := fs.String("ffmpeg", "ffmpeg", "the program")
	demo := fs.Bool("demo", true, "publish a demo stream as live/demo")
	var renditions config.List
	fs.Var(&renditions, "rendition", "NAME=HEIGHT:BITRATE[:FPS], such as 360p=360:700k; may be repeated; none: 240p=240:300k and 144p=144:120k:15")
	if err := config.Parse(fs, args); err != nil {
		return err
	}
	if len(renditions) == 0 {
		renditions = config.List{"240p=240:300k", "144p=144:120k:15"}
	}
	path, err := exec.LookPath(*ffmpeg)
	if err != nil {
		return err
	}

	hub := &stream.Hub{}
	defer hub.Close()
	ladder := &transcode.Ladder{
		Hub: hub, Match: func(string) bool { return true },
		FFmpeg: transcode.FFmpeg{Path: path, Limits: transcode.Limits{Nice: 5}},
	}
	for _, r := range renditions {
		step, err := parse(r)
		if err != nil {
			return err
		}
		ladder.Steps = append(ladder.Steps, step)
	}
	if err := ladder.Check(); err != nil {
		return err
	}
	climbed := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(climbed)
		_ = ladder.Run(ctx) // ends with ctx
	}()
	defer func() {
		cancel()
		<-climbed
	}()

	who := auth.Func(local)
	players := &deliver.Server{Hub: hub, Auth: who, HLS: deliver.HLS{OnDemand: true}}
	defer players.Close()
	pictures := &transcode.Snapshot{Hub: hub, Auth: who, FFmpeg: ladder.FFmpeg}
	l, err := net.Listen("tcp", *web)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: routes(players, pictures)}
	defer server.Close()
	go func() { _ = server.Serve(l) }() // ends with Close
	name := "NAME"
	if *demo {
		name = "demo"
		go func() { _ = (&streamtest.Source{}).Run(ctx, hub, "live/demo") }() // ends with ctx
	}
	at := reach(l.Addr())
	fmt.Fprintf(stdout, "Watch    http://%s/live/%s.m3u8  (HLS: Safari, hls.js, VLC, ffplay)\n", at, name)
	fmt.Fprintf(stdout, "         http://%s/live/%s.mpd   (DASH: dash.js, VLC)\n", at, name)
	fmt.Fprintf(stdout, "Picture  http://%s/live/%s.jpg\n", at, name)
	if *rtmp != "" {
		l, err := net.Listen("tcp", *rtmp)
		if err != nil {
			return err
		}
		in := &ingest.Server{Hub: hub, Auth: who}
		defer in.Close()
		go func() { _ = in.ServeRTMP(l, players) }() // ends with Close
		fmt.Fprintf(stdout, "Publish  rtmp://%s/live/NAME\n", reach(l.Addr()))
	}
	<-ctx.Done()
	return nil
}

// parse reads a -rendition.
func parse(text string) (step transcode.Step, err error) {
	bad := fmt.Errorf("-rendition %q is not NAME=HEIGHT:BITRATE[:FPS]", text)
	name, rest, _ := strings.Cut(text, "=")
	words := strings.Split(rest, ":")
	if len(words) < 2 || len(words) > 3 {
		return step, bad
	}
	step.Name = name
	if step.Height, err = strconv.Atoi(words[0]); err != nil {
		return step, bad
	}
	number := strings.TrimRight(words[1], "kM")
	unit := map[string]float64{"": 1, "k": 1e3, "M": 1e6}[words[1][len(number):]]
	rate, err := strconv.ParseFloat(number, 64)
	if err != nil || !(rate*unit >= 1) || rate*unit > 1e9 {
		return step, bad
	}
	step.BitRate = int(rate * unit)
	if len(words) == 3 {
		if step.FPS, err = strconv.ParseFloat(words[2], 64); err != nil {
			return step, bad
		}
	}
	return step, nil
}

// routes tells pictures from what is played.
func routes(players, pictures http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, extension := range []string{".jpg", ".png", ".webp"} {
			if strings.HasSuffix(r.URL.Path, extension) {
				pictures.ServeHTTP(w, r)
				return
			}
		}
		players.ServeHTTP(w, r)
	})
}

// local lets everybody play, and this machine publish; no page of another site that is
// open in a browser here.
func local(_ context.Context, r *auth.Request) (*auth.Grant, error) {
	if r.Action == auth.Play || r.Remote.Addr().IsLoopback() && r.Origin == "" {
		return nil, nil
	}
	return nil, auth.ErrDenied
}

// reach is how this machine reaches a listener.
func reach(a net.Addr) string {
	host, port, _ := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = ""
	}
	return net.JoinHostPort(cmp.Or(host, "localhost"), port)
}
