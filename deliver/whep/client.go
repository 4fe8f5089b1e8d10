package whep

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// An ICEServer is a STUN or TURN server for a Client that is behind a NAT.
type ICEServer = webrtc.ICEServer

// ErrRefused is wrapped by Play's error for an endpoint's answer other than 201,
// which a *RefusedError is.
var ErrRefused = webrtc.ErrRefused

// A RefusedError has the status and the beginning of the body.
type RefusedError = webrtc.RefusedError

// A Client writes what a WHEP endpoint plays to a Publisher. Set its fields, and
// call Play. It works from behind a NAT.
type Client struct {
	URL        string // of the endpoint
	Token      string // sent as a bearer token; "": none
	ICEServers []ICEServer
	RelayOnly  bool          // play by way of TURN servers alone
	Setup      time.Duration // how long it may take to connect; default 15 s
	HTTP       *http.Client  // nil: http.DefaultClient
	Log        *slog.Logger  // nil: slog.Default()

	session atomic.Pointer[webrtc.Session]
}

// media is what is asked for.
var media = []webrtc.Medium{
	{Kind: stream.Video, Codecs: []stream.Codec{stream.H264, stream.H265, stream.AV1, stream.VP9, stream.VP8}},
	{Kind: stream.Audio, Codecs: []stream.Codec{stream.Opus, stream.PCMU, stream.PCMA}},
}

// Play plays until the endpoint hangs up, and then returns nil; or until ctx ends,
// or something fails. It does not close pub. It is called once at a time.
func (c *Client) Play(ctx context.Context, pub *stream.Publisher) error {
	a := &webrtc.Assembler{Publisher: pub}
	call := &webrtc.Client{
		URL: c.URL, Token: c.Token, ICEServers: c.ICEServers, RelayOnly: c.RelayOnly, Setup: c.Setup, HTTP: c.HTTP, Log: c.Log,
	}
	defer c.session.Store(nil)
	return call.Call(ctx, media, webrtc.Handler{Frame: a.Frame}, func(s *webrtc.Session) { c.session.Store(s) })
}

// RequestKey asks the endpoint for a key frame: it is a publisher's
// stream.PublishOptions.OnKeyRequest.
func (c *Client) RequestKey() {
	if s := c.session.Load(); s != nil {
		s.RequestKey()
	}
}
