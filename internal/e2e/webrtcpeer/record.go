package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
)

// A Recording is what a viewer got, in the order of time.
type Recording struct {
	Tracks []*Recorded
	Frames []Frame
}

// Recorded is one track of it.
type Recorded struct {
	MimeType string
	Packets  int // that came, once
	Lost     int // that did not within the buffer
	Frames   int
	Missing  int           // frames, by the steps of their timestamps
	Longest  int           // frames in a row without one that is missing
	Gap      time.Duration // the longest time without a frame
	PLIs     int           // that were sent
}

// A Frame is one access unit, or packet of sound.
type Frame struct {
	Track int           // of Tracks
	Time  time.Duration // of the sender's wall clock, by its reports
	Data  []byte        // H.26x with start codes
}

// buffer is how long a recorder waits for a packet.
const buffer = 200 * time.Millisecond

// record plays, and keeps what comes.
func record(args []string) error {
	fs := flag.NewFlagSet("record", flag.ExitOnError)
	url := fs.String("url", "", "WHEP endpoint")
	out := fs.String("out", "", "file for the recording, as JSON")
	lasts := fs.Duration("for", 10*time.Second, "how long")
	fs.Parse(args)
	m := &webrtc.MediaEngine{}
	if err := m.RegisterDefaultCodecs(); err != nil {
		return err
	}
	i := &interceptor.Registry{}
	// As browsers do, not every 100 ms.
	if err := webrtc.ConfigureNackWithOptions(m, i, []nack.GeneratorOption{nack.GeneratorInterval(10 * time.Millisecond)}); err != nil {
		return err
	}
	if err := webrtc.ConfigureRTCPReports(i); err != nil {
		return err
	}
	if err := webrtc.ConfigureTWCCSender(m, i); err != nil {
		return err
	}
	s := webrtc.SettingEngine{}
	s.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(i), webrtc.WithSettingEngine(s)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return err
	}
	defer pc.Close()
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	var recorders []*recorder
	var reading sync.WaitGroup
	pc.OnTrack(func(t *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		r := &recorder{pc: pc, track: t, waiting: make(map[uint16]arrived)}
		mu.Lock()
		recorders = append(recorders, r)
		mu.Unlock()
		go r.reports(receiver)
		reading.Go(r.run)
	})
	up := connected(pc)
	if err := exchange(pc, *url); err != nil {
		return err
	}
	select {
	case err := <-up:
		if err != nil {
			return err
		}
	case <-time.After(30 * time.Second):
		return fmt.Errorf("not connected")
	}
	fmt.Println("recording")
	time.Sleep(*lasts)
	if err := pc.Close(); err != nil {
		return err
	}
	reading.Wait()
	var all Recording
	for n, r := range recorders {
		all.Tracks = append(all.Tracks, &r.sum)
		for _, f := range r.frames {
			all.Frames = append(all.Frames, Frame{n, r.clock(f), f.data})
		}
	}
	slices.SortStableFunc(all.Frames, func(a, b Frame) int { return cmp.Compare(a.Time, b.Time) })
	b, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(*out, b, 0o644)
	}
	fmt.Println("recorded")
	return err
}

// A recorder keeps one track. It puts its packets in order, for which it waits at most as
// long as buffer says.
type recorder struct {
	pc    *webrtc.PeerConnection
	track *webrtc.TrackRemote

	// owned by run
	waiting map[uint16]arrived
	begun   bool
	next    uint16
	part    []*rtp.Packet // of a frame
	broken  bool          // the frame lacks something
	frames  []recorded
	row     int
	step    uint32 // the usual one between two frames
	sum     Recorded

	mu      sync.Mutex
	senders []*rtcp.SenderReport // in the order in which they came
}

type arrived struct {
	*rtp.Packet
	at time.Time
}

type recorded struct {
	ts   uint32
	at   time.Time
	data []byte
}

func (r *recorder) reports(receiver *webrtc.RTPReceiver) {
	for {
		packets, _, err := receiver.ReadRTCP()
		if err != nil {
			return
		}
		for _, p := range packets {
			if sr, ok := p.(*rtcp.SenderReport); ok && sr.SSRC == uint32(r.track.SSRC()) {
				r.mu.Lock()
				r.senders = append(r.senders, sr)
				r.mu.Unlock()
			}
		}
	}
}

