package whip

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// An ICEServer is a STUN or TURN server for a Client that is behind a NAT.
type ICEServer = webrtc.ICEServer

// ErrRefused is wrapped by Publish's error for an endpoint's answer other than
// 201, which a *RefusedError is.
var ErrRefused = webrtc.ErrRefused

// A RefusedError has the status and the beginning of the body.
type RefusedError = webrtc.RefusedError

// A Client publishes what a Subscriber reads to a WHIP endpoint. Set its fields,
// and call Publish. It works from behind a NAT.
type Client struct {
	URL        string // of the endpoint
	Token      string // sent as a bearer token; "": none
	ICEServers []ICEServer
	RelayOnly  bool          // send by way of TURN servers alone
	Setup      time.Duration // how long it may take to connect; default 15 s
	HTTP       *http.Client  // nil: http.DefaultClient
	Log        *slog.Logger  // nil: slog.Default()

	// Sent, if set, is called with the number of bytes of media that have been
	// sent, from several goroutines.
	Sent func(n int)
}

// Publish publishes until the stream ends, whose subscriber it closes, and then
// returns nil; or until the endpoint hangs up, ctx ends, or something fails. Of the
// stream's tracks it takes the first video and the first sound that WebRTC carries,
// or a rendition of the sound; B-frames are left out as package deliver/whep says.
func (c *Client) Publish(ctx context.Context, sub *stream.Subscriber) error {
	defer sub.Close()
	s := sub.Stream()
	tracks, sound := c.tracks(ctx, s)
	var media []webrtc.Medium
	for _, t := range tracks {
		media = append(media, webrtc.Medium{Kind: t.Kind(), Codecs: []stream.Codec{t.Codec}, Send: true})
	}
	if len(media) == 0 {
		return fmt.Errorf("whip: %q has nothing that WebRTC carries", s.Name())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cut := &webrtc.Cutter{}
	read := make(chan struct{})
	reads := 0
	follow := func(sub *stream.Subscriber, all bool) {
		defer func() { read <- struct{}{} }()
		defer sub.Close()
		var batch [16]*stream.Frame
		for {
			n, err := sub.Read(ctx, batch[:])
			cut.Cut(batch[:n])
			if c.Sent != nil {
				sent := 0
				for _, f := range batch[:n] {
					sent += len(f.Data)
				}
				c.Sent(sent)
			}
			clear(batch[:n])
			if err != nil {
				if all {
					cancel(errEnd)
				}
				return
			}
		}
	}
	call := &webrtc.Client{
		URL: c.URL, Token: c.Token, ICEServers: c.ICEServers, RelayOnly: c.RelayOnly, Setup: c.Setup, HTTP: c.HTTP, Log: c.Log,
	}
	err := call.Call(ctx, media, webrtc.Handler{Connected: s.RequestKey, KeyNeeded: s.RequestKey}, func(session *webrtc.Session) {
		cut.Add(session)
		reads++
		go follow(sub, true)
		if sound != nil {
			if sub, err := sound.Subscribe(&stream.SubscribeOptions{Live: true}); err == nil {
				reads++
				go follow(sub, false)
			}
		}
	})
	cause := context.Cause(ctx)
	cancel(nil)
	for range reads {
		<-read
	}
	if cause == errEnd {
		return nil
	}
	return err
}

var errEnd = fmt.Errorf("whip: the stream has ended")

// settle is how long is waited for a stream's tracks to be complete.
const settle = time.Second

// tracks returns one video and one sound of the stream, and the rendition that the
// sound is of, nil for the stream's own.
func (c *Client) tracks(ctx context.Context, s *stream.Stream) (tracks []*stream.Track, sound *stream.Rendition) {
	first := func(all []*stream.Track, k stream.Kind) *stream.Track {
		i := slices.IndexFunc(all, func(t *stream.Track) bool { return t.Kind() == k && webrtc.Carries(t) })
		if i < 0 {
			return nil
		}
		return all[i]
	}
	for until := time.Now().Add(settle); ; {
		tracks, sound = nil, nil
		video, audio := first(s.Tracks(), stream.Video), first(s.Tracks(), stream.Audio)
		for _, r := range s.Renditions() {
			if t := r.Tracks(); audio == nil && len(t) == 1 && first(t, stream.Audio) != nil {
				audio, sound = t[0], r
			}
		}
		for _, t := range []*stream.Track{video, audio} {
			if t != nil {
				tracks = append(tracks, t)
			}
		}
		if len(tracks) == 2 || !time.Now().Before(until) {
			return tracks, sound
		}
		select {
		case <-ctx.Done():
			return tracks, sound
		case <-time.After(20 * time.Millisecond):
		}
	}
}
