package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
)

// newAPI returns pion with its usual interceptors. The SRTP profile is "gcm",
// "cm" or "" for pion's choice.
func newAPI(profile string) (*webrtc.API, error) {
	m := &webrtc.MediaEngine{}
	if err := m.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	i := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptors(m, i); err != nil {
		return nil, err
	}
	s := webrtc.SettingEngine{}
	s.SetIncludeLoopbackCandidate(true)
	switch profile {
	case "gcm":
		s.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM)
	case "cm":
		s.SetSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(i), webrtc.WithSettingEngine(s)), nil
}

// exchange posts the offer of a connection and takes the answer.
func exchange(pc *webrtc.PeerConnection, url string) error {
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(offer); err != nil {
		return err
	}
	<-gathered
	c := &http.Client{Timeout: 30 * time.Second}
	r, err := c.Post(url, "application/sdp", bytes.NewReader([]byte(pc.LocalDescription().SDP)))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s: %s", r.Status, answer)
	}
	return pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)})
}

// connected waits until the connection is. What becomes of it after that is
// said on standard error.
func connected(pc *webrtc.PeerConnection) <-chan error {
	done := make(chan error, 1)
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateConnected:
			select {
			case done <- nil:
			default:
			}
		case webrtc.PeerConnectionStateFailed:
			select {
			case done <- errors.New("connection failed"):
			default:
			}
			fallthrough
		case webrtc.PeerConnectionStateDisconnected, webrtc.PeerConnectionStateClosed:
			fmt.Fprintln(os.Stderr, "webrtcpeer: connection", s)
		}
	})
	return done
}
