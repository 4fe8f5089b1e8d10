package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/runnel-media/runnel/auth/limit"
)

// A limitsEntry is a limit.Policy as -auth has it.
type limitsEntry struct {
	Connections           int      `yaml:"connections"`
	ConnectionsPerAddress int      `yaml:"connections_per_address"`
	ConnRate              float64  `yaml:"connection_rate"`
	ConnRatePerAddress    float64  `yaml:"connection_rate_per_address"`
	FirstByte             span     `yaml:"first_byte"`
	Sessions              int      `yaml:"sessions"`
	SessionsPerAddress    int      `yaml:"sessions_per_address"`
	SessionsPerUser       int      `yaml:"sessions_per_user"`
	SessionsPerStream     int      `yaml:"sessions_per_stream"`
	PublisherBitRate      int64    `yaml:"publisher_bit_rate"`
	PlayerBitRate         int64    `yaml:"player_bit_rate"`
	BitRate               int64    `yaml:"bit_rate"`
	BitRatePerAddress     int64    `yaml:"bit_rate_per_address"`
	BitRatePerUser        int64    `yaml:"bit_rate_per_user"`
	BitRatePerStream      int64    `yaml:"bit_rate_per_stream"`
	Exempt                []string `yaml:"exempt"`
	Reauthorize           span     `yaml:"reauthorize"`
}

// A span is a time, as "10s".
type span time.Duration

func (s *span) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	if err != nil || d < 0 {
		return errors.New("a time is written as 10s")
	}
	*s = span(d)
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
