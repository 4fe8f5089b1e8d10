package mediaapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/api/internal/rest"
	"github.com/runnel-media/runnel/auth/limit"
)

// A policy is a limit.Policy as callers read and write it. 0 is no bound.
type policy struct {
	Conns           int     `json:"connections"`
	ConnsPerAddr    int     `json:"connections_per_address"`
	ConnRate        float64 `json:"connection_rate"` // new ones a second
	ConnRatePerAddr float64 `json:"connection_rate_per_address"`
	FirstByte       float64 `json:"first_byte"` // seconds

	Sessions          int `json:"sessions"`
	SessionsPerAddr   int `json:"sessions_per_address"`
	SessionsPerUser   int `json:"sessions_per_user"`
	SessionsPerStream int `json:"sessions_per_stream"`

	PublisherBitRate int64 `json:"publisher_bit_rate"` // bits a second
	PlayerBitRate    int64 `json:"player_bit_rate"`
	BitRate          int64 `json:"bit_rate"`
	BitRatePerAddr   int64 `json:"bit_rate_per_address"`
	BitRatePerUser   int64 `json:"bit_rate_per_user"`
	BitRatePerStream int64 `json:"bit_rate_per_stream"`

	Exempt      []netip.Prefix `json:"exempt"`
	Reauthorize float64        `json:"reauthorize"` // seconds
}

func describePolicy(p *limit.Policy) policy {
	return policy{
		Conns: p.Conns, ConnsPerAddr: p.ConnsPerAddr, ConnRate: p.ConnRate, ConnRatePerAddr: p.ConnRatePerAddr,
		FirstByte: p.FirstByte.Seconds(), Sessions: p.Sessions, SessionsPerAddr: p.SessionsPerAddr,
		SessionsPerUser: p.SessionsPerUser, SessionsPerStream: p.SessionsPerStream,
		PublisherBitRate: p.PublisherBitRate, PlayerBitRate: p.PlayerBitRate, BitRate: p.BitRate, BitRatePerAddr: p.BitRatePerAddr,
		BitRatePerUser: p.BitRatePerUser, BitRatePerStream: p.BitRatePerStream,
		Exempt: append([]netip.Prefix{}, p.Exempt...), Reauthorize: p.Reauthorize.Seconds(),
	}
}

// maxSeconds bounds durations, so that they are ones.
const maxSeconds = 366 * 24 * 3600

func (p *policy) policy() (*limit.Policy, error) {
	for _, n := range []float64{
		float64(p.Conns), float64(p.ConnsPerAddr), p.ConnRate, p.ConnRatePerAddr, p.FirstByte, float64(p.Sessions),
		float64(p.SessionsPerAddr), float64(p.SessionsPerUser), float64(p.SessionsPerStream), float64(p.PublisherBitRate),
		float64(p.PlayerBitRate), float64(p.BitRate), float64(p.BitRatePerAddr), float64(p.BitRatePerUser),
		float64(p.BitRatePerStream), p.Reauthorize,
	} {
		if n < 0 {
			return nil, errors.New("limits are not negative; 0 is none")
		}
	}
	if p.FirstByte > maxSeconds || p.Reauthorize > maxSeconds {
		return nil, errors.New("a duration is at most a year")
	}
	for _, e := range p.Exempt {
		if !e.IsValid() {
			return nil, errors.New("exempt are prefixes such as 192.0.2.0/24")
		}
	}
	return &limit.Policy{
		Conns: p.Conns, ConnsPerAddr: p.ConnsPerAddr, ConnRate: p.ConnRate, ConnRatePerAddr: p.ConnRatePerAddr,
		FirstByte: seconds(p.FirstByte), Sessions: p.Sessions, SessionsPerAddr: p.SessionsPerAddr,
		SessionsPerUser: p.SessionsPerUser, SessionsPerStream: p.SessionsPerStream,
		PublisherBitRate: p.PublisherBitRate, PlayerBitRate: p.PlayerBitRate, BitRate: p.BitRate, BitRatePerAddr: p.BitRatePerAddr,
		BitRatePerUser: p.BitRatePerUser, BitRatePerStream: p.BitRatePerStream,
		Exempt: p.Exempt, Reauthorize: seconds(p.Reauthorize),
	}, nil
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// limiter returns what bounds peers, or refuses.
func (h *Handler) limiter(c *rest.Call) *limit.Limiter {
	if h.Limits == nil {
		c.Refuse(http.StatusNotFound, "nothing here bounds peers")
	}
	return h.Limits
}

func (h *Handler) getLimits(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	if l := h.limiter(c); l != nil {
		c.Answer(describePolicy(l.CurrentPolicy()))
	}
}

// usage is what there is of what the limits bound.
type usage struct {
	Conns     int                     `json:"connections"`
	Sessions  int                     `json:"sessions"`
	Addresses int                     `json:"addresses"`
	Users     int                     `json:"users"`
	Streams   int                     `json:"streams"`
	BitRate   float64                 `json:"bit_rate"` // 0 while no bit rate is bounded
	Refused   map[limit.Reason]uint64 `json:"refused"`
}

func (h *Handler) getUsage(c *rest.Call) {
	if _, ok := c.Query(); !ok {
		return
	}
	if l := h.limiter(c); l != nil {
		u := l.Usage()
		c.Answer(usage{u.Conns, u.Sessions, u.Addrs, u.Users, u.Streams, u.BitRate, u.Refused})
	}
}

func (h *Handler) putLimits(c *rest.Call) { h.editLimits(c, false) }

func (h *Handler) patchLimits(c *rest.Call) { h.editLimits(c, true) }

func (h *Handler) editLimits(c *rest.Call, patch bool) {
	if _, ok := c.Query(); !ok {
		return
	}
	l := h.limiter(c)
	if l == nil {
		return
	}
	var change json.RawMessage
	if !c.Read(&change) {
		return
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	now := describePolicy(l.CurrentPolicy())
	if !c.Unchanged(now) {
		return
	}
	text, err := []byte(change), error(nil)
	if patch {
		text, err = patched(now, text)
	}
	var body policy
	if err == nil {
		err = rest.Decode(bytes.NewReader(text), &body)
	}
	if err != nil {
		c.Refuse(http.StatusBadRequest, "body: "+err.Error())
		return
	}
	next, err := body.policy()
	if err != nil {
		c.Refuse(http.StatusUnprocessableEntity, err.Error())
		return
	}
	l.SetPolicy(next)
	c.More = []any{"to", string(change)}
	c.Answer(describePolicy(l.CurrentPolicy()))
}
