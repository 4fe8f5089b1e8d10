package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/pion/dtls/v3"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// forward is the least that a forwarder on pion/webrtc can be: what one publisher
// posts to /whip goes to all who post to /whep, over one UDP port.
func forward(args []string) error {
	fs := flag.NewFlagSet("forward", flag.ExitOnError)
	web := fs.String("http", "127.0.0.1:0", "address for offers")
	udp := fs.String("udp", "127.0.0.1:0", "address for media")
	fs.Parse(args)
	pc, err := net.ListenPacket("udp4", *udp)
	if err != nil {
		return err
	}
	m := &webrtc.MediaEngine{}
	if err := m.RegisterDefaultCodecs(); err != nil {
		return err
	}
	i := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptors(m, i); err != nil {
		return err
	}
	s := webrtc.SettingEngine{}
	s.SetICEUDPMux(webrtc.NewICEUDPMux(nil, pc))
	s.SetIncludeLoopbackCandidate(true)
	s.SetLite(true)
	s.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	f := &forwarder{api: webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(i), webrtc.WithSettingEngine(s))}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /whip", f.publish)
	mux.HandleFunc("POST /whep", f.play)
	l, err := net.Listen("tcp", *web)
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	return http.Serve(l, mux)
}

type forwarder struct {
	api *webrtc.API

	mu     sync.Mutex
	tracks []*webrtc.TrackLocalStaticRTP
	key    func()
}

func (f *forwarder) publish(w http.ResponseWriter, r *http.Request) {
	f.answer(w, r, func(pc *webrtc.PeerConnection) error {
		pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
			local, err := webrtc.NewTrackLocalStaticRTP(t.Codec().RTPCodecCapability, t.Kind().String(), "forward")
			if err != nil {
				return
			}
			f.mu.Lock()
			f.tracks = append(f.tracks, local)
			if t.Kind() == webrtc.RTPCodecTypeVideo {
				f.key = func() {
					_ = pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(t.SSRC())}})
				}
			}
			f.mu.Unlock()
			for b := make([]byte, 1500); ; {
				n, _, err := t.Read(b)
				if err != nil {
					return
				}
				if _, err := local.Write(b[:n]); err != nil && !errors.Is(err, io.ErrClosedPipe) {
					return
				}
			}
		})
		return nil
	})
}

func (f *forwarder) play(w http.ResponseWriter, r *http.Request) {
	f.answer(w, r, func(pc *webrtc.PeerConnection) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.tracks) == 0 {
			return errors.New("nobody publishes")
		}
		for _, t := range f.tracks {
			s, err := pc.AddTrack(t)
			if err != nil {
				return err
			}
			go func() {
				for b := make([]byte, 1500); ; {
					if _, _, err := s.Read(b); err != nil {
						return
					}
				}
			}()
		}
		return nil
	})
}

func (f *forwarder) answer(w http.ResponseWriter, r *http.Request, set func(*webrtc.PeerConnection) error) {
	offer, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pc, err := f.api.NewPeerConnection(webrtc.Configuration{})
	if err == nil {
		if err = pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(offer)}); err == nil {
			err = set(pc)
		}
	}
	var answer webrtc.SessionDescription
	if err == nil {
		answer, err = pc.CreateAnswer(nil)
	}
	if err == nil {
		gathered := webrtc.GatheringCompletePromise(pc)
		if err = pc.SetLocalDescription(answer); err == nil {
			<-gathered
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/sdp")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, pc.LocalDescription().SDP)
}
