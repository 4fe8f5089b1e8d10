package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/runnel-media/runnel/auth/limit"
)

// A limitsEntry is a limit.Policy as -auth and the API have it.
type limitsEntry struct {
	Connections           int      `yaml:"connections" json:"connections"`
	ConnectionsPerAddress int      `yaml:"connections_per_address" json:"connections_per_address"`
	ConnRate              float64  `yaml:"connection_rate" json:"connection_rate"`
	ConnRatePerAddress    float64  `yaml:"connection_rate_per_address" json:"connection_rate_per_address"`
	FirstByte             span     `yaml:"first_byte" json:"first_byte"`
	Sessions              int      `yaml:"sessions" json:"sessions"`
	SessionsPerAddress    int      `yaml:"sessions_per_address" json:"sessions_per_address"`
	SessionsPerUser       int      `yaml:"sessions_per_user" json:"sessions_per_user"`
	SessionsPerStream     int      `yaml:"sessions_per_stream" json:"sessions_per_stream"`
	PublisherBitRate      int64    `yaml:"publisher_bit_rate" json:"publisher_bit_rate"`
	PlayerBitRate         int64    `yaml:"player_bit_rate" json:"player_bit_rate"`
	BitRate               int64    `yaml:"bit_rate" json:"bit_rate"`
	BitRatePerAddress     int64    `yaml:"bit_rate_per_address" json:"bit_rate_per_address"`
	BitRatePerUser        int64    `yaml:"bit_rate_per_user" json:"bit_rate_per_user"`
	BitRatePerStream      int64    `yaml:"bit_rate_per_stream" json:"bit_rate_per_stream"`
	Exempt                []string `yaml:"exempt" json:"exempt"`
	Reauthorize           span     `yaml:"reauthorize" json:"reauthorize"`
}

// A span is a time: "10s" in YAML, seconds in JSON.
type span time.Duration

func (s *span) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	if err != nil || d < 0 {
		return errors.New("a time is written as 10s")
	}
	*s = span(d)
	return nil
}

func (s span) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

func (s *span) UnmarshalJSON(b []byte) error {
	var seconds float64
	if err := json.Unmarshal(b, &seconds); err != nil || seconds < 0 || seconds > 1e9 {
		return errors.New("a time is a number of seconds")
	}
	*s = span(seconds * float64(time.Second))
	return nil
}

func (e *limitsEntry) policy() (*limit.Policy, error) {
	exempt, err := prefixes(e.Exempt)
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	return &limit.Policy{
		Conns: e.Connections, ConnsPerAddr: e.ConnectionsPerAddress, ConnRate: e.ConnRate, ConnRatePerAddr: e.ConnRatePerAddress,
		FirstByte: time.Duration(e.FirstByte), Sessions: e.Sessions, SessionsPerAddr: e.SessionsPerAddress, SessionsPerUser: e.SessionsPerUser,
		SessionsPerStream: e.SessionsPerStream, PublisherBitRate: e.PublisherBitRate, PlayerBitRate: e.PlayerBitRate, BitRate: e.BitRate,
		BitRatePerAddr: e.BitRatePerAddress, BitRatePerUser: e.BitRatePerUser, BitRatePerStream: e.BitRatePerStream,
		Exempt: exempt, Reauthorize: time.Duration(e.Reauthorize),
	}, nil
}

// limitsOf is the other way round.
func limitsOf(p *limit.Policy) limitsEntry {
	e := limitsEntry{
		Connections: p.Conns, ConnectionsPerAddress: p.ConnsPerAddr, ConnRate: p.ConnRate, ConnRatePerAddress: p.ConnRatePerAddr,
		FirstByte: span(p.FirstByte), Sessions: p.Sessions, SessionsPerAddress: p.SessionsPerAddr, SessionsPerUser: p.SessionsPerUser,
		SessionsPerStream: p.SessionsPerStream, PublisherBitRate: p.PublisherBitRate, PlayerBitRate: p.PlayerBitRate, BitRate: p.BitRate,
		BitRatePerAddress: p.BitRatePerAddr, BitRatePerUser: p.BitRatePerUser, BitRatePerStream: p.BitRatePerStream,
		Exempt: []string{}, Reauthorize: span(p.Reauthorize),
	}
	for _, x := range p.Exempt {
		e.Exempt = append(e.Exempt, x.String())
	}
	return e
}

// setLimits puts others in force, until the file changes.
func (o *authOptions) setLimits(e limitsEntry) error {
	p, err := e.policy()
	if err != nil {
		return err
	}
	o.setPolicy(*p)
	return nil
}

// setPolicy puts a policy in force. Proxies have no bounds by address.
func (o *authOptions) setPolicy(p limit.Policy) {
	for _, x := range o.proxies.Trusted {
		if !slices.Contains(p.Exempt, x) {
			p.Exempt = append(slices.Clip(p.Exempt), x)
		}
	}
	o.limits.SetPolicy(&p)
}

// prefixes reads networks, and addresses as networks of one.
func prefixes(list []string) (out []netip.Prefix, err error) {
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if a, err2 := netip.ParseAddr(s); err2 == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no network", s)
		}
		out = append(out, p)
	}
	return out, nil
}
