package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// Figures are what the viewers saw between the two moments that they were
// looked at.
type Figures struct {
	Viewers   int     // that were asked for
	Connected int     // that are
	Starved   int     // that got less than four fifths of what the best one got
	Packets   uint64  // of video and audio, in all
	Frames    uint64  // of video, in all
	Bytes     uint64  // of payload
	Seconds   float64 // between the two moments
	Missing   uint64  // packets that never came
}

// A viewer counts.
type viewer struct {
	packets, frames, bytes, missing atomic.Uint64
}

// view plays with many viewers.
func view(args []string) error {
	fs := flag.NewFlagSet("view", flag.ExitOnError)
	url := fs.String("url", "", "WHEP endpoint")
	n := fs.Int("n", 1, "viewers")
	lasts := fs.Duration("for", 10*time.Second, "how long to count")
	settle := fs.Duration("settle", 3*time.Second, "how long to wait before")
	profile := fs.String("profile", "", "SRTP profile: gcm, cm, or pion's choice")
	fs.Parse(args)
	api, err := newAPI(*profile)
	if err != nil {
		return err
	}
	viewers := make([]*viewer, *n)
	var wg sync.WaitGroup
	errs := make(chan error, *n)
	gate := make(chan struct{}, 4)
	for i := range viewers {
		viewers[i] = &viewer{}
		wg.Add(1)
		gate <- struct{}{}
		go func() {
			defer wg.Done()
			defer func() { <-gate }()
			if err := viewers[i].play(api, *url); err != nil {
				errs <- err
			}
		}()
	}
	wg.Wait()
	failed := len(errs)
	for range failed {
		fmt.Fprintln(os.Stderr, "webrtcpeer:", <-errs)
	}
	time.Sleep(*settle)
	fmt.Println("playing")
	type count struct{ packets, frames, bytes, missing uint64 }
	look := func() []count {
		all := make([]count, len(viewers))
		for i, v := range viewers {
			all[i] = count{v.packets.Load(), v.frames.Load(), v.bytes.Load(), v.missing.Load()}
		}
		return all
	}
	begin, before := time.Now(), look()
	time.Sleep(*lasts)
	after, f := look(), Figures{Viewers: *n, Connected: *n - failed, Seconds: time.Since(begin).Seconds()}
	best := uint64(0)
	for i := range after {
		best = max(best, after[i].frames-before[i].frames)
	}
	for i := range after {
		got := after[i].frames - before[i].frames
		f.Frames += got
		f.Packets += after[i].packets - before[i].packets
		f.Bytes += after[i].bytes - before[i].bytes
		f.Missing += after[i].missing - before[i].missing
		if got*5 < best*4 || best == 0 {
			f.Starved++
		}
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

// play connects and counts from then on.
func (v *viewer) play(api *webrtc.API, url string) error {
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return err
	}
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			return err
		}
	}
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		video := t.Kind() == webrtc.RTPCodecTypeVideo
		if video {
			_ = pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(t.SSRC())}})
		}
		var next uint16
		for first := true; ; first = false {
			p, _, err := t.ReadRTP()
			if err != nil {
				return
			}
			if gap := p.SequenceNumber - next; !first && gap > 0 && gap < 1<<15 {
				v.missing.Add(uint64(gap))
			}
			next = p.SequenceNumber + 1
			v.packets.Add(1)
			v.bytes.Add(uint64(len(p.Payload)))
			if video && p.Marker {
				v.frames.Add(1)
			}
		}
	})
	up := connected(pc)
	if err := exchange(pc, url); err != nil {
		return err
	}
	select {
	case err := <-up:
		return err
	case <-time.After(30 * time.Second):
		return fmt.Errorf("not connected")
	}
}
