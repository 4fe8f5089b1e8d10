package webrtc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/stun/v4"

	"github.com/runnel-media/runnel/internal/dtlsmux"
	"github.com/runnel-media/runnel/stream"
)

// An ICEServer is a STUN or TURN server for a Client that is behind a NAT.
type ICEServer struct {
	URL                  string // such as "stun:stun.example.org" (RFC 7064, RFC 7065)
	Username, Credential string // of a TURN server
}

// A Client posts offers to WHIP and WHEP endpoints, with full ICE. Its fields are
// set before its first use.
type Client struct {
	URL        string
	Token      string       // sent as a bearer token; "": none
	HTTP       *http.Client // nil: http.DefaultClient
	ICEServers []ICEServer
	RelayOnly  bool          // only by way of TURN servers
	Setup      time.Duration // how long it may take to connect; default 15 s
	Log        *slog.Logger  // nil: slog.Default()
}

// A Medium is what a Client offers of one kind.
type Medium struct {
	Kind   stream.Kind
	Codecs []stream.Codec // the best first
	Send   bool           // else it receives
}

// ErrRefused is wrapped by the error for an answer other than 201.
var ErrRefused = errors.New("webrtc: refused by the endpoint")

// A RefusedError is the endpoint's answer. It is an ErrRefused.
type RefusedError struct {
	Status int
	Reason string // the beginning of the body
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("webrtc: the endpoint refuses: %d %s: %q", e.Status, http.StatusText(e.Status), e.Reason)
}

// Is reports whether target is ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// Call makes an offer and connects. begin gets the session before media flows,
// and starts what the session sends. Call returns when the session has ended,
// with nil if the peer has hung up, or when ctx ends, with its error; it has told
// the endpoint then.
func (c *Client) Call(ctx context.Context, media []Medium, h Handler, begin func(*Session)) error {
	t := &Transport{Log: c.Log, Setup: c.Setup}
	defer t.Close()
	cert, err := t.identity()
	if err != nil {
		return err
	}
	agent, err := c.agent()
	if err != nil {
		return err
	}
	defer agent.Close()
	setup, cancel := context.WithTimeout(ctx, or(c.Setup, 15*time.Second))
	defer cancel()
	o := &offer{media: media, fingerprint: fingerprintOf("sha-256", cert.Certificate[0])}
	if o.ufrag, o.password, err = agent.GetLocalUserCredentials(); err != nil {
		return err
	}
	if o.candidates, err = gather(setup, agent); err != nil {
		return err
	}
	answer, resource, err := c.post(setup, o.text())
	if err != nil {
		return err
	}
	defer c.delete(resource)
	peer, err := ParseOffer(answer) // an answer says the same things
	if err != nil {
		return err
	}
	for l := range strings.Lines(string(answer)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(l), "a=candidate:"); ok {
			if candidate, err := ice.UnmarshalCandidate(v); err == nil {
				_ = agent.AddRemoteCandidate(candidate) // the others may do
			}
		}
	}
	conn, err := agent.Dial(setup, peer.Ufrag, peer.Password)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %v", ErrNoPath, err)
	}
	s, run, err := t.join(conn, o, peer, h)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	ran := make(chan struct{})
	begin(s)
	go func() { defer close(ran); run() }()
	defer func() { <-ran }()
	defer t.Close()
	_ = agent.OnConnectionStateChange(func(state ice.ConnectionState) {
		if state == ice.ConnectionStateFailed || state == ice.ConnectionStateClosed {
			go s.end(ErrGone) // it waits for the agent
		}
	}) // fails only if the agent is closed, and so is conn
	select {
	case <-ctx.Done():
		s.end(ErrHungUp)
		return ctx.Err()
	case <-s.Done():
	}
	if err := s.Err(); err != ErrHungUp {
		return err
	}
	return nil
}

// agent returns a full ICE agent.
func (c *Client) agent() (*ice.Agent, error) {
	options := []ice.AgentOption{
		ice.WithNetworkTypes([]ice.NetworkType{ice.NetworkTypeUDP4, ice.NetworkTypeUDP6}), ice.WithIncludeLoopback(),
		ice.WithMulticastDNSMode(ice.MulticastDNSModeDisabled), ice.WithLoggerFactory(dtlsmux.Silence{}),
	}
	var urls []*stun.URI
	for _, s := range c.ICEServers {
		u, err := stun.ParseURI(s.URL)
		if err != nil {
			return nil, fmt.Errorf("webrtc: ICE server %q: %w", s.URL, err)
		}
		u.Username, u.Password = s.Username, s.Credential
		urls = append(urls, u)
	}
	if len(urls) > 0 {
		options = append(options, ice.WithUrls(urls))
	}
	if c.RelayOnly {
		options = append(options, ice.WithCandidateTypes([]ice.CandidateType{ice.CandidateTypeRelay}))
	}
	return ice.NewAgentWithOptions(options...)
}