// clock returns the sender's time of a frame, by the report that is closest to it.
func (r *recorder) clock(f recorded) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.senders) == 0 {
		return -1
	}
	distance := func(s *rtcp.SenderReport) int64 { return int64(int32(f.ts - s.RTPTime)) }
	best := slices.MinFunc(r.senders, func(a, b *rtcp.SenderReport) int {
		return cmp.Compare(max(distance(a), -distance(a)), max(distance(b), -distance(b)))
	})
	at := time.Duration(best.NTPTime>>32)*time.Second + time.Duration((best.NTPTime&(1<<32-1))*1e9>>32)
	return at + time.Duration(distance(best))*time.Second/time.Duration(r.track.Codec().ClockRate)
}

func (r *recorder) run() {
	r.sum.MimeType = r.track.Codec().MimeType
	r.key()
	for {
		_ = r.track.SetReadDeadline(time.Now().Add(buffer / 10))
		p, _, err := r.track.ReadRTP()
		now := time.Now()
		if err != nil {
			if strings.Contains(err.Error(), "timeout") {
				r.release(now)
				continue
			}
			return
		}
		if !r.begun {
			r.begun, r.next = true, p.SequenceNumber
		}
		if _, twice := r.waiting[p.SequenceNumber]; twice || int16(p.SequenceNumber-r.next) < 0 {
			continue
		}
		r.sum.Packets++
		r.waiting[p.SequenceNumber] = arrived{p, now}
		r.release(now)
	}
}

// key asks for a key frame.
func (r *recorder) key() {
	if r.track.Kind() == webrtc.RTPCodecTypeVideo {
		r.sum.PLIs++
		_ = r.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(r.track.SSRC())}})
	}
}

// release takes the packets that are due.
func (r *recorder) release(now time.Time) {
	for len(r.waiting) > 0 {
		p, ok := r.waiting[r.next]
		if !ok {
			late := false
			for _, w := range r.waiting {
				late = late || now.Sub(w.at) > buffer
			}
			if !late {
				return
			}
			r.sum.Lost++
			r.next++
			if !r.broken {
				r.key()
			}
			r.broken = true
			continue
		}
		delete(r.waiting, r.next)
		r.next++
		r.take(p.Packet, now)
	}
}

// take adds a packet to its frame.
func (r *recorder) take(p *rtp.Packet, now time.Time) {
	if len(p.Payload) == 0 {
		return
	}
	if len(r.part) > 0 && r.part[0].Timestamp != p.Timestamp { // one without its last packet
		r.part = r.part[:0]
	}
	r.part = append(r.part, p)
	if r.track.Kind() == webrtc.RTPCodecTypeVideo && !p.Marker {
		return
	}
	if !r.broken {
		r.finish(now)
	}
	r.part, r.broken = r.part[:0], false
}

// finish keeps a whole frame.
func (r *recorder) finish(now time.Time) {
	f := recorded{ts: r.part[0].Timestamp, at: now}
	depacketize := func(b []byte) ([]byte, error) { return b, nil }
	switch strings.ToLower(r.sum.MimeType) {
	case "video/h264":
		depacketize = (&codecs.H264Packet{}).Unmarshal
	case "video/h265":
		depacketize = (&codecs.H265Depacketizer{}).Unmarshal
	case "video/vp8":
		depacketize = (&codecs.VP8Packet{}).Unmarshal
	}
	for _, p := range r.part {
		b, err := depacketize(p.Payload)
		if err != nil {
			return
		}
		f.data = append(f.data, b...)
	}
	r.row++
	if n := len(r.frames); n > 0 {
		step := f.ts - r.frames[n-1].ts
		if r.step == 0 || step < r.step {
			r.step = step
		}
		if missing := int((step+r.step/2)/max(r.step, 1)) - 1; missing > 0 {
			r.sum.Missing += missing
			r.row = 1
		}
		r.sum.Gap = max(r.sum.Gap, now.Sub(r.frames[n-1].at))
	}
	r.sum.Longest = max(r.sum.Longest, r.row)
	r.sum.Frames++
	r.frames = append(r.frames, f)
}
