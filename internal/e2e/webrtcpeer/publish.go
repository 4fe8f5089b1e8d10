package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

// Parameter sets of real encoders, 320x180.
var (
	sets264 = [][]byte{
		{0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x06, 0x68, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0c, 0x83, 0xc5, 0x0a, 0xa8},
		{0x68, 0xce, 0x0f, 0xc8},
	}
	mimes = map[string]string{"h264": webrtc.MimeTypeH264, "h265": webrtc.MimeTypeH265, "vp8": webrtc.MimeTypeVP8}
)

// publish sends a made-up video, with a key frame every two seconds, whose
// pictures mean nothing, or that of a file again and again, and packets of sound. At the
// end it says what it was asked for.
func publish(args []string) error {
	fs := flag.NewFlagSet("publish", flag.ExitOnError)
	url := fs.String("url", "", "WHIP endpoint")
	codec := fs.String("codec", "h264", "h264, h265 or vp8")
	file := fs.String("file", "", "H.264 or H.265 as a stream of bytes with start codes; none: made up")
	rate := fs.Int("fps", 30, "pictures a second")
	bitrate := fs.Int("bitrate", 1_100_000, "bits a second")
	lasts := fs.Duration("for", time.Hour, "how long")
	fs.Parse(args)
	var pictures [][]byte
	if *file != "" {
		b, err := os.ReadFile(*file)
		if err != nil {
			return err
		}
		if pictures = accessUnits(b, *codec == "h265"); len(pictures) == 0 {
			return fmt.Errorf("%s has no pictures", *file)
		}
	}
	api, err := newAPI("")
	if err != nil {
		return err
	}
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return err
	}
	defer pc.Close()
	mime, ok := mimes[*codec]
	if !ok {
		return fmt.Errorf("unknown codec %q", *codec)
	}
	capability := webrtc.RTPCodecCapability{MimeType: mime, ClockRate: 90000}
	if *codec == "h264" {
		capability.SDPFmtpLine = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
	}
	video, err := webrtc.NewTrackLocalStaticSample(capability, "video", "runnel")
	if err != nil {
		return err
	}
	audio, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "audio", "runnel")
	if err != nil {
		return err
	}
	var plis, nacks atomic.Uint64
	for _, t := range []webrtc.TrackLocal{video, audio} {
		s, err := pc.AddTrack(t)
		if err != nil {
			return err
		}
		go func() { // its interceptors work on what is read
			for {
				packets, _, err := s.ReadRTCP()
				if err != nil {
					return
				}
				for _, p := range packets {
					switch p := p.(type) {
					case *rtcp.PictureLossIndication:
						plis.Add(1)
					case *rtcp.TransportLayerNack:
						for _, pair := range p.Nacks {
							nacks.Add(uint64(len(pair.PacketList())))
						}
					}
				}
			}
		}()
	}
	if err := only(pc, mime); err != nil {
		return err
	}
	up := connected(pc)
	if err := exchange(pc, *url); err != nil {
		return err
	}
	if err := <-up; err != nil {
		return err
	}
	fmt.Println("publishing")
	r := rand.New(rand.NewPCG(1, 2))
	fps := time.Duration(*rate)
	mean := *bitrate / 8 / *rate
	tick := time.NewTicker(time.Second / fps)
	defer tick.Stop()
	until := time.Now().Add(*lasts)
	sounds, n := time.Duration(0), 0
	for ; time.Now().Before(until); n++ {
		<-tick.C
		key := n%(2**rate) == 0
		size := mean * 9 / 10
		if key {
			size = mean * 7
		}
		var data []byte
		if pictures != nil {
			data = pictures[n%len(pictures)]
		} else {
			data = picture(*codec, r, size, key)
		}
		if err := video.WriteSample(media.Sample{Data: data, Duration: time.Second / fps}); err != nil {
			return err
		}
		for ; n%3 == 0 && sounds < (time.Duration(n)+3)*time.Second/fps; sounds += 20 * time.Millisecond {
			if err := audio.WriteSample(media.Sample{Data: append([]byte{0xfc}, make([]byte, 119)...), Duration: 20 * time.Millisecond}); err != nil {
				return err
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(Published{Frames: n, PLIs: plis.Load(), Nacks: nacks.Load()})
}

// only leaves one codec, and its retransmission, in the offer's video.
func only(pc *webrtc.PeerConnection, mime string) error {
	for _, t := range pc.GetTransceivers() {
		if t.Kind() != webrtc.RTPCodecTypeVideo {
			continue
		}
		all := t.Sender().GetParameters().Codecs
		var left []webrtc.RTPCodecParameters
		for _, c := range all {
			if !strings.EqualFold(c.MimeType, mime) {
				continue
			}
			left = append(left, c)
			for _, repair := range all {
				if repair.SDPFmtpLine == fmt.Sprintf("apt=%d", c.PayloadType) {
					left = append(left, repair)
				}
			}
		}
		if err := t.SetCodecPreferences(left); err != nil {
			return err
		}
	}
	return nil
}

// Published is what became of a publication.
type Published struct {
	Frames int    // of video, that were sent
	PLIs   uint64 // that came
	Nacks  uint64 // packets that were asked for again
}

// picture makes up a frame.
func picture(codec string, r *rand.Rand, size int, key bool) []byte {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(r.Uint32()) | 1 // no start codes inside
	}
	if codec == "vp8" {
		body[0] = 0x11
		if key {
			body[0] = 0x10
			copy(body[3:], []byte{0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00})
		}
		return body
	}
	var out []byte
	start := []byte{0, 0, 0, 1}
	if key {
		for _, s := range sets264 {
			out = append(append(out, start...), s...)
		}
	}
	body[0] = 0x41
	if key {
		body[0] = 0x65
	}
	return append(append(out, start...), body...)
}