// gather returns the agent's candidates.
func gather(ctx context.Context, agent *ice.Agent) (all []string, err error) {
	done := make(chan struct{})
	if err := agent.OnCandidate(func(c ice.Candidate) {
		if c == nil {
			close(done)
		}
	}); err != nil {
		return nil, err
	}
	if err := agent.GatherCandidates(); err != nil {
		return nil, err
	}
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	candidates, err := agent.GetLocalCandidates()
	for _, c := range candidates {
		all = append(all, c.Marshal())
	}
	return all, err
}

// maxReason bounds what is kept of a refusal.
const maxReason = 200

// post posts an offer and returns the answer and the session's URL.
func (c *Client) post(ctx context.Context, text []byte) (answer []byte, resource *url.URL, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Content-Type", "application/sdp")
	a, err := c.do(r)
	if err != nil {
		return nil, nil, err
	}
	defer a.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(a.Body, MaxSDP+1))
	if err != nil {
		return nil, nil, err
	}
	if a.StatusCode != http.StatusCreated {
		return nil, nil, &RefusedError{a.StatusCode, strings.TrimSpace(string(answer[:min(len(answer), maxReason)]))}
	}
	if resource, err = a.Location(); err != nil {
		resource = nil // it then ends by silence
	} else if at := a.Request.URL; resource.Scheme != at.Scheme || resource.Host != at.Host {
		resource = nil // the token is not for others
	}
	return answer, resource, nil
}

func (c *Client) do(r *http.Request) (*http.Response, error) {
	if c.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if c.HTTP != nil {
		return c.HTTP.Do(r)
	}
	return http.DefaultClient.Do(r)
}

// delete ends the session at the endpoint.
func (c *Client) delete(resource *url.URL) {
	if resource == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, resource.String(), nil)
	if err != nil {
		return
	}
	if a, err := c.do(r); err == nil { // else it ends by silence
		a.Body.Close()
	}
}

// join begins a session with the peer whom ICE has found. run serves it until
// the Transport is closed.
func (t *Transport) join(conn net.Conn, o *offer, peer *Offer, h Handler) (s *Session, run func(), err error) {
	s = &Session{
		transport: t, handler: h, done: make(chan struct{}), begun: time.Now(), active: peer.Setup == "passive", peer: peer.Fingerprint,
	}
	s.dtls.session = s
	for i := range peer.Media {
		if i >= len(o.media) {
			break
		}
		l := &line{media: &peer.Media[i], receive: !o.media[i].Send}
		s.lines = append(s.lines, l)
		if l.receive && !l.media.Send || !l.receive && !l.media.Recv {
			continue
		}
		for k := range l.media.Formats {
			if f := &l.media.Formats[k]; f.Codec() != 0 && f.Codec().Kind() == o.media[i].Kind && l.format == nil {
				l.format = f
				l.rtx = l.media.RTX(f)
			}
		}
		if l.format != nil && !l.receive {
			l.out = &s.outgoing.tracks[o.media[i].Kind-1]
			*l.out = newOutgoing(l, nil)
			l.out.ssrc, l.out.rtxSSRC = o.ssrc(i), o.ssrc(i)+1
		}
	}
	p := newPort(t)
	p.conn = wrapConn(conn)
	if err := p.loop.Add(p.conn, p); err != nil {
		return nil, nil, err
	}
	if err := t.open(p); err != nil {
		return nil, nil, err
	}
	if err := t.add(s, peer.Ufrag, peer.Password); err != nil {
		t.done.Done()
		return nil, nil, err
	}
	from := iceAddr
	p.paths[from] = s // nothing runs yet
	if s.receives() {
		p.publish[s] = struct{}{}
	}
	s.path.Store(&path{port: p, addr: from})
	return s, func() {
		defer t.done.Done()
		s.dtls.start(net.UDPAddrFromAddrPort(from))
		_ = p.loop.Run() // ends with Close
	}, nil
}

// iceAddr stands for the peer, wherever ICE finds it.
var iceAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 9)
